"""Cleans a catalogue in batches, of which only the ids stay in memory; for ranking and look-ups, the whole of it."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.data.dataset import read_parquet
from zhichun.data.readers import rejected as reasons
from zhichun.data.readers.rejected import OnBadRows, Refusal, RejectedRows, Say, check_on_bad_rows, silent
from zhichun.data.readers.sources import PRODUCTS, describe_columns, kept_columns, match_columns, open_table
from zhichun.data.readers.table import Batch, Table
from zhichun.text.clean import clean_column
from zhichun.text.fold import MAY_BE_MISSING, are_missing, fold_locales, trim_ids

PRODUCTS_SCHEMA: Final = pa.schema([(name, pa.string()) for name in (*schema.PRODUCT_COLUMNS, schema.ORIGIN)])


def read_catalogue(
    path: Path,
    *,
    locale: str = "us",
    columns: Mapping[str, str] | None = None,
    on_bad_rows: OnBadRows = "fail",
    keep: Sequence[str] = (),
    say: Say = silent,
) -> pa.Table:
    """Read products, cleaned as `prepare` cleans them.

    Parameters
    ----------
    path
        CSV, TSV, JSON Lines or Parquet; or a dataset folder, or one in the official layout.
    locale
        Locale of products without one.
    columns
        Column names: ``{"title": "name"}``.
    on_bad_rows
        Whether invalid products are an error (``fail``) or are left out and counted (``drop``).
    keep
        Further columns to keep as they are.
    say
        Called with lines for the user: which columns are used for what, and how many products are left out.

    Returns
    -------
    pyarrow.Table
        With `schema.PRODUCT_COLUMNS` and ``origin``.

    Raises
    ------
    UserError
        For a file that cannot be read, and for rows that cannot be used.
    """
    check_on_bad_rows(on_bad_rows)
    # A dataset folder is cleaned already, and says which products steps made.
    if not columns and (path / schema.MANIFEST_FILE).is_file():
        return require_kept(read_parquet(products_file(path)), keep, path)
    table = open_table(products_file(path))
    matched = match_columns(columns or {}, {PRODUCTS: table})[PRODUCTS]
    for line in describe_columns(PRODUCTS, matched, table, keep=keep):
        say(line)
    rejected = RejectedRows(None)
    catalogue = CleanCatalogue(table, matched, locale, rejected, keep)
    products = pa.Table.from_batches(catalogue.batches(), catalogue.schema)
    if rejected.bad and on_bad_rows == "fail":
        raise rejected.failure()
    for line in (*catalogue.described(), *([f"left out: {rejected.said()}"] if rejected.bad else [])):
        say(f"{table.path.name}: {line}")
    return products


def products_file(path: Path) -> Path:
    """Find the table of products in a dataset folder or one in the official layout; a file is returned as it is."""
    if not path.is_dir():
        return path
    names = (schema.PRODUCTS_FILE, schema.OFFICIAL_PRODUCTS_FILE)
    return next((path / name for name in names if (path / name).is_file()), path / names[0])


def require_kept(products: pa.Table, keep: Sequence[str], folder: Path) -> pa.Table:
    """Refuse a dataset folder's products without columns that a stack reads."""
    if missing := [name for name in keep if name not in products.column_names]:
        remedy = f"Prepare it with: zhichun prepare … --keep {','.join(missing)}"
        raise UserError(f"lacks the columns {missing}.", file=folder / schema.PRODUCTS_FILE, remedy=remedy)
    return products


