"""Predictions of other models for a dataset's pairs: tables joined with its examples.

The join key is ``example_id`` if a table has that column, otherwise query, product and locale.

Legend: ``E`` examples of the dataset, ``C`` classes, 1 for the regressor; ``P`` rows of a table.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from types import NoneType
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zhichun.core import schema
from zhichun.core.arrays import Bools, Doubles, Int64
from zhichun.core.errors import UserError
from zhichun.core.files import read_json, sha256
from zhichun.core.tasks import TASKS, Task
from zhichun.data.dataset import Dataset
from zhichun.data.readers.pair_tables import read_chunks

CHUNK_ROWS: Final = 1_000_000
OF_PRODUCT: Final = (schema.PRODUCT_ID, schema.LOCALE)
KEYS: Final = ((schema.EXAMPLE_ID,), (schema.QUERY_ID, *OF_PRODUCT), (schema.QUERY, *OF_PRODUCT))
KNOWN: Final = sorted({name for keys in KEYS for name in keys})
REMEDY: Final = "Make it again with `zhichun train` or `zhichun score`, without --prefix."


@dataclass(frozen=True)
class Predictions:
    """Predictions for a dataset's examples.

    Parameters
    ----------
    mean_EC
        Mean prediction of each example: probabilities of the task's classes, or the gain; 0 without a prediction.
    times_E
        Number of predictions of each example.
    """

    mean_EC: Doubles
    times_E: Int64


def find_tables(places: Iterable[str]) -> list[Path]:
    """Find the tables of predictions.

    Parameters
    ----------
    places
        Tables; run folders with ``predictions.parquet``; or folders of the runs of all folds.

    Raises
    ------
    UserError
        For a place that is none of these.
    """
    found: list[Path] = []
    for place in map(Path, places):
        own = [place] if place.is_file() else [place / PREDICTIONS_FILE] if (place / PREDICTIONS_FILE).is_file() else []
        tables = own or sorted(place.glob(f"fold-*/{PREDICTIONS_FILE}"))
        if not tables:
            problem = "holds no predictions." if place.is_dir() else "there is no such file or folder."
            remedy = f"Name a finished run, a folder with fold-*/{PREDICTIONS_FILE}, or a table of `zhichun score`."
            raise UserError(problem, file=place, remedy=remedy)
        found += tables
    return found


def read_predictions(tables: Iterable[Path], dataset: Dataset, task: Task, *, as_trained: bool = False) -> Predictions:
    """Read tables and average the predictions of each example; pairs of other data are ignored.

    Those ``as_trained`` know nothing of a calibration, which was fitted to the labels of the same pairs.

    Raises
    ------
    UserError
        For a table that cannot be read, lacks a column, was made of other data, or has invalid probabilities.
    """
    total_EC = np.zeros((dataset.examples.num_rows, task.outputs))
    times_E = np.zeros(len(total_EC), np.int64)
    for path in tables:
        for chunk, place_P, before in _chunks(path, dataset):
            said_PC = _said(chunk, task, path, before, as_trained)
            known_P = place_P >= 0
            np.add.at(total_EC, place_P[known_P], said_PC[known_P])
            np.add.at(times_E, place_P[known_P], 1)
    return Predictions(total_EC / np.maximum(times_E, 1)[:, None], times_E)


def named_in(path: Path, dataset: Dataset) -> Bools:
    """Return which examples a table contains, ``[E]``."""
    named_E = np.zeros(dataset.examples.num_rows, bool)
    for _, place_P, _ in _chunks(path, dataset):
        named_E[place_P[place_P >= 0]] = True
    return named_E


def _chunks(path: Path, dataset: Dataset) -> Iterator[tuple[pa.Table, Int64, int]]:
    """Read a table in chunks, each with its pairs' rows in the examples and the number of rows before it."""
    before = 0
    for chunk in read_chunks(path, CHUNK_ROWS, known=KNOWN):
        yield chunk, _places(chunk, dataset, path, before), before
        before += chunk.num_rows


def _places(chunk: pa.Table, dataset: Dataset, path: Path, before: int) -> Int64:
    """Find the row of each pair in the examples, ``[P]``; -1 where there is none."""
    keys = next((keys for keys in KEYS if set(keys) <= set(chunk.column_names)), None)
    if keys is None:
        raise UserError(
            f"has no column {schema.EXAMPLE_ID!r} to know the pairs by.",
            file=path,
            remedy=f"It has: {', '.join(chunk.column_names)}. Or: {schema.QUERY_ID}, {schema.PRODUCT_ID}, "
            f"{schema.LOCALE}.",
        )
    places = pc.index_in(_joined(chunk, keys), value_set=_joined(dataset.examples, keys))
    place_P: Int64 = pc.fill_null(places, -1).to_numpy().astype(np.int64)
    if len(keys) == 1 and schema.PRODUCT_ID in chunk.column_names:  # ids that were counted may be of other pairs
        known = np.flatnonzero(place_P >= 0)
        given, ours = (
            _joined(table, (schema.PRODUCT_ID,)).take(pa.array(rows))
            for table, rows in ((chunk, known), (dataset.examples, place_P[known]))
        )
        other = np.flatnonzero(pc.fill_null(pc.not_equal(given, ours), True).to_numpy(zero_copy_only=False))
        if len(other):
            raise UserError(
                f"the example is of product {given[other[0]].as_py()!r}, and in {dataset.folder} of "
                f"{ours[other[0]].as_py()!r}.",
                file=path,
                row=before + int(known[other[0]]) + 1,
                remedy="Give predictions of the dataset that is trained on.",
            )
    return place_P


