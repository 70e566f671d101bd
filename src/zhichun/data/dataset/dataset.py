"""Reading a dataset folder that `zhichun prepare` wrote.

Texts stay on disk; memory holds one number per pair and column. Reading needs only pyarrow.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zhichun.core import schema
from zhichun.core.arrays import Int32
from zhichun.core.errors import UserError, suggest
from zhichun.core.files import read_json
from zhichun.data.dataset.query_folds import BUCKETS, VALIDATION_BUCKET, buckets_of
from zhichun.text.document import COUNTRIES

BATCH_ROWS = 8192
REMEDY = "Make the dataset folder with: zhichun prepare SOURCE DIR"


@dataclass(frozen=True)
class Dataset:
    """An open dataset folder.

    Parameters
    ----------
    folder
        The folder.
    examples
        ``examples.parquet``, whole.
    manifest
        ``manifest.json``: sources, options and counts.
    """

    folder: Path
    examples: pa.Table
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "Dataset":
        """Open a dataset folder.

        Raises
        ------
        UserError
            When it is not one, or a file in it is missing or truncated.
        """
        manifest = folder / "manifest.json"
        if not manifest.is_file():
            raise UserError("not a dataset folder: there is no manifest.json.", file=folder, remedy=REMEDY)
        examples = read_parquet(folder / schema.EXAMPLES_FILE, REMEDY)
        missing = [
            name for name in (*schema.EXAMPLE_COLUMNS, *schema.PREPARED_COLUMNS) if name not in examples.column_names
        ]
        if missing:
            raise UserError(f"lacks the columns {missing}.", file=folder / schema.EXAMPLES_FILE, remedy=REMEDY)
        return cls(folder, examples, read_json(manifest))

    def column(self, name: str) -> npt.NDArray[Any]:
        """One column of the examples as numpy."""
        values: npt.NDArray[Any] = self.examples.column(name).to_numpy()
        return values

    @cached_property
    def queries(self) -> pa.Array:
        """The distinct query texts, in order of first appearance."""
        return self._query_codes.dictionary

    @cached_property
    def query_row(self) -> Int32:
        """Row of each pair's text in :attr:`queries`."""
        return self._query_codes.indices.to_numpy().astype(np.int32)

    @cached_property
    def _query_codes(self) -> pa.DictionaryArray:
        return pc.dictionary_encode(self.examples.column(schema.QUERY).combine_chunks())

    @cached_property
    def product_row(self) -> Int32:
        """Row of each pair's product in ``products.parquet``.

        Raises
        ------
        UserError
            When a pair names a product that is not there.
        """
        path = self.folder / schema.PRODUCTS_FILE
        catalogue = product_keys(read_parquet(path, columns=[schema.PRODUCT_ID, schema.LOCALE]))
        rows = pc.index_in(product_keys(self.examples), value_set=catalogue)
        if rows.null_count:
            row = int(np.flatnonzero(rows.is_null().to_numpy(zero_copy_only=False))[0])
            raise UserError(
                "a pair names a product that products.parquet lacks.",
                file=self.folder / schema.EXAMPLES_FILE,
                row=row + 1,
                remedy="Make the dataset folder again with: zhichun prepare",
            )
        return rows.to_numpy().astype(np.int32)

    @cached_property
    def country(self) -> Int32:
        """Row of each pair's locale in the country table."""
        known = _codes(self.examples.column(schema.LOCALE), schema.LOCALES)
        return pc.fill_null(known, len(COUNTRIES) - 1).to_numpy().astype(np.int32)

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """Each pair's label as its place in `schema.LABELS`."""
        codes = _codes(self.examples.column(schema.LABEL), schema.LABELS)
        if codes.null_count:
            raise UserError("holds a label that is not E, S, C or I.", file=self.folder / schema.EXAMPLES_FILE)
        return codes.to_numpy().astype(np.int64)

    def buckets(self, count: int) -> npt.NDArray[np.int64]:
        """Each pair's hash bucket by query, the same on every machine."""
        of_query = buckets_of(self.queries.to_pylist(), count)
        return of_query[self.query_row]

    def held_out(self, fold: int | None) -> npt.NDArray[np.bool_]:
        """Return which pairs belong to the queries of a fold or, where it is ``None``, to one twentieth of all."""
        if fold is None:
            return self.buckets(BUCKETS) == VALIDATION_BUCKET
        return self.column(schema.FOLD) == fold

    def split(self, validation_fold: int | None) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Split the training split into training and validation rows, by query.

        Returns
        -------
        training, validation
            Rows of the examples. Synthetic rows (by balancing or translation) are never validated on,
            and those of weight 0 (what `prepare --drop-issues` was given) never trained on.

        Raises
        ------
        UserError
            When either is empty.
        """
        in_training = self.column(schema.SPLIT) == schema.TRAIN
        held_out = self.held_out(validation_fold)
        training = np.flatnonzero(in_training & ~held_out & (self.column(schema.WEIGHT) > 0))
        validation = np.flatnonzero(in_training & held_out & (self.column(schema.ORIGIN) == schema.JUDGED))
        for rows, what in ((training, "to train on"), (validation, "to validate on")):
            if not len(rows):
                folds = np.unique(self.column(schema.FOLD)[in_training & (self.column(schema.ORIGIN) == schema.JUDGED)])
                other = f", or hold out another fold with --set train.validation_fold={folds.max(initial=0)}"
                remedy = f"Prepare more queries{other if len(folds) > 1 else ''}."
                raise UserError(f"there is no pair {what}.", file=self.folder, remedy=remedy)
        return training, validation

    def of_version(
        self, rows: npt.NDArray[np.int64], version: str | None, *, ranking: bool
    ) -> tuple[str, npt.NDArray[np.int64]]:
        """Select the pairs of a version of the dataset: task 1, ranking, is measured on the small one.

        Parameters
        ----------
        rows
            Of the examples.
        version
            ``small``, ``large`` or ``all``; ``None`` is ``small`` if ranking is measured and some of the pairs, but
            not all, belong to it, and otherwise ``all``.
        ranking
            Whether task 1 is measured.

        Raises
        ------
        UserError
            When there is no such version, or it has none of the pairs.
        """
        columns = {"small": schema.SMALL, "large": schema.LARGE}
        if version not in (None, "all", *columns):
            raise UserError(f"there is no version {version!r}.", remedy=suggest(str(version), ("all", *columns)))
        if version == "all" or (version is None and not ranking):
            return "all", rows
        taken = rows[self.column(columns[version or "small"])[rows] == 1]
        if version is None:
            return ("small", taken) if 0 < len(taken) < len(rows) else ("all", rows)
        if not len(taken):
            raise UserError(f"no pair is of the {version} version.", file=self.folder, remedy="Use --version all.")
        return version, taken

    @cached_property
    def product_count(self) -> int:
        """Products in the catalogue."""
        return int(read_parquet(self.folder / schema.PRODUCTS_FILE, columns=[]).num_rows)

    def product_batches(self, *more: str) -> Iterator[pa.RecordBatch]:
        """Read the catalogue in batches, in row order.

        Parameters
        ----------
        *more
            Columns to read besides those of the official layout, such as the origin.

        Raises
        ------
        UserError
            When it is missing, damaged or lacks a column.
        """
        path = self.folder / schema.PRODUCTS_FILE
        try:
            file = pq.ParquetFile(path)
            columns = [*schema.PRODUCT_COLUMNS, *more]
            missing = [name for name in columns if name not in file.schema_arrow.names]
            if missing:
                raise UserError(f"lacks the columns {missing}.", file=path, remedy=REMEDY)
            yield from file.iter_batches(BATCH_ROWS, columns=columns)
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"cannot be read as Parquet ({error}).", file=path, remedy=REMEDY) from error


def _codes(column: pa.ChunkedArray, values: tuple[str, ...]) -> pa.ChunkedArray:
    return pc.index_in(pc.cast(column, pa.large_string()), value_set=pa.array(values, pa.large_string()))


def product_keys(table: pa.Table) -> pa.ChunkedArray:
    """Locale and id of each row as one text: the key of a product."""
    parts = [pc.cast(table.column(name), pa.large_string()) for name in (schema.LOCALE, schema.PRODUCT_ID)]
    return pc.binary_join_element_wise(*parts, pa.scalar("\t", pa.large_string()))


def read_parquet(path: Path, remedy: str = "", columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file.

    Raises
    ------
    UserError
        When it is missing, truncated or not Parquet.
    """
    if not path.is_file():
        raise UserError("there is no such file.", file=path, remedy=remedy)
    try:
        return pq.read_table(path, columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"cannot be read as Parquet ({error}).", file=path, remedy="It may be cut off; get or make it again."
        ) from error