class CleanCatalogue:
    """The products of a table with cleaned texts, in the official schema, and their counts.

    Parameters
    ----------
    table, columns
        The table, and its columns by official name.
    locale
        Locale of products without one.
    rejected
        Collects the rows that cannot be used.
    keep
        Further columns to keep as they are, under these names.

    Attributes
    ----------
    schema
        Of the products.
    by_locale
        Products that were kept, by locale.
    with_text
        Products with a text in each column; ``any`` is in at least one.
    missing_words
        Values of each column that mean missing, such as ``NULL``, and became empty.
    """

    def __init__(
        self, table: Table, columns: Mapping[str, str], locale: str, rejected: RejectedRows, keep: Sequence[str] = ()
    ) -> None:
        if twice := [name for name, count in Counter([*PRODUCTS_SCHEMA.names, *keep]).items() if count > 1]:
            remedy = "Name a column once, and none of those that a dataset has anyway; rename one of your own."
            raise UserError(f"the column {twice[0]!r} would be kept twice", file=table.path, remedy=remedy)
        self._table, self._locale, self._rejected, self._keep = table, locale, rejected, keep
        self._columns = {**columns, **kept_columns(keep, table)}
        self.schema = pa.schema([*PRODUCTS_SCHEMA, *((name, pa.string()) for name in keep)])
        self._seen: set[str] = set()
        self.by_locale: Counter[str] = Counter()
        self.with_text: Counter[str] = Counter()
        self.missing_words: Counter[str] = Counter()

    def batches(self, progress: Callable[[int, int], None] = lambda done, total: None) -> Iterator[pa.RecordBatch]:
        """Clean the products, batch by batch.

        Raises
        ------
        UserError
            At the end, where there was no product or none with a text.
        """
        for batch in self._table.batches(self._columns, self._rejected):
            products = self._cleaned(batch)
            self._count(products)
            yield products
            progress(batch.done, self._table.total)
        if self._rejected.bad:
            return
        if not self.by_locale:
            raise UserError("holds no product", remedy="Name a table with rows.", file=self._table.path)
        if not self.with_text["any"]:
            remedy = "Name the right columns with columns={'products.title': …} (--columns products.title=…)."
            raise UserError("no product has an id and a text", file=self._table.path, remedy=remedy)

    def described(self) -> list[str]:
        """Describe the values that became empty."""
        words = ", ".join(f"{count:,} × {name}" for name, count in self.missing_words.items() if count)
        return [f"taken for empty, as NULL, N/A and the like say so: {words}"] if words else []

    def _cleaned(self, batch: Batch) -> pa.RecordBatch:
        ids = trim_ids(batch.columns[schema.PRODUCT_ID])
        locales = fold_locales(batch.columns.get(schema.LOCALE), self._locale, len(ids))
        names = [name for name in schema.TEXT_COLUMNS if name in batch.columns]
        taken = {name: batch.columns[name] for name in (*names, *self._keep)}
        columns = {schema.PRODUCT_ID: ids, schema.LOCALE: locales, **taken}
        keys = pc.binary_join_element_wise(locales, ids, pa.scalar("\t", pa.large_string())).to_pylist()
        fresh = set(keys)
        if len(fresh) == len(keys) and None not in fresh and self._seen.isdisjoint(fresh):
            self._seen |= fresh
        else:  # Row by row only where one is refused.
            chosen = pa.array(self._acceptable(batch, keys), pa.int64())
            columns = {name: column.take(chosen) for name, column in columns.items()}
        for name in names:
            texts = clean_column(columns[name])
            if name in MAY_BE_MISSING:
                said = are_missing(texts)
                self.missing_words[name] += said.true_count
                texts = pc.if_else(said, "", texts)
            columns[name] = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.large_string()), texts)
        rows = len(columns[schema.PRODUCT_ID])
        columns[schema.ORIGIN] = pa.repeat(schema.CATALOGUE, rows)
        none = pa.nulls(rows, pa.string())
        return pa.record_batch([columns.get(name, none).cast(pa.string()) for name in self.schema.names], self.schema)

    def _acceptable(self, batch: Batch, keys: Sequence[str | None]) -> list[int]:
        """Refuse products without an id or with a repeated one, and return the rows of the others."""
        kept = []
        for index, key in enumerate(keys):
            if key is not None and key not in self._seen:
                self._seen.add(key)
                kept.append(index)
                continue
            reason, detail = reasons.MISSING_ID, "every product needs one"
            if key is not None:
                place, _, product_id = key.partition("\t")
                reason, detail = reasons.DUPLICATE_PRODUCT, f"{product_id!r} in {place!r} came before"
            record = {name: column[index].as_py() for name, column in batch.columns.items()}
            self._rejected.add(Refusal(self._table.path.name, int(batch.rows_N[index]), reason, detail), record)
        return kept

    def _count(self, products: pa.RecordBatch) -> None:
        for each in pc.value_counts(products.column(schema.LOCALE)).to_pylist():
            self.by_locale[each["values"]] += each["counts"]
        there: dict[str, Any] = {name: pc.is_valid(products.column(name)) for name in schema.TEXT_COLUMNS}
        there["any"] = reduce(pc.or_, there.values())
        for name, of_column in there.items():
            self.with_text[name] += of_column.true_count
