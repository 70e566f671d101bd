"""The contract that every loss, method and part of the model is held to: one table, one test for each clause.

A new one is a line in `ROWS`. The gradient on several processes is in here too, for all rows in one start of them.
"""

import importlib
import json
import pkgutil
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import worker
from worker import InOneEpoch, Interrupted, begin, fit, gradients

import zhichun.objective.losses
import zhichun.objective.methods
import zhichun.objective.pretext
import zhichun.objective.ranking
from forks import Forks
from zhichun.core import settings as codec
from zhichun.fit.loop import make_optimizer
from zhichun.fit.recipe import Recipe
from zhichun.fit.recipes import kdd2022
from zhichun.fit.run_folder import RunFolder
from zhichun.objective.losses import GHMC

ROOT = Path(__file__).parents[2]
LOSSES = (
    "CrossEntropy",
    "Focal",
    "Poly1",
    "Ordinal",
    "SquaredError",
    "RankNet",
    "LambdaLoss",
    "ListNet",
    "Pairwise",
    "MarginMSE",
)
FGM_AT_OUTPUT = 'objective.second_view={"kind": "FGM", "at": "output"}'
SPLIT = 'model.interaction={"kind": "Split", "product_layers": 1, "query_tokens": 12%s}'
TWO_VIEWS = (FGM_AT_OUTPUT, "objective.rdrop=RDrop")
LISTS = "train.lists=Lists"
REGRESSOR = ("task=gain", "objective.loss=SquaredError", "train.metric=loss")
ROWS = {
    "CrossEntropy": (),
    "CrossEntropy of two classes": ("task=substitute",),
    "CrossEntropy, smoothed and weighted": (
        'objective.loss={"kind": "CrossEntropy", "label_smoothing": 0.1, "class_weights": [0.5, 1, 2, 1]}',
    ),
    "Focal": ("objective.loss=Focal",),
    "Poly1": ("objective.loss=Poly1",),
    "Poly1 of two classes": ("objective.loss=Poly1", "task=substitute"),
    "Ordinal": ("objective.loss=Ordinal",),
    "SquaredError": REGRESSOR,
    "lists": (LISTS,),
    "RankNet": (LISTS, "objective.ranking=RankNet"),
    "RankNet of two classes": (LISTS, "objective.ranking=RankNet", "task=substitute"),
    "LambdaLoss": (LISTS, "objective.ranking=LambdaLoss"),
    "LambdaLoss of a regressor, packed": (
        LISTS,
        'objective.ranking={"kind": "LambdaLoss", "mu": null, "weight": 2}',
        "train.attention=packed",
        *REGRESSOR,
    ),
    "ListNet": (LISTS, "objective.ranking=ListNet"),
    "PairwiseLogSumExp": (LISTS, "objective.ranking=PairwiseLogSumExp"),
    "MarginMSE": (LISTS, "objective.ranking=MarginMSE", *REGRESSOR),
    "list head": (LISTS, "model.lists=ListHead"),
    "list head, packed, with FGM": (
        LISTS,
        'model.lists={"kind": "ListHead", "size": 8, "heads": 2}',
        "train.attention=packed",
        FGM_AT_OUTPUT,
    ),
    "R-Drop with a ranking loss and several samples": (
        *TWO_VIEWS,
        LISTS,
        "objective.ranking=RankNet",
        "model.dropout_samples=2",
    ),
    "without trigrams": ("model.trigrams=null",),
    "without country": ("model.country=null",),
    "without brand": ("model.brand=null",),
    "without color": ("model.color=null",),
    "the encoder alone": ("model.trigrams=null", "model.country=null", "model.brand=null", "model.color=null"),
    "the usual random start": ("model.tiny.matching_layers=null",),
    "pooling by fields": ("model.pooling=fields",),
    "multi-sample dropout": ("model.dropout_samples=3",),
    "rates by layer": ("train.layer_decay=0.8",),
    "activations computed again": ("train.activation_checkpointing=layers",),
    "Split": (SPLIT % "",),
    "Split, with lists and a list head": (SPLIT % "", LISTS, "objective.ranking=RankNet", "model.lists=ListHead"),
    "Split with both sides updated, smaller states and FGM": (
        SPLIT % ', "updates": "both", "state": 16',
        FGM_AT_OUTPUT,
    ),
    "Split, packed, activations computed again, smaller states": (
        SPLIT % ', "state": 16',
        "train.attention=packed",
        "train.activation_checkpointing=layers",
    ),
    "packed": ("train.attention=packed", FGM_AT_OUTPUT),
    "packed, activations computed again": ("train.attention=packed", "train.activation_checkpointing=layers"),
    "FGM at the output": (FGM_AT_OUTPUT,),
    "FGSM at the output": ('objective.second_view={"kind": "FGSM", "at": "output"}',),
    "PGD at the output": ('objective.second_view={"kind": "PGD", "at": "output", "steps": 2}',),
    "FreeLB from zero": ('objective.second_view={"kind": "FreeLB", "start": null, "steps": 2}',),
    "R-Drop": TWO_VIEWS,
    "R-Drop of two classes, the mean of all": (*TWO_VIEWS, "objective.total=mean", "task=substitute"),
    "R-Drop of a regressor": (*TWO_VIEWS, *REGRESSOR),
    "EMA": ("objective.ema=EMA",),
}
# What these add depends, as their cards say, on the pairs that are computed at once, or on numbers drawn for them.
OF_A_MICRO_BATCH = {
    "GHMC": ("objective.loss=GHMC",),
    "FGM": ("objective.second_view=FGM",),
    "FGSM": ("objective.second_view=FGSM",),
    "PGD": ('objective.second_view={"kind": "PGD", "steps": 2}',),
    "FreeLB": ('objective.second_view={"kind": "FreeLB", "steps": 2}',),
    "SMART": ("objective.second_view=SMART",),
    "AWP": ("objective.second_view=AWP",),
    "AWP from the second step": ('objective.second_view={"kind": "AWP", "first_step": 2}',),
    "DropoutView": ("objective.second_view=DropoutView",),
    "R-Drop of the sum": (*TWO_VIEWS, 'objective.rdrop={"kind": "RDrop", "alpha": 0.02, "reduction": "sum"}'),
    "Mixup": ("objective.mixup=Mixup",),
    "Mixup of all features": ('objective.mixup={"kind": "Mixup", "mixed": "features"}',),
    "as written": (f"objective={json.dumps(codec.encode(kdd2022.task2().objective))}",),
    "as written, with more of the model": (
        f"objective={json.dumps(codec.encode(kdd2022.task2().objective))}",
        "model.dropout_samples=2",
        "model.pooling=fields",
    ),
    "Split, as written": (
        SPLIT % "",
        f"objective={json.dumps(codec.encode(kdd2022.task2().objective))}",
        "model.dropout_samples=2",
    ),
    "as written, with lists": (
        f"objective={json.dumps(codec.encode(kdd2022.task2().objective))}",
        LISTS,
        "objective.ranking=LambdaLoss",
        "model.lists=ListHead",
    ),
    "as released": (f"objective={json.dumps(codec.encode(kdd2022.task2_as_released().objective))}",),
}
ROWS |= OF_A_MICRO_BATCH
# What a row cannot break is not tried on it: a part that is only off has nothing that bf16 or learning could trip over,
# and neither has it, nor a loss, anything to resume.
ONLY_OFF = ("without trigrams", "without country", "without brand", "without color", "the usual random start")
WITHOUT_STATE = (*ONLY_OFF, "the encoder alone", "GHMC", *(row for row in ROWS if row.startswith(LOSSES)))
# These differ from another row in nothing that a checkpoint holds, or that rounding could trip over.
VARIANTS = (
    "pooling by fields",
    "activations computed again",
    "packed, activations computed again",
    "Split, packed, activations computed again, smaller states",
    "FGM at the output",
    "FGSM at the output",
    "PGD at the output",
    "R-Drop of two classes, the mean of all",
    "R-Drop of a regressor",
    "R-Drop of the sum",
    "Mixup of all features",
)
WHOLE = [row for row in ROWS if row not in ONLY_OFF]
RESUMED = ["CrossEntropy", *(row for row in ROWS if row not in (*WITHOUT_STATE, *VARIANTS))]
# Stopped before the first checkpoint and resumed of a resumed run too; the loop does that, whatever the row.
STOPPED_OFTEN = ("CrossEntropy", "EMA", "as written, with lists")
STILL = ("model.dropout=0.0", "train.clip=null")
CUT = "train.micro_batch_tokens=200"
MANY = "train.micro_batch_tokens=100000"


