"""What other models say of the pairs of a dataset: tables of predictions, joined with its examples.

A pair is known by ``example_id`` where a table has that column, and otherwise by query, product and locale.

Legend: ``E`` examples of the dataset, ``C`` classes, 1 for the regressor; ``P`` rows of a table.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.tasks import Task
from zhichun.data.dataset.dataset import Dataset
from zhichun.data.dataset.out_of_fold import PREDICTIONS_FILE
from zhichun.data.readers.pair_tables import read_chunks

CHUNK_ROWS: Final = 1_000_000
OF_PRODUCT: Final = (schema.PRODUCT_ID, schema.LOCALE)
KEYS: Final = ((schema.EXAMPLE_ID,), (schema.QUERY_ID, *OF_PRODUCT), (schema.QUERY, *OF_PRODUCT))
KNOWN: Final = sorted({name for keys in KEYS for name in keys})
REMEDY: Final = "Make it again with `zhichun train` or `zhichun score`, without --prefix."
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Predictions:
    """What tables say of a dataset's examples.

    Parameters
    ----------
    mean_EC
        Mean of what is said of each example: probabilities of the task's classes, or the gain; 0 where nothing is.
    times_E
        How often each example was named.
    """

    mean_EC: Doubles
    times_E: npt.NDArray[np.int64]


def find_tables(places: Iterable[str]) -> list[Path]:
    """Find the tables that are meant.

    Parameters
    ----------
    places
        Tables; run folders, whose ``predictions.parquet`` is meant; or folders of the runs of all folds.

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
            raise UserError(
                "holds no predictions." if place.is_dir() else "there is no such file or folder.",
                file=place,
                remedy=f"Name a finished run, a folder with fold-*/{PREDICTIONS_FILE}, or a table of `zhichun score`.",
            )
        found += tables
    return found


def read_predictions(tables: Iterable[Path], dataset: Dataset, task: Task) -> Predictions:
    """Read tables and take the mean of what they say of each example; pairs of other data are passed over.

    Raises
    ------
    UserError
        For a table that cannot be read, lacks a column, was made of other data, or holds what is no probability.
    """
    total_EC = np.zeros((dataset.examples.num_rows, task.outputs))
    times_E = np.zeros(len(total_EC), np.int64)
    for path in tables:
        before = 0
        for chunk in read_chunks(path, CHUNK_ROWS, known=KNOWN):
            place_P = _places(chunk, dataset, path, before)
            said_PC = _said(chunk, task, path, before)
            known_P = place_P >= 0
            np.add.at(total_EC, place_P[known_P], said_PC[known_P])
            np.add.at(times_E, place_P[known_P], 1)
            before += chunk.num_rows
    return Predictions(total_EC / np.maximum(times_E, 1)[:, None], times_E)


def named_in(path: Path, dataset: Dataset) -> npt.NDArray[np.bool_]:
    """Tell which examples a table names, ``[E]``."""
    named_E = np.zeros(dataset.examples.num_rows, bool)
    before = 0
    for chunk in read_chunks(path, CHUNK_ROWS, known=KNOWN):
        place_P = _places(chunk, dataset, path, before)
        named_E[place_P[place_P >= 0]] = True
        before += chunk.num_rows
    return named_E


def _places(chunk: pa.Table, dataset: Dataset, path: Path, before: int) -> npt.NDArray[np.int64]:
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
    place_P: npt.NDArray[np.int64] = pc.fill_null(places, -1).to_numpy().astype(np.int64)
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


def _said(chunk: pa.Table, task: Task, path: Path, before: int) -> Doubles:
    """Take the task's probabilities or gains, ``[P, C]``; a four-class model tells substitutes from others too."""
    names = {"gain": ["gain"], "substitute": ["p_S"]}.get(task.name) or [f"p_{name}" for name in task.classes]
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
        raise UserError(
            f"{', '.join(names)} = {', '.join(f'{value:g}' for value in said_PC[row])} cannot be.",
            file=path,
            row=before + row + 1,
            remedy="Probabilities lie between 0 and 1 and add up to 1; a gain lies between 0 and 1.",
        )
    return said_PC
