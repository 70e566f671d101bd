"""Two processes as `accelerate launch` starts them: the same training as one, and resumed to the bit after a kill."""

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import worker
from safetensors.torch import load_file
from worker import begin, fit, gradients

from forks import SECONDS
from zhichun.fit.run_folder import RunFolder
from zhichun.fit.train import train

# Those of the paper's methods that do not depend on how a step is cut, and all that reads whole lists.
METHODS = (
    "train.lists=Lists",
    "objective.ranking=RankNet",
    "model.lists=ListHead",
    'objective.second_view={"kind": "FGM", "at": "output"}',
    "objective.rdrop=RDrop",
    'objective.ema={"kind": "EMA", "decay": 0.5}',
)


@pytest.fixture(scope="module")
def recipe(tiny_recipe):
    settings = ["train.epochs=2", "model.dropout=0.0", "train.micro_batch_tokens=400"]
    return tiny_recipe.with_settings([*settings, *METHODS])


@pytest.fixture(scope="module")
def recipe_file(recipe, tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "recipe.json"
    path.write_text(json.dumps(recipe.with_settings(["train.checkpoint_minutes=0.0005"]).to_json()))
    return path


@pytest.fixture(scope="module")
def two_process_run(forks, recipe_file, tiny_dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("two") / "run"
    assert forks.in_two(*train_arguments(recipe_file, tiny_dataset, out)) == [0, 0]
    return RunFolder(out)


def train_arguments(recipe_file: Path, data: Path, out: Path) -> tuple[str | Path, ...]:
    return ("-m", "zhichun", "train", recipe_file, "--data", data, "--out", out)


def last_validation(run: RunFolder) -> dict[str, float]:
    return [record["validation"] for record in run.records() if "validation" in record][-1]


def test_both_processes_hold_the_same_weights_and_those_of_one(forks, recipe, tiny_dataset, tmp_path):
    recipe = recipe.with_settings(["train.epochs=3", "train.learning_rate=1e-4"])
    file = tmp_path / "recipes.json"
    file.write_text(json.dumps({"run": recipe.to_json()}))
    assert forks.in_two(worker.__file__, tiny_dataset, file, tmp_path) == [0, 0]
    first, second = (load_file(tmp_path / "run" / f"process-{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())
    objective, batches = begin(recipe, tiny_dataset)
    fit(recipe, objective, batches, tmp_path / "one")
    differences = {name: float((weight - first[name]).abs().max()) for name, weight in objective.state_dict().items()}
    # A softmax does not feel its keys' bias: that gradient is rounding alone, and Adam makes steps of it.
    assert max(found for name, found in differences.items() if not name.endswith("key.bias")) < 1e-6


def test_a_mean_of_each_process_s_mean_would_be_another_gradient(recipe, tiny_dataset):
    """The sample weights of the tests above are such that the right normaliser matters."""
    objective, batches = begin(recipe, tiny_dataset)
    right = gradients(objective, batches.micro_batches(0, 0, 1))
    shares = []
    for rank in (0, 1):
        parts = list(batches.micro_batches(0, rank, 2))
        own = sum(part["weight"].sum() for part in parts)
        shares.append(gradients(objective, iter([{**part, "normaliser": np.asarray(own)} for part in parts])))
    wrong = {name: (shares[0][name] + shares[1][name]) / 2 for name in right}
    assert max(float((wrong[name] - right[name]).abs().max()) for name in right) > 1e-3


def test_a_whole_training_on_two_processes_measures_as_on_one(recipe, tiny_dataset, two_process_run, tmp_path):
    single = train(recipe, tiny_dataset, tmp_path / "run")
    losses = [[record["loss"] for record in run.records() if "loss" in record] for run in (single, two_process_run)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)
    assert last_validation(two_process_run) == pytest.approx(last_validation(single), abs=1e-3)


def test_killed_on_two_processes_it_resumes_to_the_same_bits(
    forks, recipe_file, tiny_dataset, two_process_run, tmp_path
):
    run = RunFolder(tmp_path / "run")
    arguments = train_arguments(recipe_file, tiny_dataset, run.path)

    def some_steps() -> None:
        until = time.monotonic() + SECONDS
        while sum(1 for _ in run.records()) < 5 and time.monotonic() < until:
            time.sleep(0.002)

    assert forks.in_two(*arguments, wait=some_steps) == [-signal.SIGKILL] * 2
    assert not run.model.is_dir()
    assert forks.in_two(*arguments, "--resume") == [0, 0]
    written = [(folder.model / "model.safetensors").read_bytes() for folder in (run, two_process_run)]
    assert written[0] == written[1]
    assert list(run.records()) == list(two_process_run.records())
