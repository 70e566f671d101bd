"""Trainings on folds of the queries, each kept as the logits of the queries that it did not see.

A *cell* is one training: a row, the fold that is left out, the inner fold that is left out beside it, and a seed. Its
file is the logits of the pairs left out, in the order of the dataset, under a name made of all that it was trained
with; so a run that was killed goes on, and one on another machine too. Not a script.

Legend: ``P`` pairs, ``C`` outputs.
"""

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cached_property
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq
import torch
from list_rows import MAJORITY, POOL, POOLS, RATERS, STACKED, TEACHER, TEACHES, WARM, WITH_TREES, Row
from torch import nn

from zhichun.core import schema
from zhichun.core.files import new_file
from zhichun.core.tasks import softmax
from zhichun.data.dataset import Dataset, buckets_of
from zhichun.data.prepare.prepare import prepare
from zhichun.data.readers.ratings import RatedPairs, read_ratings
from zhichun.fit.loop import run_training
from zhichun.fit.pool import make_pool
from zhichun.fit.pretrain import pretrain
from zhichun.fit.recipe import Recipe
from zhichun.fit.recipes.zhichun import fast_pretrain
from zhichun.fit.run_folder import RunFolder
from zhichun.fit.train import FineTune
from zhichun.metrics.agreement import majority
from zhichun.model.model_folder import TrainedModel
from zhichun.text.fold import fold_locales, fold_query

OUTER, INNER, PER_QUERY = 5, 3, 10
RATINGS_FILE: Final = "ratings.csv"
GRADES: Final = dict(zip("3210", schema.LABELS, strict=True))
Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class Held(Dataset):
    """A dataset of which nothing is held out to choose a checkpoint: what is left out is only predicted."""

    @classmethod
    def of(cls, folder: Path) -> "Held":
        """Open a dataset folder."""
        dataset = Dataset.open(folder)
        return cls(dataset.folder, dataset.examples, dataset.manifest)

    def split(self, validation_fold: int | None) -> tuple[Rows, Rows]:
        """Give the pairs of the training split without a fold, and what is left out: that fold, then those of test."""
        training, test = (self.column(schema.SPLIT) == name for name in (schema.TRAIN, schema.TEST))
        held = training & (False if validation_fold is None else self.held_out(validation_fold))
        return np.flatnonzero(training & ~held), np.concatenate([np.flatnonzero(held), np.flatnonzero(test)])


class AllEpochs(FineTune):
    """Fine-tuning that keeps the last weights and gives only the logits of what was left out."""

    def __init__(self, recipe: Recipe, dataset: Dataset, *others: Any) -> None:
        super().__init__(recipe, Held.of(dataset.folder), *others)

    def figures(self, model: nn.Module) -> Mapping[str, float]:
        """Measure nothing on what will be predicted."""
        return {self.recipe.train.metric: 0.0}

    def finish(self, run: RunFolder, objective: nn.Module) -> None:
        """Write the logits."""
        np.save(run.path / "logits.npy", self.logits(self.objective.shipped))


class Labelling(AllEpochs):
    """The same, for a model that labels a pool: it is kept."""

    def finish(self, run: RunFolder, objective: nn.Module) -> None:
        """Write the model."""
        trained = TrainedModel(self.objective.shipped, self.featurizer, self.recipe.model, self.task)
        run.write_result(self.result, trained.save)


def run_pool(recipe: Recipe, spans: int, data: Path, out: Path) -> None:
    """Train a model and let it label candidates of the training queries and of so many title spans."""
    run, queries = out.with_suffix(".run"), out.with_suffix(".csv")
    run_training(Labelling, recipe, data, run, resume=True, title=run.name)
    dataset = Dataset.open(data)
    training = dataset.column(schema.SPLIT) == schema.TRAIN
    asked = [np.unique(dataset.column(schema.QUERY)[training]), title_spans(data, spans)]
    pc_csv.write_csv(pa.table({schema.QUERY: np.concatenate(asked)}), queries)
    make_pool(run, data, queries, out, per_query=PER_QUERY, shown=False)
    shutil.rmtree(run)


def title_spans(data: Path, count: int) -> list[str]:
    """Cut one to three words in a row from the titles of products that are drawn."""
    random = np.random.default_rng(0)
    titles = pq.read_table(data / schema.PRODUCTS_FILE, columns=[schema.TITLE]).column(0).drop_null()
    spans = []
    for title in titles.take(pa.array(random.permutation(len(titles))[:count])).to_pylist():
        words, size = title.split(), int(random.integers(1, 4))
        start = int(random.integers(0, max(1, len(words) - size + 1)))
        spans.append(" ".join(words[start : start + size]))
    return spans


