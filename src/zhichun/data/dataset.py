"""Reading a dataset folder that `zhichun prepare` wrote, and its folds and test split, from a hash of the query.

Texts stay on disk; memory holds one number per pair and column. Reading needs only pyarrow.

The hash of a query selects one of 20 buckets; four buckets are a fold of five, and bucket 0 is the one twentieth on
which the final models validate (docs/method.md: 10 buckets, two a fold; these are halves of them). Queries that
differ in case, white space or Unicode form are one query here, in every locale, so that no test query is
in training.

The hash is BLAKE2b: the same on every machine and in every version of Python, unlike ``hash``.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zhichun.core import schema
from zhichun.core.arrays import Bools, Int32, Int64
from zhichun.core.errors import UserError, readable, suggest
from zhichun.core.files import read_json
from zhichun.text.fold import fold_query
from zhichun.text.pairs import COUNTRIES, PairTexts

# Called with what is done, how much of it, and the whole.
Progress = Callable[[str, int, int], None]

BATCH_ROWS = 8192
Fold = int | Sequence[int] | None
REMEDY = "Make the dataset folder with: zhichun prepare SOURCE DIR"

BUCKETS: Final = 20
# The validation set of a model that is trained on all five folds.
VALIDATION_BUCKET: Final = 0
_MAX_FOLDS: Final = 127  # folds are stored as int8

# One hash for folds and another for the split: with the same, the test set would be taken from some folds only.
_FOLD_SALT: Final = b"fold"
_SPLIT_SALT: Final = b"split"


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
    pool
        Hash of the table of `zhichun pool` whose pairs are among the examples, if there is one.
    """

    folder: Path
    examples: pa.Table
    manifest: dict[str, Any]
    pool: tuple[str, ...] = ()

    @classmethod
    def open(cls, folder: Path) -> "Dataset":
        """Open a dataset folder.

        Raises
        ------
        UserError
            When it is not one, or a file in it is missing or truncated.
        """
        manifest = folder / schema.MANIFEST_FILE
        if not manifest.is_file():
            raise UserError("not a dataset folder: there is no manifest.json.", file=folder, remedy=REMEDY)
        examples = read_parquet(folder / schema.EXAMPLES_FILE, REMEDY)
        missing = [
            name for name in (*schema.EXAMPLE_COLUMNS, *schema.PREPARED_COLUMNS) if name not in examples.column_names
        ]
        if missing:
            raise UserError(f"lacks the columns {missing}.", file=folder / schema.EXAMPLES_FILE, remedy=REMEDY)
        return cls(folder, examples, read_json(manifest, {"options": {"folds": int, "locale": str}}, REMEDY))

    def fingerprint(self, *parts: str) -> str:
        """Hash the dataset, whose manifest has the hashes of all sources and all options, and further parts."""
        digest = hashlib.sha256((self.folder / schema.MANIFEST_FILE).read_bytes())
        for part in parts:
            digest.update(part.encode())
        return digest.hexdigest()[:16]

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
    def list_row(self) -> Int32:
        """List of each pair, that of its query; one that balancing or translation made is in a list by itself."""
        list_of = np.unique(self.column(schema.QUERY_ID), return_inverse=True)[1]
        judged = pa.array([schema.JUDGED, schema.ADDED, schema.TEACHER])
        real = pc.is_in(self.examples.column(schema.ORIGIN), value_set=judged)
        return np.where(real.to_numpy(), list_of, len(list_of) + np.arange(len(list_of))).astype(np.int32)

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
            problem = "a pair names a product that products.parquet lacks."
            remedy = "Make the dataset folder again with: zhichun prepare"
            raise UserError(problem, file=self.folder / schema.EXAMPLES_FILE, row=row + 1, remedy=remedy)
        return rows.to_numpy().astype(np.int32)

    @cached_property
    def country(self) -> Int32:
        """Row of each pair's locale in the country table."""
        known = _codes(self.examples.column(schema.LOCALE), schema.LOCALES)
        return pc.fill_null(known, len(COUNTRIES) - 1).to_numpy().astype(np.int32)

    @cached_property
    def labels(self) -> Int64:
        """Each pair's label as its place in `schema.LABELS`."""
        codes = _codes(self.examples.column(schema.LABEL), schema.LABELS)
        if codes.null_count:
            raise UserError("holds a label that is not E, S, C or I.", file=self.folder / schema.EXAMPLES_FILE)
        return codes.to_numpy().astype(np.int64)

    def buckets(self, count: int) -> Int64:
        """Each pair's hash bucket by query, the same on every machine."""
        return buckets_of(self.queries.to_pylist(), count)[self.query_row]

    def held_out(self, fold: Fold) -> Bools:
        """Return which pairs belong to the queries of a fold, or several, or (``None``) to one twentieth of all."""
        if fold is None:
            return self.buckets(BUCKETS) == VALIDATION_BUCKET
        return np.isin(self.column(schema.FOLD), fold)

    def split(self, validation_fold: Fold) -> tuple[Int64, Int64]:
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

    def of_version(self, rows: Int64, version: str | None, *, ranking: bool) -> tuple[str, Int64]:
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
        with readable(path, REMEDY):
            file = pq.ParquetFile(path)
            columns = [*schema.PRODUCT_COLUMNS, *more]
            missing = [name for name in columns if name not in file.schema_arrow.names]
            if missing:
                own = [name for name in missing if name not in (*schema.PRODUCT_COLUMNS, schema.ORIGIN)]
                remedy = f"{REMEDY} --keep {','.join(own)}" if own else REMEDY
                raise UserError(f"lacks the columns {missing}.", file=path, remedy=remedy)
            yield from file.iter_batches(BATCH_ROWS, columns=columns)

    def products_at(self, rows: npt.NDArray[np.integer], *more: str) -> tuple[pa.Table, Int64]:
        """Read some rows of the catalogue in one pass: each of them once, and where it stands there for every row."""
        wanted, place_R = np.unique(rows, return_inverse=True)
        parts, before = [], 0
        for batch in self.product_batches(*more):
            first, last = np.searchsorted(wanted, (before, before + batch.num_rows))
            parts.append(batch.take(pa.array(wanted[first:last] - before)))
            before += batch.num_rows
        return pa.Table.from_batches(parts), place_R

    def texts(self, rows: Int64, *own: str) -> PairTexts:
        """Return the texts of pairs, of products with columns of ``own``.

        Of the catalogue, which is read once, only their products are kept.
        """
        found, place_P = self.products_at(self.product_row[rows], *own)
        columns = {name: found.column(name).to_pylist() for name in (*schema.TEXT_COLUMNS, *own)}
        products = {name: [column[place] for place in place_P.tolist()] for name, column in columns.items()}
        queries = self.queries.take(pa.array(self.query_row[rows])).to_pylist()
        return PairTexts(queries, products, self.column(schema.LOCALE)[rows].tolist())


