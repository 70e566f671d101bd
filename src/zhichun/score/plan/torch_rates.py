"""The speed of a shape's layers by torch: scoring, and steps of plain fine-tuning; on a GPU where there is one."""

import time
from typing import Final

import torch

from zhichun.fit.optim import make_optimizer
from zhichun.fit.train_settings import TrainSettings
from zhichun.model.encoder import new_encoder
from zhichun.model.encoder_shapes import plain_config
from zhichun.model.precision import has_bf16
from zhichun.model.relevance_model import ModelSettings, RelevanceModel, VocabularySizes
from zhichun.objective import FineTuning, FineTuningSettings
from zhichun.score.engines.engine import RUN_ENGINES
from zhichun.score.engines.torch_engine import TorchEngine, place_of, to_tensors
from zhichun.score.plan.memory import MICRO_BATCH_TOKENS
from zhichun.score.plan.rate import MOST_PAIRS, Rate, made_up_batch, measure
from zhichun.score.plan.shapes import OUTPUTS, PIECES, Shape
from zhichun.text.pair_layout import PairLayout

PAIRS_PER_STEP: Final = TrainSettings().batch_size


def engines() -> list[str]:
    """Name the engines of runs: fp32, and bf16 where there are units for it."""
    return list(RUN_ENGINES[: 1 + has_bf16(place_of(None))])


def scoring_rate(shape: Shape, engine: str, tokens: int, seconds: float) -> Rate:
    """Time one of torch's engines on a shape's measured layers."""
    network = TorchEngine.of(_model(shape, tokens).eval(), in_bf16=engine == RUN_ENGINES[1])
    return measure(network, tokens, seconds, _pairs(tokens, network.tokens_per_batch))


def training_rate(shape: Shape, tokens: int, seconds: float) -> Rate:
    """Time steps of plain fine-tuning on a shape's measured layers, in bf16 where there are units for it.

    The optimiser's part of a step is shared out to the pairs of a usual step, which are more than are computed at once.
    """
    place, pairs = place_of(None), _pairs(tokens, MICRO_BATCH_TOKENS)
    objective = FineTuning(_model(shape, tokens).train(), FineTuningSettings()).to(place)
    optimizer = make_optimizer(objective, TrainSettings())
    batch = to_tensors(made_up_batch(pairs, tokens), place)
    batch["target"] = torch.zeros(pairs, dtype=torch.int64, device=place)
    batch["weight"] = torch.ones(pairs, device=place)
    batch["normaliser"] = torch.tensor(float(pairs), device=place)

    def now() -> float:
        if place.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def step() -> float:
        began = now()
        with torch.autocast(place.type, torch.bfloat16, enabled=has_bf16(place)):
            total = objective(batch).total
        total.backward()
        computed = now()
        optimizer.step()
        optimizer.zero_grad()
        return computed - began + (now() - computed) * pairs / PAIRS_PER_STEP

    step()  # the first makes the optimiser's moments
    taken = [step()]
    while sum(taken) < seconds:
        taken.append(step())
    return Rate(pairs * len(taken), sum(taken))


def _pairs(tokens: int, budget: int) -> int:
    """Pairs that are computed at once: few on a processor, on a GPU what the budget of tokens holds."""
    return MOST_PAIRS if place_of(None).type == "cpu" else max(1, budget // tokens)


def _model(shape: Shape, tokens: int) -> RelevanceModel:
    config = plain_config(
        pieces=PIECES,
        layers=shape.measured_layers,
        hidden=shape.hidden,
        heads=shape.heads,
        intermediate=shape.intermediate,
        max_length=tokens,
    )
    alone = ModelSettings(trigrams=None, country=None, brand=None, color=None)
    layout = PairLayout(prefix=(0,), middle=(2, 2), suffix=(2,), first_type=0, second_type=0)
    return RelevanceModel(alone, new_encoder(config), VocabularySizes(), OUTPUTS, layout).to(place_of(None))