def _joined(table: pa.Table, keys: tuple[str, ...]) -> Any:
    columns = [pc.utf8_trim_whitespace(table.column(key).cast(pa.large_string()).combine_chunks()) for key in keys]
    return pc.binary_join_element_wise(*columns, pa.scalar("\t", pa.large_string()))


def _said(chunk: pa.Table, task: Task, path: Path, before: int, uncalibrated: bool) -> Doubles:
    """Read the task's probabilities or gains, ``[P, C]``; for `substitute` also from a four-class model."""
    names = {"gain": ["gain"], "substitute": ["p_S"]}.get(task.name) or [f"p_{name}" for name in task.classes]
    names = names_as_trained(names, chunk.column_names) if uncalibrated else names
    missing = [name for name in names if name not in chunk.column_names]
    if missing:
        raise UserError(f"has no column {missing[0]!r}, which the task {task.name!r} needs.", file=path, remedy=REMEDY)
    try:
        said_PC = np.stack([chunk.column(name).cast(pa.float64()).to_numpy() for name in names], axis=1)
    except pa.ArrowInvalid as error:
        raise UserError(f"holds a prediction that is no number ({error}).", file=path, remedy=REMEDY) from error
    if task.name == "substitute":
        said_PC = np.concatenate([1 - said_PC, said_PC], axis=1)
    inside_PC = (said_PC >= 0) & (said_PC <= 1)  # written so that NaN fails too
    right_P = inside_PC.all(axis=1) & ((task.outputs == 1) | (np.abs(said_PC.sum(axis=1) - 1) < 1e-3))
    if not right_P.all():
        row = int(np.flatnonzero(~right_P)[0])
        problem = f"{', '.join(names)} = {', '.join(f'{value:g}' for value in said_PC[row])} cannot be."
        remedy = "Probabilities lie between 0 and 1 and add up to 1; a gain lies between 0 and 1."
        raise UserError(problem, file=path, row=before + row + 1, remedy=remedy)
    return said_PC


def names_as_trained(names: Sequence[str], there: Sequence[str]) -> list[str]:
    """Name the columns of what was predicted before any calibration; without one they are the only ones."""
    return [AS_TRAINED + name if AS_TRAINED + name in there else name for name in names]


PREDICTIONS_FILE: Final = "predictions.parquet"
# Columns of the predictions as they were trained, in a table whose others are calibrated.
AS_TRAINED: Final = "as_trained_"
POOL_METADATA: Final = b"zhichun pool"  # key under which a table of `zhichun pool` names its teacher


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """The out-of-fold prediction of each judged training pair.

    Attributes
    ----------
    rows_P
        The pairs' rows of ``examples.parquet``, ascending.
    probabilities_PC
        Of the labels in the order of `schema.LABELS`.
    """

    rows_P: Int64
    probabilities_PC: Doubles


def fold_path(runs: Path, fold: int) -> Path:
    """Return the run folder of a fold, in the folder of the runs of all folds."""
    return runs / f"fold-{fold}"


def nested_path(runs: Path, fold: int, other: int) -> Path:
    """Return the folder of the run that left out two folds, in the folder of the runs of all folds."""
    return runs / f"nested-{min(fold, other)}-{max(fold, other)}"


def is_of_all_folds(run: Path, dataset: Dataset) -> bool:
    """Tell that a run is of one fold, and that those of all others are beside it."""
    tables = [fold_path(run.parent, fold) / PREDICTIONS_FILE for fold in range(fold_count(dataset))]
    return run / PREDICTIONS_FILE in tables and all(map(Path.is_file, tables))


def fold_count(dataset: Dataset) -> int:
    """Return the number of folds of a dataset."""
    return int(dataset.manifest["options"]["folds"])