@pytest.fixture(params=ROWS)
def recipe(request: pytest.FixtureRequest, tiny_recipe: Recipe) -> Recipe:
    return tiny_recipe.with_settings(ROWS[request.param])


def losses_of(run: RunFolder) -> list[float]:
    return [record["loss"] for record in run.records() if "loss" in record]


@pytest.mark.parametrize("recipe", WHOLE, indirect=True)
def test_it_learns_a_batch_by_heart(recipe, tiny_dataset, tmp_path, monkeypatch):
    """Within twenty steps, of which no more are made than it takes to halve the loss."""
    losses: list[float] = []

    def log(run: RunFolder, record: dict[str, Any]) -> None:
        losses.extend([record["loss"]] if "loss" in record else [])
        if losses[-1] < 0.5 * losses[0]:
            raise InterruptedError

    monkeypatch.setattr(RunFolder, "log", log)
    recipe = recipe.with_settings(["train.learning_rate=0.01"])
    objective, batches = begin(recipe, tiny_dataset)
    with pytest.raises(InterruptedError):
        fit(recipe, objective, InOneEpoch(batches, 20), tmp_path)


@pytest.mark.parametrize("row", RESUMED)
def test_stopped_and_resumed_it_ends_with_the_same_bits(row, tiny_recipe, tiny_dataset, tmp_path):
    # A checkpoint after each epoch of two steps; each step is two micro-batches or more.
    stops = (1, 3, 5) if row in STOPPED_OFTEN else (3,)
    more = (f"train.epochs={stops[-1] // 2 + 1}", "train.micro_batch_tokens=500")
    recipe = tiny_recipe.with_settings([*ROWS[row], *more])
    whole, batches = begin(recipe, tiny_dataset, steps=2)
    assert len(list(batches.micro_batches(0, 0, 1))) > 1
    expected = losses_of(fit(recipe, whole, batches, tmp_path / "whole"))
    for stop in stops:
        resumed = begin(recipe, tiny_dataset)[0]
        with pytest.raises(InterruptedError):
            fit(recipe, resumed, Interrupted(batches, stop), tmp_path / "stopped")
    resumed = begin(recipe, tiny_dataset)[0]
    assert losses_of(fit(recipe, resumed, batches, tmp_path / "stopped")) == expected
    weights = whole.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in resumed.state_dict().items())