def _codes(column: pa.ChunkedArray, values: tuple[str, ...]) -> pa.ChunkedArray:
    return pc.index_in(pc.cast(column, pa.large_string()), value_set=pa.array(values, pa.large_string()))


def of_catalogue(products: Any) -> Any:
    """Leave out the products that a step made for training: they are in no shop."""
    if schema.ORIGIN not in products.schema.names:
        return products
    return products.filter(pc.equal(products.column(schema.ORIGIN), schema.CATALOGUE))


def product_keys(table: pa.Table | pa.RecordBatch) -> Any:
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
    with readable(path, "It may be cut off; get or make it again."):
        return pq.read_table(path, columns=columns)


def query_bucket(query: str, buckets: int = BUCKETS) -> int:
    """Return the bucket of a query."""
    return _hash(query, _FOLD_SALT) % buckets


def query_fold(query: str, folds: int = 5) -> int:
    """Return the fold of a query."""
    return query_bucket(query, folds) if BUCKETS % folds else query_bucket(query) * folds // BUCKETS


def buckets_of(queries: Sequence[str], buckets: int = BUCKETS) -> Int64:
    """Return the buckets of many queries; see `query_bucket`."""
    return np.fromiter((query_bucket(query, buckets) for query in queries), np.int64, len(queries))


def in_test(query: str, test_share: float) -> bool:
    """Return whether a query is in the test split, by a hash that is independent of its fold."""
    return _hash(query, _SPLIT_SALT) < test_share * 2**64


def least_share(query: str) -> float:
    """Return the smallest test share that includes a query."""
    return _hash(query, _SPLIT_SALT) / 2**64


def check_folds(folds: int) -> None:
    """Refuse an invalid number of folds."""
    if not 2 <= folds <= _MAX_FOLDS:
        raise UserError(f"folds={folds} cannot be", remedy=f"Give a whole number from 2 to {_MAX_FOLDS}; 5 is usual.")


def _hash(query: str, salt: bytes) -> int:
    # A lone surrogate cannot be encoded, yet must not crash.
    key = fold_query(query).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(key, digest_size=8, person=salt).digest(), "big")


def no_progress(what: str, done: int, total: int) -> None:
    """Report nothing."""
