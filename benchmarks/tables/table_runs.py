"""What a table runs: its rows as recipes, and one run of a row with a seed, which goes on where it was killed."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from paper_tables import AUDITED, Row, Table

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.files import read_json, write_json
from zhichun.data.dataset import BUCKETS, VALIDATION_BUCKET, Dataset
from zhichun.fit.pretrain import pretrain
from zhichun.fit.recipe import PretrainingRecipe, Recipe
from zhichun.fit.run_folder import RunFolder
from zhichun.fit.train import train
from zhichun.judgements.audit import audit
from zhichun.measure.evaluate import evaluate
from zhichun.model.encoder_settings import EncoderSettings

OUTCOME_FILE = "outcome.json"


@dataclass(frozen=True)
class Stage:
    """What runs need first, made once for all that need the same; ``make`` fills the folder and gives figures."""

    folder: Path
    make: Callable[[Path], dict[str, float]]

    def done(self) -> dict[str, Any]:
        """Make it, unless it is there; gives its figures and seconds (null where it had been interrupted)."""
        made = self.folder / "made.json"
        if not made.is_file():
            resumed, began = self.folder.exists(), time.monotonic()
            figures = self.make(self.folder)
            write_json(made, {"seconds": None if resumed else time.monotonic() - began, "figures": figures})
        found: dict[str, Any] = read_json(made)
        return found


@dataclass(frozen=True)
class Run:
    """One training of a row."""

    row: Row
    seed: int
    recipe: Recipe
    data: Path
    folder: Path
    stages: tuple[Stage, ...] = ()

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return (self.folder / OUTCOME_FILE).is_file()

    def check_recorded(self) -> None:
        """Refuse a run in the folder that is of another recipe or another dataset."""
        recorded = self.folder / "recipe.json"
        if not recorded.is_file():
            return
        same = read_json(recorded) == self.recipe.to_json()
        if same and self.data.is_dir():  # a dataset that is made for this run may not be there yet
            same = read_json(self.folder / "environment.json")["dataset"]["manifest"] == manifest_hash(self.data)
        if not same:
            remedy = "Choose another --out, or remove that folder."
            raise UserError("the run there has other settings or another dataset.", file=self.folder, remedy=remedy)

    def finish(self, *, keep_models: bool) -> None:
        """Do what is left of the run; its weights go when it is measured."""
        made = [stage.done() for stage in self.stages]
        resumed, began = (self.folder / "metrics.jsonl").is_file(), time.monotonic()
        train(self.recipe, self.data, self.folder, resume=True, title=f"{self.row.name}, seed {self.seed}")
        seconds = None if resumed else time.monotonic() - began
        measured = evaluate(self.folder, self.data, shown=False)
        before = [of["seconds"] for of in made]
        always: dict[str, Any] = next((value for name, value in measured.items() if name.startswith("always_")), {})
        outcome = {
            "seed": self.seed,
            "task": self.recipe.task,
            "figures": numbers(measured) | {name: value for of in made for name, value in of["figures"].items()},
            "floor": numbers(always) | numbers(measured.get("random_order", {})),
            "seconds": seconds,
            "seconds_before": sum(before) if before and None not in before else None,
        }
        write_json(self.folder / OUTCOME_FILE, outcome)
        if not keep_models:
            shutil.rmtree(RunFolder(self.folder).model)
            (self.folder / "predictions.parquet").unlink(missing_ok=True)
            for stage in self.stages:  # a pre-training has one run; another that needs the same makes it again
                if (encoder := RunFolder(stage.folder).encoder).is_dir():
                    (stage.folder / "made.json").unlink()
                    shutil.rmtree(encoder)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The runs of a table: every recipe is built, and so checked, before anything starts."""

    table: Table
    base: Recipe
    pretraining: PretrainingRecipe
    data: Path
    out: Path
    settings: tuple[str, ...] = ()
    pretraining_settings: tuple[str, ...] = ()
    seeds: int = 3

    def __post_init__(self) -> None:
        for setting, rows in self.overruled:
            if len(rows) == len(self.table.rows):
                raise UserError(f"--set {setting} has no effect: every row sets it.", remedy="Leave it out.")
        first = [(str(run.recipe), run.data) for run in (self.run(row, 0) for row in self.table.rows)]
        if len(set(first)) < len(first):
            raise UserError("two rows are the same on top of this recipe.", remedy="Choose another with --recipe.")

    @property
    def runs(self) -> list[Run]:
        """All runs, seed by seed, so that every row has a figure soon."""
        return [self.run(row, seed) for seed in range(self.seeds) for row in self.table.rows]

    @property
    def overruled(self) -> list[tuple[str, list[str]]]:
        """Settings for all rows that some rows set themselves, with these rows."""
        found = [(setting, [row.name for row in self.table.rows if sets(row, setting)]) for setting in self.settings]
        return [(setting, rows) for setting, rows in found if rows]

    def recipe(self, row: Row, settings: tuple[str, ...], seed: int) -> Recipe:
        """Build a recipe of a row."""
        given = [setting for setting in self.settings if not sets(replace(row, settings=settings), setting)]
        try:
            return self.base.with_settings([*settings, *given, f"train.seed={seed}"])
        except UserError as error:
            raise UserError(f"row {row.name!r}: {error.problem}", remedy=error.remedy) from error

    def run(self, row: Row, seed: int) -> Run:
        """Lay out one run."""
        recipe, data, stages = self.recipe(row, row.settings, seed), self.data, list[Stage]()
        if row.dropping is not None:  # the models of the audit have one seed in all runs: their list is data
            audited = self.recipe(row, AUDITED, 0)
            make = partial(drop_doubtful, audited, self.data, row.dropping)
            stages.append(self._stage("reduced", make, audited.to_json(), row.dropping))
            data = stages[-1].folder / "data"
        if row.pretraining is not None:
            of = recipe.model
            model = EncoderSettings(encoder=of.encoder, tiny=of.tiny, max_length=of.max_length, fields=of.fields)
            own = [*self.pretraining_settings, *row.pretraining, f"train.seed={seed}"]
            before = replace(self.pretraining, model=model).with_settings(own)
            stages.append(self._stage("pretraining", partial(pretrain_encoder, before, self.data), before.to_json()))
            recipe = recipe.with_settings(["model.tiny=TinyEncoder", f"model.encoder={stages[-1].folder}"])
        return Run(row, seed, recipe, data, self.out / row.folder / f"seed-{seed}", tuple(stages))

    def _stage(self, kind: str, make: Callable[[Path], dict[str, float]], *identity: Any) -> Stage:
        """Give a stage the folder of its settings, data and seed."""
        key = json.dumps([*identity, manifest_hash(self.data)], sort_keys=True)
        return Stage(self.out / kind / hashlib.sha256(key.encode()).hexdigest()[:12], make)