def read_out_of_fold(dataset: Dataset, runs: Path) -> OutOfFold:
    """Collect the out-of-fold probabilities of the four labels, as they were before any calibration.

    Parameters
    ----------
    dataset
        The dataset that all runs were trained on.
    runs
        Folder with the runs ``fold-0``, ``fold-1`` …, as `zhichun.fit.folds.train_folds` makes them.

    Returns
    -------
    OutOfFold
        One prediction for each judged training pair.

    Raises
    ------
    UserError
        If a run is missing or unfinished, has another task, fold or dataset, has a pair of another
        fold, or lacks one. The message names the run.
    """
    judged = (dataset.column(schema.SPLIT) == schema.TRAIN) & (dataset.column(schema.ORIGIN) == schema.JUDGED)
    rows_P = np.flatnonzero(judged)
    if not len(rows_P):
        remedy = "Prepare judgements of which some are for training."
        raise UserError("there is no judged training pair.", file=dataset.folder, remedy=remedy)
    probabilities_PC = np.full((len(rows_P), len(schema.LABELS)), np.nan)
    for fold in range(fold_count(dataset)):
        _read_run(fold_path(runs, fold), fold, dataset, rows_P, probabilities_PC)
    return OutOfFold(rows_P, probabilities_PC)


def read_nested(dataset: Dataset, runs: Path) -> dict[tuple[int, int], Doubles]:
    """Collect what the runs that left out two folds say of these.

    Parameters
    ----------
    dataset, runs
        As for `read_out_of_fold`.

    Returns
    -------
    dict
        By both folds, the lower one first, the probabilities of the pairs of `read_out_of_fold`; NaN for those of other
        folds. Empty where there is no such run.

    Raises
    ------
    UserError
        As `read_out_of_fold`.
    """
    both = list(combinations(range(fold_count(dataset)), 2))
    if not any(nested_path(runs, *folds).exists() for folds in both):
        return {}
    rows_P = read_out_of_fold(dataset, runs).rows_P
    found = {folds: np.full((len(rows_P), len(schema.LABELS)), np.nan) for folds in both}
    for folds, probabilities_PC in found.items():
        _read_run(nested_path(runs, *folds), list(folds), dataset, rows_P, probabilities_PC)
    return found


def _read_run(run: Path, fold: int | list[int], dataset: Dataset, rows_P: Int64, probabilities_PC: Doubles) -> None:
    """Put what a run says of what it held out into its places."""
    _check_run(run, fold, dataset)
    own = np.flatnonzero(dataset.held_out(fold)[rows_P])
    said = read_predictions([run / PREDICTIONS_FILE], dataset, TASKS["esci"], as_trained=True)
    wanted_E = np.zeros(len(dataset.examples))
    wanted_E[rows_P[own]] = 1
    for row in np.flatnonzero(said.times_E != wanted_E)[:1]:
        what = "is not a training pair of this fold" if not wanted_E[row] else "is predicted twice"
        raise UserError(
            f"the pair with {schema.EXAMPLE_ID} {dataset.column(schema.EXAMPLE_ID)[row]} "
            f"{what if said.times_E[row] else 'is not predicted'}.",
            file=run / PREDICTIONS_FILE,
            remedy="The run is damaged: delete it and train it again.",
        )
    probabilities_PC[own] = said.mean_EC[rows_P[own]]


def _check_run(run: Path, fold: int | list[int], dataset: Dataset) -> None:
    remedy = "Train or resume it: zhichun train RECIPE --folds K --resume; or zhichun audit RECIPE."
    if not (run / "model").is_dir():  # the last that training writes
        raise UserError(f"there is no finished run of fold {fold}.", file=run, remedy=remedy)
    task = read_json(run / "recipe.json", {"task": str})["task"]
    if task != "esci":
        problem = f"the run's task is {task!r}, which does not tell the four labels apart."
        raise UserError(problem, file=run, remedy="Train runs of the task 'esci', such as kdd2022:task2 or tiny.")
    if (held_out := held_out_by(run)) != fold:
        remedy = "Name a folder made with: zhichun train RECIPE --folds K"
        raise UserError(f"the run held out fold {held_out}, not {fold}.", file=run, remedy=remedy)
    require_trained_on(run, dataset.folder)


def held_out_by(run: Path) -> int | list[int] | None:
    """Return the fold or folds that a run held out, as its recipe says."""
    recipe = read_json(run / "recipe.json", {"train": {"validation_fold": int | list | NoneType}})
    fold: int | list[int] | None = recipe["train"]["validation_fold"]
    return fold


def require_trained_on(run: Path, data: Path) -> None:
    """Refuse a run of another dataset, whose folds are of other queries."""
    folder, manifest = trained_on(run, "Name the run folder that zhichun train made.")
    if manifest != sha256(data / schema.MANIFEST_FILE):
        remedy = f"It was trained on {folder}."
        raise UserError(f"the run was trained on another dataset than {data}.", file=run, remedy=remedy)


def trained_on(run: Path, remedy: str) -> tuple[Path, str]:
    """Return the dataset folder that a run was trained on, and the hash of its manifest; on the hub no run says it."""
    path = run / "environment.json"
    if not path.exists():
        raise UserError("does not say which dataset it was trained on.", file=run, remedy=remedy)
    recorded = read_json(path, {"dataset": {"folder": str, "manifest": str}})["dataset"]
    return Path(recorded["folder"]), recorded["manifest"]
