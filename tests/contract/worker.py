"""Trains recipes in as many processes as started it: `worker.py DATA RECIPES OUT`, alone or under `accelerate launch`.

RECIPES is a JSON file of recipes by name. For each of them `OUT/<name>` gets the last checkpoint, `metrics.jsonl` and
the weights of every process. `begin` and `fit` serve the contract test in its own process too.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from zhichun.core.console import Bar
from zhichun.core.tasks import TASKS
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import open_pairs
from zhichun.fit.batches import JudgedBatches, Steps, dropout_seed
from zhichun.fit.loop import Loop
from zhichun.fit.recipe import Recipe
from zhichun.fit.run_folder import RunFolder
from zhichun.fit.train import build_model, judged_batches, make_featurizer
from zhichun.objective import FineTuning


@dataclass(frozen=True)
class Interrupted:
    """Batches that end with an error at one step, as a run that is stopped does."""

    batches: Steps
    at: int

    @property
    def steps_per_epoch(self) -> int:
        return self.batches.steps_per_epoch

    def size(self, step: int) -> int:
        return self.batches.size(step)

    def micro_batches(self, step: int, rank: int, processes: int) -> Iterator[Any]:
        if step == self.at:
            raise InterruptedError
        return self.batches.micro_batches(step, rank, processes)


@dataclass(frozen=True)
class InOneEpoch:
    """Batches of which so many steps are an epoch: no checkpoint is written between them."""

    batches: Steps
    steps_per_epoch: int

    def size(self, step: int) -> int:
        return self.batches.size(step)

    def micro_batches(self, step: int, rank: int, processes: int) -> Iterator[Any]:
        return self.batches.micro_batches(step, rank, processes)


def begin(recipe: Recipe, data: Path, steps: int = 1) -> tuple[FineTuning, JudgedBatches]:
    """Make the objective and an epoch of so many steps; the pairs' sample weights are far from equal."""
    dataset = Dataset.open(data)
    featurizer = make_featurizer(recipe.model, dataset)
    rows = dataset.split(recipe.train.validation_fold)[0]
    if recipe.train.lists is not None:  # the first four pairs of each query, for steps of several lists
        first = np.unique(dataset.list_row[rows], return_index=True)[1]
        rows = rows[np.unique(np.concatenate([first + place for place in range(4)]))]
    rows = rows[: steps * recipe.train.batch_size]
    pairs = open_pairs(dataset, featurizer, recipe.model.max_length)
    torch.manual_seed(recipe.train.seed)
    model = build_model(recipe.model, featurizer, TASKS[recipe.task])
    model.encoder.use_attention(recipe.train.attention)
    objective = FineTuning(model, recipe.objective)
    batches = judged_batches(recipe, dataset, pairs, rows, pack=model.encoder.packs)
    weights = np.random.default_rng(0).choice(np.float32([0.1, 1, 5]), len(rows))
    return objective, replace(batches, weights=weights)


def fit(recipe: Recipe, objective: FineTuning, batches: Steps, out: Path) -> RunFolder:
    """Run the loop; it has nothing to evaluate."""
    out.mkdir(parents=True, exist_ok=True)
    run = RunFolder(out)
    figures = {recipe.train.metric: 0.0}
    Loop(Accelerator(cpu=True), batches, lambda _: figures, recipe.train, run, Bar("", shown=False)).fit(objective)
    return run


def as_tensors(arrays: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def gradients(
    objective: FineTuning, micro_batches: Iterator[dict[str, Any]], rank: int = 0, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Add up the gradients of the first step's micro-batches, with the random numbers that the loop draws for them."""
    objective.zero_grad()
    for index, arrays in enumerate(micro_batches):
        torch.manual_seed(dropout_seed(seed, 0, index, rank))
        objective(as_tensors(arrays)).total.backward()
    return {name: weight.grad for name, weight in objective.named_parameters() if weight.requires_grad}


def main() -> None:
    data, recipes, out = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    rank = Accelerator(cpu=True).process_index
    for name, value in json.loads(recipes.read_text("utf-8")).items():
        recipe = Recipe.from_json(value)
        objective, batches = begin(recipe, data)
        run = fit(recipe, objective, batches, out / name)
        save_file(objective.state_dict(), run.path / f"process-{rank}.safetensors")


if __name__ == "__main__":
    main()