@pytest.mark.parametrize("recipe", [row for row in WHOLE if row not in VARIANTS], indirect=True)
def test_bf16_is_finite_and_near_fp32(recipe, tiny_dataset, tmp_path):
    runs = []
    for precision in ("fp32", "bf16"):
        made = recipe.with_settings([f"train.precision={precision}"])
        objective, batches = begin(made, tiny_dataset)
        runs.append(losses_of(fit(made, objective, InOneEpoch(batches, 3), tmp_path / precision)))
    assert runs[0] != runs[1]
    # GHM-C weighs by counts: a pair that rounding moves to the next bin changes the weights of both bins.
    assert runs[1] == pytest.approx(runs[0], rel=0.06 if isinstance(recipe.objective.loss, GHMC) else 0.02)


@pytest.mark.parametrize("row", [row for row in ROWS if row not in OF_A_MICRO_BATCH])
def test_accumulated_micro_batches_equal_one_batch(row, tiny_recipe, tiny_dataset):
    recipe = tiny_recipe.with_settings([*ROWS[row], *STILL])
    cut, whole = recipe.with_settings([CUT]), recipe.with_settings([MANY])
    objective, batches = begin(cut, tiny_dataset)
    parts = list(batches.micro_batches(0, 0, 1))
    assert len(parts) > 2
    accumulated = gradients(objective, iter(parts))
    objective, batches = begin(whole, tiny_dataset)
    assert largest_difference(accumulated, gradients(objective, batches.micro_batches(0, 0, 1))) < 1e-6


@torch.no_grad()
def test_a_step_is_the_mean_by_weight_over_all_its_pairs(tiny_recipe, tiny_dataset):
    """By weight, not by count; weights of zero leave the loss zero."""
    objective, batches = begin(tiny_recipe.with_settings([*STILL, CUT]), tiny_dataset)
    parts = [worker.as_tensors(arrays) for arrays in batches.micro_batches(0, 0, 1)]
    loss_P = torch.cat([objective.loss(objective.model(part), part["target"]) for part in parts])
    weight_P = torch.cat([part["weight"] for part in parts])
    total = sum(objective(part).total for part in parts)
    assert total.item() == pytest.approx(float((weight_P * loss_P).sum() / weight_P.sum()), rel=1e-5)
    assert abs(total.item() - loss_P.mean().item()) > 1e-3
    unweighted = replace(batches, weights=np.zeros_like(batches.weights))
    assert sum(objective(worker.as_tensors(part)).total.item() for part in unweighted.micro_batches(0, 0, 1)) == 0


def test_every_parameter_gets_a_gradient(recipe, tiny_dataset):
    """Or DistributedDataParallel waits for it for ever."""
    objective, batches = begin(recipe, tiny_dataset)
    found = gradients(objective, batches.micro_batches(0, 0, 1))
    assert [name for name, gradient in found.items() if gradient is None] == []


