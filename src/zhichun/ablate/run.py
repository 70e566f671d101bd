"""One run of a table: what it trains, where it lies, and doing it."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from zhichun.ablate.ablation import METRICS, Row
from zhichun.ablate.identity import manifest_hash
from zhichun.ablate.outcome import OUTCOME_FILE, Outcome
from zhichun.ablate.stages import Stage
from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.files import read_json, replacing, write_json
from zhichun.fit.recipe import Recipe
from zhichun.fit.run_folder import RunFolder
from zhichun.fit.train import train
from zhichun.measure.evaluate import evaluate

# Columns of `scored.parquet` for looking at single pairs; they go when the weights go.
TEXTS: Final = (schema.QUERY, schema.SMALL, schema.LARGE, schema.SPLIT, schema.FOLD, schema.WEIGHT, schema.ORIGIN)


@dataclass(frozen=True)
class Run:
    """One training of a table.

    Parameters
    ----------
    row
        The row that it belongs to.
    seed
        Its seed.
    recipe
        What is trained.
    data
        The dataset folder that it is trained and measured on.
    folder
        Its run folder.
    stages
        What it needs before it can start.
    """

    row: Row
    seed: int
    recipe: Recipe
    data: Path
    folder: Path
    stages: tuple[Stage, ...] = ()

    @property
    def outcome(self) -> Outcome | None:
        """What it came to; ``None`` while it is not finished."""
        return Outcome.read(self.folder)

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to do."""
        return (self.folder / OUTCOME_FILE).is_file()

    def check_recorded(self) -> None:
        """Refuse a run in its folder that is of another recipe or another dataset.

        Raises
        ------
        UserError
            With what to do.
        """
        recorded, remedy = self.folder / "recipe.json", "Choose another --out, or remove that folder."
        if not recorded.is_file():
            return
        if read_json(recorded) != self.recipe.to_json():
            raise UserError("the run there has other settings than the table's.", file=recorded, remedy=remedy)
        trained_on = read_json(self.folder / "environment.json")["dataset"]["manifest"]
        # A dataset that is made for this run may be gone, and is made again.
        if self.data.is_dir() and trained_on != manifest_hash(self.data):
            raise UserError("the run there was trained on another dataset.", file=self.folder, remedy=remedy)

    def finish(self, say: Callable[[str], None], *, keep_models: bool) -> None:
        """Do what is left of it; what was killed goes on where it was.

        Parameters
        ----------
        say
            Takes a line before each stage.
        keep_models
            Keep the weights, and the texts beside the scores.
        """
        made = [stage.make(say) for stage in self.stages]
        broken_off = (self.folder / "metrics.jsonl").is_file()
        began = time.monotonic()
        train(self.recipe, self.data, self.folder, resume=True, title=f"{self.row.name}, seed {self.seed}")
        seconds = None if broken_off else time.monotonic() - began
        measured = evaluate(self.folder, self.data, shown=False)
        outcome = Outcome(
            folder=self.folder,
            seed=self.seed,
            task=self.recipe.task,
            figures=_figures(measured) | {name: value for of in made for name, value in of["figures"].items()},
            floor=_floor(measured),
            seconds=seconds,
            seconds_before=_sum([of["seconds"] for of in made]),
        )
        write_json(self.folder / OUTCOME_FILE, outcome.to_json())
        if not keep_models:
            self._drop_weights()

    def _drop_weights(self) -> None:
        """Remove what takes space; the outcome is whole before this."""
        scored, run = self.folder / "scored.parquet", RunFolder(self.folder)
        pairs = pq.read_table(scored)
        with replacing(scored) as partial:
            pq.write_table(pairs.drop_columns([name for name in TEXTS if name in pairs.column_names]), partial)
        (self.folder / "predictions.parquet").unlink(missing_ok=True)
        shutil.rmtree(run.model)


def _figures(measured: dict[str, Any]) -> dict[str, float]:
    """Take the figures that a table may show out of what an evaluation gives."""
    return {name: measured[name] for name in METRICS if name in measured}


def _floor(measured: dict[str, Any]) -> dict[str, float]:
    """Take the figures of simple baselines: one class always, a random order."""
    always: dict[str, float] = next((value for name, value in measured.items() if name.startswith("always_")), {})
    return {name: value for name, value in {**always, **measured.get("random_order", {})}.items() if name in METRICS}


def _sum(seconds: list[float | None]) -> float | None:
    known = [value for value in seconds if value is not None]
    return sum(known) if known and len(known) == len(seconds) else None