def run_ours(recipe: Recipe, loss: str, data: Path, out: Path) -> Floats:
    """Train ours; gives the logits of the pairs left out."""
    run_training(AllEpochs, recipe, data, out, resume=False, title=out.name)
    return np.load(out / "logits.npy")


def run_theirs(recipe: Recipe, loss: str, data: Path, out: Path) -> Floats:
    """Train a `CrossEncoder`; gives the logits of the pairs left out."""
    import cross_encoder  # what is kept can be read without sentence-transformers

    dataset = Held.of(data)
    rows = dataset.split(recipe.train.validation_fold)
    training, held = (cross_encoder.text_pairs(dataset, part, recipe) for part in rows)
    return cross_encoder.score(cross_encoder.fine_tune_all(recipe, training, loss, out), held)


def begin(at_once: int) -> None:
    """Take a share of the cores, and end when the parent has: nobody waits for what a killed run was training."""
    if at_once > 1:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // at_once))
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@dataclass(frozen=True)
class Cell:
    """One training."""

    row: Row
    fold: int
    inner: int | None
    seed: int

    def trainings(self) -> "list[Cell]":
        """Give the trainings that its row needs for a fold: one, or those of the inner folds under a second stage."""
        if not self.row.trained:
            return []
        inner = range(INNER) if self.row.stack else (self.inner,)
        return [replace(self, inner=place) for place in inner]

    def teachers(self) -> "list[Cell]":
        """Give the trainings that must be there before its own: those of the teacher that leave out the inner folds."""
        return [Cell(TEACHES, self.fold, place, self.seed) for place in range(INNER)] if self.row.taught else []

    def __str__(self) -> str:
        inner = "" if self.inner is None else f".inner-{self.inner}"
        return f"fold-{self.fold}{inner}.seed-{self.seed}"


