"""Files of values and how often each was seen: what a vocabulary is kept in.

One Parquet file per vocabulary, a row per entry in the order of its ids, the first row being id 1. Id 0 has no row.
Legend: ``V`` entries.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from zhichun.core.errors import UserError
from zhichun.core.files import new_file

COUNT = "count"
REMEDY = "Write the vocabularies again from the dataset, or copy the whole model folder again."


def write_counted(path: Path, column: str, values: Sequence[str], counts_V: npt.NDArray[np.int64]) -> None:
    """Write a vocabulary; the file appears under its name only when it is whole.

    Parameters
    ----------
    path
        The file to write; one of that name is replaced.
    column
        Name of the column of values.
    values, counts_V
        Entries in the order of their ids, from id 1.

    Raises
    ------
    UserError
        When the file cannot be written.
    """
    table = pa.table({column: pa.array(values, pa.string()), COUNT: pa.array(counts_V, pa.int64())})
    try:
        with new_file(path) as partial:
            pq.write_table(table, partial, compression="zstd")
    except OSError as error:
        remedy = "Free space or make the folder writable, and run again."
        raise UserError(f"the vocabulary cannot be written ({error}).", file=path, remedy=remedy) from error


def read_counted(path: Path, column: str) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Read what :func:`write_counted` wrote.

    Returns
    -------
    values : list[str]
        Entries from id 1; none is empty and none comes twice.
    counts_V : NDArray[int64]
        How often each was seen.

    Raises
    ------
    UserError
        When the file is missing, damaged or not a vocabulary.
    """
    try:
        table = pq.ParquetFile(path).read()
        table.validate(full=True)
    except FileNotFoundError as error:
        raise UserError("the vocabulary is missing.", file=path, remedy=REMEDY) from error
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"not a readable vocabulary ({error}).", file=path, remedy=REMEDY) from error
    types = dict(zip(table.schema.names, table.schema.types, strict=True))
    if types.get(column) != pa.string() or types.get(COUNT) != pa.int64():
        problem = f"a vocabulary has the columns {column!r} (string) and {COUNT!r} (int64), not {table.schema.names}."
        raise UserError(problem, file=path, remedy=REMEDY)
    values: list[str] = table.column(column).to_pylist()
    _refuse_faulty_rows(path, values, table.column(COUNT).to_pylist())
    return values, table.column(COUNT).to_numpy()


def _refuse_faulty_rows(path: Path, values: Sequence[str | None], counts: Sequence[int | None]) -> None:
    seen: set[str] = set()
    for row, (value, count) in enumerate(zip(values, counts, strict=True), start=1):
        if not value or count is None or count < 0 or value in seen:
            fault = "comes twice" if value in seen else f"with count {count!r} is not an entry"
            raise UserError(f"{value!r} {fault}.", file=path, row=row, remedy=REMEDY)
        seen.add(value)