def sets(row: Row, setting: str) -> bool:
    """Whether a row sets what a setting for all rows sets too, or switches off what that is a part of."""
    key = setting.partition("=")[0].strip()
    own = dict(each.split("=", 1) for each in row.settings)  # the last of a name holds
    return any(
        key == name or name.startswith(f"{key}.") or (key.startswith(f"{name}.") and value == "null")
        for name, value in own.items()
    )


def pretrain_encoder(recipe: PretrainingRecipe, data: Path, folder: Path) -> dict[str, float]:
    """Pre-train; gives the MLM loss of the weights that are kept."""
    run = pretrain(recipe, data, folder, resume=True)
    validations = [record["validation"] for record in run.records() if "validation" in record]
    best = min(validations, key=lambda figures: figures[recipe.train.metric])
    return {"mlm_loss": best["mlm.loss"]} if "mlm.loss" in best else {}


def drop_doubtful(recipe: Recipe, data: Path, share: float, folder: Path) -> dict[str, float]:
    """Audit a dataset, and copy it without the training pairs that the audit doubts most; validation and test stay."""
    audit(data, folder / "audit", recipe=recipe, drop=share)
    dataset, out = Dataset.open(data), folder / "data"
    listed = pacsv.read_csv(folder / "audit" / "drop.csv").column(schema.EXAMPLE_ID)
    goes = (dataset.column(schema.SPLIT) == schema.TRAIN) & (dataset.column(schema.ORIGIN) == schema.JUDGED)
    goes &= dataset.buckets(BUCKETS) != VALIDATION_BUCKET
    goes &= pc.is_in(dataset.examples.column(schema.EXAMPLE_ID), listed).to_numpy(zero_copy_only=False)
    shutil.rmtree(out, ignore_errors=True)
    leave_out = shutil.ignore_patterns("features", "catalogue", schema.EXAMPLES_FILE, "manifest.json")
    shutil.copytree(data, out, ignore=leave_out)
    pq.write_table(dataset.examples.filter(pa.array(~goes)), out / schema.EXAMPLES_FILE)
    without = {"listed": int(goes.sum()), "source_manifest": manifest_hash(data)}
    write_json(out / "manifest.json", {**dataset.manifest, "without": without})
    for weights in (folder / "audit" / "folds").glob("fold-*/model"):
        shutil.rmtree(weights)
    return {}


def manifest_hash(data: Path) -> str:
    """Give the SHA-256 of a dataset's manifest, as runs record it."""
    return hashlib.sha256((data / "manifest.json").read_bytes()).hexdigest()


def numbers(figures: dict[str, Any]) -> dict[str, float]:
    """Take the plain figures out of what an evaluation gives."""
    return {name: value for name, value in figures.items() if isinstance(value, float)}
