"""What a training step with the paper's methods costs beside a plain one, and beside the code that most write for them.

    python benchmarks/step_cost.py [--rounds 5]

The encoder has the shape of all-MiniLM-L6-v2 and random weights; a step is 32 pairs of 96 tokens in fp32, the
optimiser's step included. Each way of stepping is timed in turn with the plain one, and a figure is the median of the
rounds' ratios. On a CPU, what is timed is the work of one thread, to which other work on the machine adds little.

Legend: ``B`` pairs, ``C`` classes.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from machine import circumstances
from torch import Tensor
from torch.nn import functional
from transformers import BertConfig

from zhichun.core.files import write_json
from zhichun.fit.loop import make_optimizer
from zhichun.fit.train_settings import TrainSettings
from zhichun.model.encoder import new_encoder
from zhichun.model.relevance_model import ModelSettings, RelevanceModel, VocabularySizes
from zhichun.objective import FineTuning, FineTuningSettings
from zhichun.objective.losses import Poly1
from zhichun.objective.methods import AWP, EMA, FGM, FGSM, PGD, SMART, DropoutView, FreeLB, Mixup, RDrop
from zhichun.score.torch_engine import place_of
from zhichun.text.tokenizer import PairLayout

HERE = Path(__file__).parent
PAIRS, TOKENS, CLASSES = 32, 96, 4
SHAPE = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
SIZES = VocabularySizes(trigrams=20_000, brands=5_000, colors=2_000)
LAYOUT = PairLayout(prefix=(101,), middle=(102,), suffix=(102,), first_type=0, second_type=1)
DEVICE = place_of(None)

PLAIN = FineTuningSettings(loss=Poly1())
FULL = replace(PLAIN, second_view=FGM(), rdrop=RDrop(), mixup=Mixup(), ema=EMA())
WAYS = {
    "EMA": replace(PLAIN, ema=EMA()),
    "Mixup": replace(PLAIN, mixup=Mixup()),
    "DropoutView": replace(PLAIN, second_view=DropoutView()),
    "FGM": replace(PLAIN, second_view=FGM()),
    "FGM at the output": replace(PLAIN, second_view=FGM(at="output")),
    "FGSM": replace(PLAIN, second_view=FGSM()),
    "SMART": replace(PLAIN, second_view=SMART()),
    "AWP": replace(PLAIN, second_view=AWP()),
    "PGD of 3 steps": replace(PLAIN, second_view=PGD(steps=3)),
    "FreeLB of 3 steps": replace(PLAIN, second_view=FreeLB(steps=3)),
    "FGM + R-Drop": replace(PLAIN, second_view=FGM(), rdrop=RDrop()),
    "FGM + R-Drop + mixup + EMA": FULL,
}
CLASSIC = "the same, by the classic code"


def new_model() -> RelevanceModel:
    """Make the network with random weights."""
    torch.manual_seed(0)
    encoder = new_encoder(BertConfig(vocab_size=30_522, **SHAPE))
    return RelevanceModel(ModelSettings(), encoder, SIZES, CLASSES, LAYOUT).to(DEVICE).train()


def batch() -> dict[str, Tensor]:
    """Make a batch of random tokens, ids and trigrams."""
    torch.manual_seed(0)
    offsets = torch.arange(0, 20 * PAIRS + 1, 20)
    made = {
        "input_ids": torch.randint(1000, 30_000, (PAIRS, TOKENS)),
        "attention_mask": torch.ones(PAIRS, TOKENS, dtype=torch.int64),
        "token_type_ids": torch.zeros(PAIRS, TOKENS, dtype=torch.int64),
        "country": torch.randint(4, (PAIRS,)),
        "brand": torch.randint(SIZES.brands, (PAIRS,)),
        "color": torch.randint(SIZES.colors, (PAIRS,)),
        "target": torch.randint(CLASSES, (PAIRS,)),
        "weight": torch.ones(PAIRS),
        "normaliser": torch.tensor(float(PAIRS)),
    }
    for name in ("query_trigrams", "product_trigrams", "description_trigrams"):
        made |= {name: torch.randint(1, SIZES.trigrams, (20 * PAIRS,)), f"{name}_offsets": offsets}
    return {name: tensor.to(DEVICE) for name, tensor in made.items()}


def ours(settings: FineTuningSettings, given: dict[str, Tensor]) -> Callable[[], None]:
    """Give the step of our objective."""
    objective = FineTuning(new_model(), settings).to(DEVICE)
    optimizer = make_optimizer(objective, TrainSettings())

    def step() -> None:
        objective(given).total.backward()
        optimizer.step()
        optimizer.zero_grad()
        objective.after_step()

    return step


def classic(given: dict[str, Tensor]) -> Callable[[], None]:
    """Give the usual step: backward, attack in place, forward, backward, restore; a dictionary of shadow weights."""
    model, loss = new_model(), Poly1()
    optimizer = make_optimizer(model, TrainSettings())
    table = model.encoder.table
    shadow = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    target = given["target"]

    def step() -> None:
        features_BF = model.features(given)
        clean_BC = model.head(features_BF)
        share, partner_B = torch.distributions.Beta(0.2, 0.2).sample().item(), torch.randperm(PAIRS, device=DEVICE)
        mixed_BC = model.head(share * features_BF + (1 - share) * features_BF[partner_B])
        mixed = share * loss(mixed_BC, target).mean() + (1 - share) * loss(mixed_BC, target[partner_B]).mean()
        ((loss(clean_BC, target).mean() + mixed) / 2).backward(retain_graph=True)
        backup = table.data.clone()
        table.data.add_(table.grad / table.grad.norm())
        second_BC = model(given)
        log_p_BC, log_q_BC = clean_BC.log_softmax(1), second_BC.log_softmax(1)
        one = functional.kl_div(log_p_BC, log_q_BC, log_target=True, reduction="batchmean")
        other = functional.kl_div(log_q_BC, log_p_BC, log_target=True, reduction="batchmean")
        (loss(second_BC, target).mean() + 0.5 * (one + other)).backward()
        table.data.copy_(backup)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                shadow[name] = 0.999 * shadow[name] + 0.001 * weight

    return step


def seconds(step: Callable[[], None]) -> float:
    """Time one step: on a GPU by the clock, otherwise in CPU seconds."""
    clock = time.perf_counter if DEVICE.type == "cuda" else time.process_time
    before = clock()
    step()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return clock() - before


def timed(step: Callable[[], None], plain: Callable[[], None], rounds: int) -> dict[str, object]:
    """Time a way of stepping in turn with the plain one."""
    step()  # the first makes the optimiser's moments
    times = [(seconds(plain), seconds(step)) for _ in range(rounds)]
    return {
        "seconds": [round(own, 4) for _, own in times],
        "plain_seconds": [round(other, 4) for other, _ in times],
        "times_plain": round(statistics.median(own / other for other, own in times), 3),
    }


def main() -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each way is timed")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    given = batch()
    plain = ours(PLAIN, given)
    plain()
    ways = {}
    for name in (*WAYS, CLASSIC):  # one at a time, or memory would not do
        ways[name] = timed(classic(given) if name == CLASSIC else ours(WAYS[name], given), plain, rounds)
        sys.stdout.write(f"{name}: {ways[name]['times_plain']:.2f}\n")
        sys.stdout.flush()
    result = {
        "what": "the cost of a training step with each method, beside a plain one",
        "command": f"python benchmarks/step_cost.py --rounds {rounds}",
        **circumstances("zhichun", "torch", "transformers"),
        "encoder": {"architecture": "bert", **SHAPE},
        "batch": {"pairs": PAIRS, "tokens": TOKENS, "precision": "fp32"},
        "ways": ways,
    }
    write_json(HERE / "results" / "step_cost.json", result)


if __name__ == "__main__":
    main()