@dataclass(frozen=True)
class Bench:
    """The data, folded, with what all systems share and the cells that are done.

    Parameters
    ----------
    name
        What results call the data.
    source
        A folder in the official layout, with ``ratings.csv`` where raters are known.
    recipe
        What all rows start from.
    encoder
        What results call the encoder.
    work, kept
        Where datasets are made, and where cells are kept.
    test
        Whether the given split is measured instead of folds.
    parts, only
        How many folds there are, and the one that alone is measured, if any.
    at_once
        How many cells are trained side by side.
    """

    name: str
    source: Path
    recipe: Recipe
    encoder: str
    work: Path
    kept: Path
    test: bool = False
    parts: int = OUTER
    only: int | None = None
    at_once: int = 1

    @cached_property
    def judged(self) -> pa.Table:
        """The judged pairs that `prepare` takes, in an order that a seed has drawn; so is what is predicted of them."""
        table = with_folded_locales(pq.read_table(self.source / schema.OFFICIAL_EXAMPLES_FILE))
        table = table.take(pa.array(np.random.default_rng(0).permutation(table.num_rows)))
        folder = self._prepared("whole", table, np.full(table.num_rows, schema.TRAIN))
        kept = Dataset.open(folder).examples.column(schema.EXAMPLE_ID).cast(table.schema.field(schema.EXAMPLE_ID).type)
        taken = table.filter(pc.is_in(table.column(schema.EXAMPLE_ID), value_set=kept.combine_chunks()))
        if left_out := table.num_rows - taken.num_rows:
            print(f"{left_out} judgements are left out: {folder / 'rejected.parquet'} says why", flush=True)
        return taken

    @cached_property
    def fold_P(self) -> Rows:
        """The fold of each pair, one for all spellings of a query, ``[P]``; of a given split 0 in test, -1 else."""
        if self.test:
            in_test_P = np.asarray(self.judged.column(schema.SPLIT).to_pylist()) == schema.TEST
            if in_test_P.all() or not in_test_P.any():
                raise SystemExit(f"{self.source}: --test needs pairs whose split is {schema.TEST!r}, and others")
            return np.where(in_test_P, 0, -1)
        spelled = [fold_query(query) for query in self.judged.column(schema.QUERY).to_pylist()]
        keys, place_P = np.unique(spelled, return_inverse=True)
        by_hash = np.argsort(buckets_of(keys.tolist(), 2**40), kind="stable")
        fold_of = np.empty(len(keys), np.int64)
        for fold, places in enumerate(np.array_split(by_hash, self.parts)):  # as many queries in each
            fold_of[places] = fold
        return fold_of[place_P]

    @property
    def folds(self) -> range:
        """The folds that are predicted."""
        return range(1 if self.test else self.parts) if self.only is None else range(self.only, self.only + 1)

    def data(self, fold: int) -> Path:
        """Give a dataset whose test split is a fold, made unless it is there; its own folds are the inner ones."""
        split_P = np.where(self.fold_P == fold, schema.TEST, schema.TRAIN)
        return self._prepared(schema.TEST if self.test else f"fold-{fold}-of-{self.parts}", self.judged, split_P)

    def _prepared(self, name: str, judged: pa.Table, split_P: npt.NDArray[np.str_]) -> Path:
        """Make a dataset of some pairs, unless it is there."""
        folder = self.place / name
        if not folder.is_dir():
            examples, place = folder.with_name(f"{name}.parquet"), judged.column_names.index(schema.SPLIT)
            with new_file(examples) as partial:
                pq.write_table(judged.set_column(place, schema.SPLIT, pa.array(split_P)), partial)
            products = self.source / schema.OFFICIAL_PRODUCTS_FILE
            prepare(None, folder, examples=examples, products=products, folds=INNER, on_bad_rows="drop")
        return folder

    @property
    def place(self) -> Path:
        """Where datasets are made: other data of the same name have another."""
        return self.work / f"{self.name}-{self._source_hash[:8]}"

    def recipe_of(self, cell: Cell) -> Recipe:
        """Give a cell's recipe; the row's own settings win over those for all."""
        recipe = self.recipe.with_settings(cell.row.settings)
        return replace(recipe, train=replace(recipe.train, seed=cell.seed, validation_fold=cell.inner, keep="last"))

    def path(self, cell: Cell) -> Path:
        """Give the file of a cell."""
        row, recipe = cell.row, self.recipe_of(replace(cell, inner=None, seed=0)).to_json()
        recipe["model"]["encoder"] = self._encoder_hash + row.warm
        said = [row.side, row.loss if row.side == "theirs" else "", _changed(recipe, Recipe().to_json())]
        said += [self.path(teacher).parent.name for teacher in cell.teachers()[:1]]
        said += [self.path(self._labelling(cell)).parent.name] if row.pool else []
        what = json.dumps(said, sort_keys=True)
        folds = schema.TEST if self.test else str(self.parts)
        key = hashlib.sha256((what + self._source_hash + folds).encode()).hexdigest()[:10]
        name = row.name.removesuffix(STACKED).removesuffix(WITH_TREES).replace(", ", "-").replace(" ", "_")
        return self.kept / self.name / f"{name}-{key}" / f"{cell}.parquet"

    @cached_property
    def _source_hash(self) -> str:
        found = hashlib.sha256()
        for name in (schema.OFFICIAL_EXAMPLES_FILE, schema.OFFICIAL_PRODUCTS_FILE, RATINGS_FILE):
            if (self.source / name).is_file():
                found.update((self.source / name).read_bytes())
        return found.hexdigest()

    @cached_property
    def _encoder_hash(self) -> str:
        weights = Path(self.recipe.model.encoder) / "model.safetensors"
        return hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else self.recipe.model.encoder

    def run(self, cells: Sequence[Cell]) -> None:
        """Train all cells that are not there, `at_once` side by side; a kill loses those that are being trained."""
        if teachers := [teacher for cell in cells for teacher in cell.teachers()]:
            self.run(teachers)
        wanted = {self.path(training): training for cell in cells for training in cell.trainings()}
        missing = [cell for path, cell in wanted.items() if not path.is_file()]
        recipes = [self.recipe_of(cell).with_settings(self._with_places(cell)) for cell in missing]
        began, done = time.monotonic(), 0
        with ThreadPoolExecutor(self.at_once) as threads:
            running = [threads.submit(self._made, *job) for job in zip(missing, recipes, strict=True)]
            try:
                for one in as_completed(running):
                    cell, done = one.result(), done + 1
                    left = (time.monotonic() - began) / done * (len(missing) - done) / 60
                    seconds = f"{self.seconds(cell):.0f} s; {done} of {len(missing)}"
                    print(f"{cell.row.name}, {cell}: {seconds}, about {left:.1f} min left", flush=True)
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def _made(self, cell: Cell, recipe: Recipe) -> Cell:
        """Train a cell and keep its outcome."""
        began = time.monotonic()
        logits_PC = self._trained(cell, recipe, self.data(cell.fold))
        self._keep(cell, logits_PC, time.monotonic() - began)
        return cell

    def _trained(self, cell: Cell, recipe: Recipe, data: Path) -> Floats:
        out = self.place / "training" / f"{self.path(cell).parent.name}-{cell}-{os.getpid()}"
        run = run_theirs if cell.row.side == "theirs" else run_ours
        try:
            return self._apart(run, recipe, cell.row.loss, data, out)
        finally:
            shutil.rmtree(out, ignore_errors=True)

    def _apart(self, run: Callable[..., Any], *arguments: Any) -> Any:
        """Call in a process of its own: both sides set up torch and accelerate for all that comes after."""
        with ProcessPoolExecutor(1, get_context("spawn"), begin, (self.at_once,)) as process:
            return process.submit(run, *arguments).result()

    def _keep(self, cell: Cell, logits_PC: Floats, seconds: float) -> None:
        """Write a cell's logits, unrounded: a sure model's lie closer than a thousandth, and ties would help it."""
        columns = {f"logit_{place}": column for place, column in enumerate(logits_PC.T)}
        said = {"row": cell.row.name, "loss": cell.row.loss, "encoder": self.encoder, "seconds": round(seconds, 1)}
        recipe = self.recipe_of(cell).to_json()
        said["recipe"] = {**recipe, "model": {**recipe["model"], "encoder": self.encoder}}
        table = pa.table(columns).replace_schema_metadata({"cell": json.dumps(said)})
        with new_file(self.path(cell)) as partial:
            pq.write_table(
                table, partial, compression="zstd", use_dictionary=False, column_encoding="BYTE_STREAM_SPLIT"
            )

    def left_out(self, fold: int, inner: int | None = None) -> Rows:
        """Give the rows of `judged` that a cell predicts, in the order of its logits: an inner fold, then the fold."""
        return self.places(fold, Held.of(self.data(fold)).split(inner)[1])

    def places(self, fold: int, rows: Rows) -> Rows:
        """Find rows of a fold's dataset in `judged`."""
        ours = self.judged.column(schema.EXAMPLE_ID).to_numpy()
        order = np.argsort(ours)
        return order[np.searchsorted(ours[order], Held.of(self.data(fold)).column(schema.EXAMPLE_ID)[rows])]

    def logits(self, cell: Cell) -> Floats:
        """Read the logits of a cell, ``[P, C]``."""
        table = pq.read_table(self.path(cell))
        return np.stack([column.to_numpy() for column in table.columns], axis=1)

    def seconds(self, cell: Cell) -> float:
        """Give how long a cell was trained."""
        return float(json.loads(pq.read_schema(self.path(cell)).metadata[b"cell"])["seconds"])

    def _with_places(self, cell: Cell) -> list[str]:
        """Give the settings that name a table or an encoder made of these data, with its place."""
        data, row = self.data(cell.fold), cell.row
        tables = {RATERS: self._raters_table, MAJORITY: self._majority_table, TEACHER: self._taught}
        settings = [
            setting.replace(name, str(make(cell)))
            for setting in row.settings
            for name, make in tables.items()
            if name in setting
        ]
        settings += [f"model.encoder={self._warm(row, data)}"] if row.warm else []
        return [*settings, f"train.pool={self._pool(cell, data)}"] if row.pool else settings

    @staticmethod
    def _labelling(cell: Cell) -> Cell:
        """Give the training whose model labels a cell's pool: on the same pairs, with the same seed."""
        return replace(cell, row=POOLS)

    def _pool(self, cell: Cell, data: Path) -> Path:
        """Make a pool, unless it is there."""
        labelling, spans = self._labelling(cell), int(cell.row.pool.partition(POOL)[2])
        out = self.place / f"pool-{spans}-{self.path(labelling).parent.name}-{cell}.parquet"
        if not out.is_file():
            recipe = self.recipe_of(labelling).with_settings(self._with_places(labelling))
            self._apart(run_pool, recipe, spans, data, out)
        return out

    def _warm(self, row: Row, data: Path) -> Path:
        """Pre-train on Product2Query in the form of a row, unless that is done; all folds have one catalogue."""
        form = [setting for setting in row.settings if setting.startswith("model.interaction=")]
        epochs = row.warm.partition(WARM)[2]
        settings = [f"model.encoder={self.recipe.model.encoder}", f"model.max_length={self.recipe.model.max_length}"]
        changes = [*settings, *(form or ["model.interaction=Full"]), f"train.epochs={epochs}"]
        name = hashlib.sha256(json.dumps([self._encoder_hash, form, epochs]).encode()).hexdigest()[:8]
        out = self.place / f"warm-{name}"
        if not (out / "encoder").is_dir():
            pretrain(fast_pretrain().with_settings(changes), data, out, resume=True)
        return out

    @cached_property
    def votes_PC(self) -> Rows:
        """How many raters chose each label of each pair, ``[P, C]``; none where nobody rated it."""
        votes_PC = np.zeros((self.judged.num_rows, len(schema.LABELS)), np.int64)
        if (found := rated_pairs(self.source, self.judged)) is not None:
            votes_PC[found[0]] = found[1].ratings.counts_PK
        return votes_PC

    def _raters_table(self, cell: Cell) -> Path:
        """Write the shares of the raters that chose each label, for all pairs; without ratings the label itself."""
        shares_PC, rated_P = np.eye(len(schema.LABELS))[label_codes_of(self.judged)], self.votes_PC.any(axis=1)
        votes_RC = self.votes_PC[rated_P]
        shares_PC[rated_P] = votes_RC / votes_RC.sum(axis=1, keepdims=True)
        return self._write("raters", np.arange(len(shares_PC)), shares_PC)

    def _majority_table(self, cell: Cell) -> Path:
        """Write the label that most raters chose, for all pairs; without ratings the label itself."""
        codes_P = np.where(self.votes_PC.any(axis=1), majority(self.votes_PC), label_codes_of(self.judged))
        return self._write("majority", np.arange(len(codes_P)), np.eye(len(schema.LABELS))[codes_P])

    def _taught(self, cell: Cell) -> Path:
        """Write what the teacher says of the training pairs: of each, the cell of the inner fold that it is in."""
        if cell.inner is not None:
            raise SystemExit(f"{cell.row.name}: its teachers left out the inner folds, so that it can leave out none")
        rows, said = [], []
        for teacher in cell.teachers():
            place_P = self.left_out(cell.fold, teacher.inner)
            there_P = self.fold_P[place_P] != cell.fold
            rows.append(place_P[there_P])
            said.append(softmax(self.logits(teacher)[there_P]))
        # Named by its teachers: a run with another encoder may lie beside this one.
        name = f"taught-{self.path(cell.teachers()[0]).parent.name}-{self.data(cell.fold).name}.seed-{cell.seed}"
        return self._write(name, np.concatenate(rows), np.concatenate(said))

    def _write(self, name: str, rows: Rows, shares_PC: npt.NDArray[np.float64]) -> Path:
        """Write a table of soft labels of some of the judged pairs."""
        path, ids = (
            self.place / f"{name}.parquet",
            self.judged.column(schema.EXAMPLE_ID).take(pa.array(rows)),
        )
        columns = dict(zip(schema.PROBABILITIES, shares_PC.T, strict=True))
        with new_file(path) as partial:
            pq.write_table(pa.table({schema.EXAMPLE_ID: ids, **columns}), partial)
        return path


