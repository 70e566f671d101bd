"""The step that cleans the catalogue in batches: only the ids are kept in memory."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zhichun.core.errors import UserError
from zhichun.core.files import new_file
from zhichun.core.schema import CATALOGUE, LOCALE, ORIGIN, PRODUCT_COLUMNS, PRODUCT_ID, TEXT_COLUMNS
from zhichun.data.prepare.clean_column import clean_column
from zhichun.data.readers.rejected import DUPLICATE_PRODUCT, MISSING_ID, Refusal, RejectedRows
from zhichun.data.readers.table import BATCH_ROWS, Batch, Table
from zhichun.text.fold import MAY_BE_MISSING, are_missing, fold_locales, trim_ids

PRODUCTS_SCHEMA: Final = pa.schema([(name, pa.string()) for name in (*PRODUCT_COLUMNS, ORIGIN)])


@dataclass
class CatalogueCounts:
    """Counts of products.

    Attributes
    ----------
    kept
        Products that were written.
    by_locale
        The same by locale.
    with_text
        Products with a text in each column; ``any`` is in at least one.
    missing_words
        Values of each column that mean missing, such as ``NULL``, and became empty.
    """

    kept: int = 0
    by_locale: Counter[str] = field(default_factory=Counter)
    with_text: Counter[str] = field(default_factory=Counter)
    missing_words: Counter[str] = field(default_factory=Counter)

    def described(self) -> list[str]:
        """Describe the values that became empty."""
        words = ", ".join(f"{count:,} × {name}" for name, count in self.missing_words.items() if count)
        return [f"taken for empty, as NULL, N/A and the like say so: {words}"] if words else []


def write_products(
    table: Table,
    columns: Mapping[str, str],
    out: Path,
    *,
    locale: str,
    rejected: RejectedRows,
    progress: Callable[[int, int], None],
) -> CatalogueCounts:
    """Write the products of a table with cleaned texts, in the official schema."""
    counts = CatalogueCounts()
    seen: set[str] = set()
    with pq.ParquetWriter(out, PRODUCTS_SCHEMA, compression="zstd") as writer:
        for batch in table.batches(columns, rejected):
            products = _products(table, batch, locale, seen, rejected, counts.missing_words)
            writer.write_table(products)
            _count(products, counts)
            progress(batch.done, table.total)
    if not counts.kept and not rejected.bad:
        raise UserError("holds no product", remedy="Name a table with rows.", file=table.path)
    if not counts.with_text["any"] and not rejected.bad:
        raise UserError(
            "no product has an id and a text",
            remedy="Name the right columns with columns={'products.title': …} (--columns products.title=…).",
            file=table.path,
        )
    return counts


def append_products(path: Path, made: Iterable[Any]) -> None:
    """Append synthetic products to the catalogue."""
    with (
        new_file(path) as partial,
        pq.ParquetFile(path) as catalogue,
        pq.ParquetWriter(partial, PRODUCTS_SCHEMA, compression="zstd") as writer,
    ):
        for group in range(catalogue.num_row_groups):
            writer.write_table(catalogue.read_row_group(group))
        for table in made:
            writer.write_table(table, row_group_size=BATCH_ROWS)


def _products(
    table: Table, batch: Batch, locale: str, seen: set[str], rejected: RejectedRows, missing_words: Counter[str]
) -> Any:
    ids = trim_ids(batch.columns[PRODUCT_ID])
    locales = fold_locales(batch.columns.get(LOCALE), locale, len(ids))
    names = [name for name in TEXT_COLUMNS if name in batch.columns]
    columns = {PRODUCT_ID: ids, LOCALE: locales, **{name: batch.columns[name] for name in names}}
    keys = pc.binary_join_element_wise(locales, ids, pa.scalar("\t", pa.large_string())).to_pylist()
    fresh = set(keys)
    if len(fresh) == len(keys) and None not in fresh and seen.isdisjoint(fresh):
        seen |= fresh
    else:  # Row by row only where one is refused.
        chosen = pa.array(_acceptable(table, batch, keys, seen, rejected), pa.int64())
        columns = {name: column.take(chosen) for name, column in columns.items()}
    for name in names:
        texts = clean_column(columns[name])
        if name in MAY_BE_MISSING:
            said = are_missing(texts)
            missing_words[name] += pc.sum(said).as_py() or 0
            texts = pc.if_else(said, "", texts)
        columns[name] = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.large_string()), texts)
    rows = len(columns[PRODUCT_ID])
    columns[ORIGIN] = pa.repeat(CATALOGUE, rows)
    none = pa.nulls(rows, pa.string())
    return pa.table([columns.get(name, none).cast(pa.string()) for name in PRODUCTS_SCHEMA.names], PRODUCTS_SCHEMA)


def _acceptable(
    table: Table, batch: Batch, keys: Sequence[str | None], seen: set[str], rejected: RejectedRows
) -> list[int]:
    """Refuse products without an id or with a repeated one, and return the rows of the others."""
    kept = []
    for index, key in enumerate(keys):
        if key is not None and key not in seen:
            seen.add(key)
            kept.append(index)
            continue
        if key is None:
            reason, detail = MISSING_ID, "every product needs one"
        else:
            place, _, product_id = key.partition("\t")
            reason, detail = DUPLICATE_PRODUCT, f"{product_id!r} in {place!r} came before"
        record = {name: column[index].as_py() for name, column in batch.columns.items()}
        rejected.add(Refusal(table.path.name, int(batch.rows_N[index]), reason, detail), record)
    return kept


def _count(products: Any, counts: CatalogueCounts) -> None:
    counts.kept += products.num_rows
    for each in pc.value_counts(products[LOCALE]).to_pylist():
        counts.by_locale[each["values"]] += each["counts"]
    anywhere = pc.is_valid(products[TEXT_COLUMNS[0]])
    for name in TEXT_COLUMNS:
        present = pc.is_valid(products[name])
        counts.with_text[name] += pc.sum(present).as_py() or 0
        anywhere = pc.or_(anywhere, present)
    counts.with_text["any"] += pc.sum(anywhere).as_py() or 0
