"""The contract that every loss, method and part of the model is held to: one table, one test for each clause.

A new one is a line in `ROWS`. The gradient on several processes is in here too, for all rows in one start of them.
"""

import importlib
import json
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
import worker
from two_processes import run_in_two
from worker import begin, fit, gradients

import zhichun.losses
import zhichun.methods
from zhichun.recipe import Recipe
from zhichun.train.optim import make_optimizer
from zhichun.train.run_folder import RunFolder

ROWS = {
    "CrossEntropy": (),
    "CrossEntropy of two classes": ("task=substitute",),
    "SquaredError": ("task=gain", "objective.loss=SquaredError", "train.metric=loss"),
    "without trigrams": ("model.trigrams=null",),
    "without country": ("model.country=null",),
    "without brand": ("model.brand=null",),
    "without color": ("model.color=null",),
    "the encoder alone": ("model.trigrams=null", "model.country=null", "model.brand=null", "model.color=null"),
    "the usual random start": ("model.tiny.matching_layers=null",),
}
STILL = ("model.dropout=0.0", "train.clip=null")
CUT = "train.micro_batch_tokens=200"
MANY = "train.micro_batch_tokens=100000"


@pytest.fixture(params=ROWS)
def recipe(request: pytest.FixtureRequest, tiny_recipe: Recipe) -> Recipe:
    return tiny_recipe.with_settings(ROWS[request.param])


@dataclass(frozen=True)
class Interrupted:
    """Batches that end with an error at one step, as a run that is stopped does."""

    batches: worker.JudgedBatches
    at: int

    @property
    def steps_per_epoch(self) -> int:
        return self.batches.steps_per_epoch

    def size(self, step: int) -> int:
        return self.batches.size(step)

    def micro_batches(self, step: int, rank: int, processes: int) -> Iterator[worker.Any]:
        if step == self.at:
            raise InterruptedError
        return self.batches.micro_batches(step, rank, processes)


def losses_of(run: RunFolder) -> list[float]:
    return [record["loss"] for record in run.records() if "loss" in record]


def test_it_learns_a_batch_by_heart(recipe, tiny_dataset, tmp_path):
    recipe = recipe.with_settings(["train.epochs=20", "train.learning_rate=0.01"])
    losses = losses_of(fit(recipe, *begin(recipe, tiny_dataset), tmp_path))
    assert losses[-1] < 0.5 * losses[0]


def test_stopped_and_resumed_it_ends_with_the_same_bits(recipe, tiny_dataset, tmp_path):
    recipe = recipe.with_settings(["train.epochs=3", CUT])  # a checkpoint after each epoch of two steps
    whole, batches = begin(recipe, tiny_dataset, steps=2)
    expected = losses_of(fit(recipe, whole, batches, tmp_path / "whole"))
    for stop in (1, 3, 5):
        resumed = begin(recipe, tiny_dataset)[0]
        with pytest.raises(InterruptedError):
            fit(recipe, resumed, Interrupted(batches, stop), tmp_path / "stopped")
    resumed = begin(recipe, tiny_dataset)[0]
    assert losses_of(fit(recipe, resumed, batches, tmp_path / "stopped")) == expected
    weights = whole.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in resumed.state_dict().items())


def test_bf16_is_finite_and_near_fp32(recipe, tiny_dataset, tmp_path):
    runs = [
        losses_of(fit(made, *begin(made, tiny_dataset), tmp_path / precision))
        for precision in ("fp32", "bf16")
        for made in [recipe.with_settings(["train.epochs=3", f"train.precision={precision}"])]
    ]
    assert runs[0] != runs[1]
    assert runs[1] == pytest.approx(runs[0], rel=0.02)


def test_accumulated_micro_batches_equal_one_batch(recipe, tiny_dataset):
    recipe = recipe.with_settings(STILL)
    cut, whole = recipe.with_settings([CUT]), recipe.with_settings([MANY])
    objective, batches = begin(cut, tiny_dataset)
    parts = list(batches.micro_batches(0, 0, 1))
    assert len(parts) > 2
    accumulated = gradients(objective, iter(parts))
    objective, batches = begin(whole, tiny_dataset)
    assert largest_difference(accumulated, gradients(objective, batches.micro_batches(0, 0, 1))) < 1e-6


def test_every_parameter_gets_a_gradient(recipe, tiny_dataset):
    """Or DistributedDataParallel waits for it for ever."""
    objective, batches = begin(recipe, tiny_dataset)
    found = gradients(objective, batches.micro_batches(0, 0, 1))
    assert [name for name, gradient in found.items() if gradient is None] == []


def test_the_recipe_goes_through_json_unchanged(recipe):
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_the_gradient_on_two_processes_is_that_of_one(tiny_recipe, tiny_dataset, tmp_path):
    recipes = {name: tiny_recipe.with_settings([*settings, *STILL, CUT]) for name, settings in ROWS.items()}
    file = tmp_path / "recipes.json"
    file.write_text(json.dumps({name: recipe.to_json() for name, recipe in recipes.items()}))
    run_in_two(worker.__file__, tiny_dataset, file, tmp_path)
    assert (tmp_path / "CrossEntropy" / "process-1.safetensors").is_file()  # there were two
    differences = {}
    for name, recipe in recipes.items():
        objective, batches = begin(recipe, tiny_dataset)
        single = gradients(objective, batches.micro_batches(0, 0, 1))
        differences[name] = largest_difference(gradients_of(RunFolder(tmp_path / name), objective, recipe), single)
    assert {name: found for name, found in differences.items() if found > 1e-6} == {}


def gradients_of(run: RunFolder, objective: torch.nn.Module, recipe: Recipe) -> dict[str, torch.Tensor]:
    """Read the gradient of a run of one step off the optimiser: its first moment is (1 - beta1) times that."""
    optimizer = make_optimizer(objective, recipe.train)
    optimizer.load_state_dict(run.checkpoints.latest()[1])
    return {name: optimizer.state[weight]["exp_avg"] / (1 - 0.9) for name, weight in objective.named_parameters()}


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert max(float(gradient.abs().max()) for gradient in one.values()) > 1e-3
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def modules_with_cards() -> list[str]:
    packages = (zhichun.losses, zhichun.methods)
    return [
        f"{package.__name__}.{found.name}" for package in packages for found in pkgutil.iter_modules(package.__path__)
    ]


@pytest.mark.parametrize("module", [*modules_with_cards(), "zhichun.nn.matching_start"])
def test_the_card_is_complete(module):
    what, _, card = (importlib.import_module(module).__doc__ or "").partition("\n\n")
    assert what.strip().endswith(".")
    for field in ("Equation", "Reference", "Our number", "Cost", "Traps"):
        said = [line.removeprefix(field).strip() for line in card.splitlines() if line.startswith(field)]
        assert [len(text) > 3 for text in said] == [True], f"{module} does not say: {field}"


def test_the_cards_are_found():
    assert {"zhichun.losses.cross_entropy", "zhichun.losses.squared_error"} <= set(modules_with_cards())