def with_folded_locales(table: pa.Table) -> pa.Table:
    """Write locales as `prepare` and tables of ratings have them."""
    locales = fold_locales(table.column(schema.LOCALE).combine_chunks(), schema.LOCALES[0], table.num_rows)
    return table.set_column(table.column_names.index(schema.LOCALE), schema.LOCALE, locales)


def label_codes_of(judged: pa.Table) -> Rows:
    """Give the labels as places in `schema.LABELS`."""
    return np.asarray([schema.LABELS.index(label) for label in judged.column(schema.LABEL).to_pylist()])


def rated_pairs(source: Path, judged: pa.Table) -> tuple[Rows, RatedPairs] | None:
    """Read which judged pairs were rated, and how; ``None`` without ``ratings.csv``."""
    path = source / RATINGS_FILE
    if not path.is_file():
        return None
    queries, locales, products = (
        judged.column(name).to_pylist() for name in (schema.QUERY, schema.LOCALE, schema.PRODUCT_ID)
    )
    pairs = zip(map(fold_query, queries), locales, map(str, products), strict=True)
    return read_ratings(path, labels=GRADES).among([*pairs])


def _changed(value: Any, default: Any) -> Any:
    """Keep what differs from the defaults, so that a setting which a later version adds changes no key."""
    if not isinstance(value, dict) or not isinstance(default, dict) or value.get("kind") != default.get("kind"):
        return value
    return {key: _changed(item, default.get(key)) for key, item in value.items() if item != default.get(key)}