def test_the_recipe_goes_through_json_unchanged(recipe):
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def in_two_processes(
    forks: Forks, recipes: dict[str, Recipe], data: Path, out: Path
) -> dict[str, dict[str, torch.Tensor]]:
    """Take one step of each recipe on two processes; gives the gradients."""
    file = out / "recipes.json"
    file.write_text(json.dumps({name: recipe.to_json() for name, recipe in recipes.items()}))
    assert forks.in_two(worker.__file__, data, file, out) == [0, 0]
    assert all((out / name / "process-1.safetensors").is_file() for name in recipes)  # there were two
    return {
        name: gradients_of(RunFolder(out / name), begin(recipe, data)[0], recipe) for name, recipe in recipes.items()
    }


def test_the_gradient_on_two_processes_is_that_of_one(forks, tiny_recipe, tiny_dataset, tmp_path):
    kept = {name: settings for name, settings in ROWS.items() if name not in OF_A_MICRO_BATCH}
    recipes = {name: tiny_recipe.with_settings([*settings, *STILL, CUT]) for name, settings in kept.items()}
    differences = {}
    for name, found in in_two_processes(forks, recipes, tiny_dataset, tmp_path).items():
        objective, batches = begin(recipes[name], tiny_dataset)
        differences[name] = largest_difference(found, gradients(objective, batches.micro_batches(0, 0, 1)))
    assert {name: found for name, found in differences.items() if found > 1e-6} == {}


def test_the_gradient_on_two_processes_is_the_mean_of_the_single_ones(forks, tiny_recipe, tiny_dataset, tmp_path):
    """With dropout, and with what is drawn or taken over the pairs of each micro-batch."""
    settings = {name: [*ROWS[name], "train.clip=null", CUT] for name in ("CrossEntropy", *OF_A_MICRO_BATCH)}
    recipes = {name: tiny_recipe.with_settings(assigned) for name, assigned in settings.items()}
    differences = {}
    for name, found in in_two_processes(forks, recipes, tiny_dataset, tmp_path).items():
        objective, batches = begin(recipes[name], tiny_dataset)
        one, two = (gradients(objective, batches.micro_batches(0, rank, 2), rank) for rank in (0, 1))
        differences[name] = largest_difference(found, {name: (one[name] + two[name]) / 2 for name in one})
    assert {name: found for name, found in differences.items() if found > 1e-6} == {}


def gradients_of(run: RunFolder, objective: torch.nn.Module, recipe: Recipe) -> dict[str, torch.Tensor]:
    """Read the gradient of a run of one step off the optimiser: its first moment is (1 - beta1) times that."""
    optimizer = make_optimizer(objective, recipe.train)
    optimizer.load_state_dict(run.checkpoints.latest()[1])
    trained = {name: weight for name, weight in objective.named_parameters() if weight.requires_grad}
    return {name: optimizer.state[weight]["exp_avg"] / (1 - 0.9) for name, weight in trained.items()}


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert max(float(gradient.abs().max()) for gradient in one.values()) > 1e-3
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def modules_with_cards() -> list[str]:
    objective = zhichun.objective
    packages = (objective.losses, objective.methods, objective.pretext, objective.ranking)
    found = [f"{package.__name__}.{of.name}" for package in packages for of in pkgutil.iter_modules(package.__path__)]
    return [module for module in found if module != "zhichun.objective.pretext.task"]  # what a task is, and none itself


IN_THE_MODEL = [
    f"zhichun.model.{name}" for name in ("absorbed", "encoder_settings", "interaction", "layers", "relevance_model")
]


@pytest.mark.parametrize("module", [*modules_with_cards(), *IN_THE_MODEL])
def test_the_card_is_complete(module):
    what, _, card = (importlib.import_module(module).__doc__ or "").partition("\n\n")
    assert what.strip().endswith(".")
    for field in ("Equation", "Reference", "Our number", "Cost", "Traps"):
        said = [line.removeprefix(field).strip() for line in card.splitlines() if line.startswith(field)]
        assert [len(text) > 3 for text in said] == [True], f"{module} does not say: {field}"
    number = " ".join(card.partition("Our number")[2].partition("\nCost")[0].split())
    files = re.findall(r"`(benchmarks/[^`]+)`", number)
    assert "none yet" not in number
    assert files or "no gain measured" in number or "LOG.md" in number, number
    assert all((ROOT / file).is_file() for file in files), number


def test_the_cards_are_found():
    assert {"zhichun.objective.losses.cross_entropy", "zhichun.objective.losses.squared_error"} <= set(
        modules_with_cards()
    )
