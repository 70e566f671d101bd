"""What a table is going to run: every recipe built and checked before anything starts."""

import importlib
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from zhichun.ablate.ablation import Ablation, Row, check_settings
from zhichun.ablate.identity import manifest_hash
from zhichun.ablate.row_settings import in_row, overruled, require_effect, row_recipe
from zhichun.ablate.run import Run
from zhichun.ablate.stages import Pretrained, Reduced, Stage
from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.tasks import TASKS
from zhichun.data.dataset.dataset import Dataset
from zhichun.fit.recipe import PretrainingRecipe, Recipe
from zhichun.fit.train import build_model, make_featurizer, split, trigram_vectors
from zhichun.model.encoder_settings import EncoderSettings
from zhichun.objective import FineTuning


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a table is made of.

    Parameters
    ----------
    ablation
        The table.
    base
        The recipe that the rows change.
    pretraining
        The recipe that the pre-training of rows changes.
    data, out
        The dataset folder, and the folder for the runs.
    settings, pretraining_settings
        ``KEY=VALUE`` for the training, and for the pre-training, of all rows; see `row_recipe`.
    seeds
        Runs of each row; their seeds count from 0.

    Raises
    ------
    UserError
        For a setting that does not exist, does not fit or changes nothing, and for rows that are the same.
    """

    ablation: Ablation
    base: Recipe
    data: Path
    out: Path
    pretraining: PretrainingRecipe | None = None
    settings: tuple[str, ...] = ()
    pretraining_settings: tuple[str, ...] = ()
    seeds: int = 3

    def __post_init__(self) -> None:
        check_settings(self.settings, "--set")
        check_settings(self.pretraining_settings, "--set-pretraining")
        if self.seeds < 1:
            raise UserError(f"{self.seeds} seeds are no run at all.", remedy="Three are the least that says something.")
        require_effect(self.ablation, self.settings)
        if self.pretraining_settings and all(row.pretraining is None for row in self.ablation.rows):
            raise UserError("--set-pretraining has no effect: no row is pre-trained.", remedy="Leave it out.")
        first = {row.name: self.run(row, 0) for row in self.ablation.rows}
        for one, other in combinations(first.values(), 2):
            if (one.recipe, one.data) == (other.recipe, other.data):
                problem = f"the rows {one.row.name!r} and {other.row.name!r} are the same"
                raise UserError(f"{problem} on top of this recipe.", remedy="Choose a recipe that tells them apart.")

    @property
    def runs(self) -> list[Run]:
        """All runs, seed by seed, so that every row has a figure soon."""
        return [self.run(row, seed) for seed in range(self.seeds) for row in self.ablation.rows]

    @property
    def overruled(self) -> list[tuple[str, list[str]]]:
        """What is set for all rows and some have of their own, with these rows."""
        return overruled(self.ablation, self.settings)

    def of_row(self, row: Row) -> list[Run]:
        """List the runs of a row, by seed."""
        return [self.run(row, seed) for seed in range(self.seeds)]

    def run(self, row: Row, seed: int) -> Run:
        """Lay out one run."""
        recipe = row_recipe(self.ablation, row, self.base, self.settings).with_settings([f"train.seed={seed}"])
        data, stages = self.data, list[Stage]()
        if row.dropping is not None:
            reduced = self._reduced(row)
            data = reduced.dataset
            stages.append(reduced)
        if row.pretraining is not None:
            start = Pretrained.under(self.out, self._pretraining(row, recipe, seed), self.data)
            own = ["model.tiny=TinyEncoder", f"model.encoder={start.folder}"]
            recipe = recipe.with_settings(own)
            stages.append(start)
        return Run(row, seed, recipe, data, self.out / row.folder / f"seed-{seed}", tuple(stages))

    def _pretraining(self, row: Row, recipe: Recipe, seed: int) -> PretrainingRecipe:
        """Build the recipe of a row's pre-training: of the encoder that the row has, reading what the row reads."""
        if self.pretraining is None:
            raise UserError(f"row {row.name!r} is pre-trained.", remedy="Name a recipe with --pretraining.")
        of, own = recipe.model, (*self.pretraining_settings, *(row.pretraining or ()), f"train.seed={seed}")
        model = EncoderSettings(encoder=of.encoder, tiny=of.tiny, max_length=of.max_length, fields=of.fields)
        try:
            pretraining = replace(self.pretraining, model=model).with_settings(own)
            _check_tables(pretraining, recipe)
        except UserError as error:
            raise in_row(row, error) from error
        return pretraining

    def _reduced(self, row: Row) -> Reduced:
        """Lay out the audit of a row; its models have one seed in all runs, for their list is data."""
        assert row.dropping is not None
        asked = replace(row, settings=row.dropping.settings, dropping=None)
        recipe = row_recipe(self.ablation, asked, self.base, self.settings).with_settings(["train.seed=0"])
        return Reduced.under(self.out, recipe, self.data, row.dropping.share)

    def check(self) -> dict[str, Any]:
        """Refuse what would fail after hours: data, vocabularies, vectors and runs that do not fit.

        Returns
        -------
        dict
            The dataset for the record: its folder, the hash of its manifest, and the pairs that rows are tested on.

        Raises
        ------
        UserError
            With the row that cannot be run.
        """
        if any(row.dropping is not None for row in self.ablation.rows):
            importlib.import_module("cleanlab")  # or it would be missed only after the first rows
        dataset = Dataset.open(self.data)
        tested = (dataset.column(schema.SPLIT) == schema.TEST) & (dataset.column(schema.ORIGIN) == schema.JUDGED)
        queries = len(np.unique(dataset.column(schema.QUERY_ID)[tested]))
        if queries < 2:
            raise UserError("rows cannot be compared on fewer than two test queries.", file=self.data)
        for run in self.runs:
            run.check_recorded()
        for row in self.ablation.rows:
            self._build(row, dataset)
        return {
            "folder": str(self.data),
            "manifest": manifest_hash(self.data),
            "test_pairs": int(tested.sum()),
            "test_queries": queries,
        }

    def _build(self, row: Row, dataset: Dataset) -> None:
        """Make what a row would train and let go of it; one that is to be pre-trained, from the start of that."""
        recipe = row_recipe(self.ablation, row, self.base, self.settings)
        settings = recipe.model
        try:
            split(dataset, recipe.train)
            featurizer = make_featurizer(settings, dataset)
            vectors = trigram_vectors(settings, featurizer, dataset)
            FineTuning(build_model(settings, featurizer, TASKS[recipe.task], vectors), recipe.objective)
        except UserError as error:
            raise in_row(row, error) from error


def _check_tables(pretraining: PretrainingRecipe, recipe: Recipe) -> None:
    """Refuse vectors of brands and colors that fine-tuning could not take over."""
    for name in ("brand", "color"):
        task, size = getattr(pretraining.objective, f"product2{name}"), getattr(recipe.model, name)
        if task is not None and size is not None and task.size != size:
            raise UserError(
                f"objective.product2{name}.size={task.size} of the pre-training is not model.{name}={size}.",
                remedy=f"Use --set-pretraining objective.product2{name}.size={size}.",
            )
