"""The step that cleans the catalogue, one batch after the other: what is kept in memory are the ids alone."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zhichun.data.keys import fold_locales, trim_ids
from zhichun.data.rejected import DUPLICATE_PRODUCT, MISSING_ID, Refusal, RejectedRows
from zhichun.data.table import Batch, Table
from zhichun.errors import UserError
from zhichun.schema import LOCALE, PRODUCT_COLUMNS, PRODUCT_ID, TEXT_COLUMNS
from zhichun.text.clean import clean_column

PRODUCTS_SCHEMA: Final = pa.schema([(name, pa.string()) for name in PRODUCT_COLUMNS])


@dataclass
class CatalogueCounts:
    """What happened to the products.

    Attributes
    ----------
    kept
        Products that were written.
    by_locale
        The same by locale.
    with_text
        How many have a text in each column; under ``any``, in one at least.
    """

    kept: int = 0
    by_locale: Counter[str] = field(default_factory=Counter)
    with_text: Counter[str] = field(default_factory=Counter)


def write_products(
    table: Table,
    columns: Mapping[str, str],
    out: Path,
    *,
    locale: str,
    rejected: RejectedRows,
    progress: Callable[[int, int], None],
) -> CatalogueCounts:
    """Write the products of a table with cleaned texts, in the official schema.

    Parameters
    ----------
    table, columns
        Where they come from; official name to the table's column.
    out
        The Parquet file to write.
    locale
        The locale of products without one.
    rejected
        Takes products without an id, and those whose id came before in the same locale.
    progress
        Called with how much is done and how much there is.

    Returns
    -------
    CatalogueCounts
        What was written.

    Raises
    ------
    UserError
        If the table cannot be read, or no product has a text.
    """
    counts = CatalogueCounts()
    seen: set[str] = set()
    with pq.ParquetWriter(out, PRODUCTS_SCHEMA, compression="zstd") as writer:
        for batch in table.batches(columns, rejected):
            products = _products(table, batch, locale, seen, rejected)
            writer.write_table(products)
            _count(products, counts)
            progress(batch.done, table.total)
    if not counts.with_text["any"] and not rejected.bad:
        raise UserError(
            "no product has an id and a text",
            remedy="Name the right columns with columns={'title': …} (--columns title=…).",
            file=table.path,
        )
    return counts


def _products(table: Table, batch: Batch, locale: str, seen: set[str], rejected: RejectedRows) -> Any:
    ids = trim_ids(batch.columns[PRODUCT_ID])
    locales = fold_locales(batch.columns.get(LOCALE), locale, len(ids))
    kept = []
    for index, (product_id, place) in enumerate(zip(ids.to_pylist(), locales.to_pylist(), strict=True)):
        key = f"{place}\t{product_id}"
        if product_id is not None and key not in seen:
            seen.add(key)
            kept.append(index)
            continue
        reason, detail = (
            (MISSING_ID, "every product needs one")
            if product_id is None
            else (DUPLICATE_PRODUCT, f"{product_id!r} in {place!r} came before")
        )
        record = {name: column[index].as_py() for name, column in batch.columns.items()}
        rejected.add(Refusal(table.path.name, int(batch.rows_N[index]), reason, detail), record)
    chosen = pa.array(kept, pa.int64())
    columns = {PRODUCT_ID: ids.take(chosen), LOCALE: locales.take(chosen)}
    for name in TEXT_COLUMNS:
        if name in batch.columns:
            texts = clean_column(batch.columns[name].take(chosen))
            columns[name] = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.large_string()), texts)
        else:
            columns[name] = pa.nulls(len(kept), pa.large_string())
    return pa.table([columns[name].cast(pa.string()) for name in PRODUCT_COLUMNS], schema=PRODUCTS_SCHEMA)


def _count(products: Any, counts: CatalogueCounts) -> None:
    counts.kept += products.num_rows
    counts.by_locale.update(products[LOCALE].to_pylist())
    anywhere = pc.is_valid(products[TEXT_COLUMNS[0]])
    for name in TEXT_COLUMNS:
        present = pc.is_valid(products[name])
        counts.with_text[name] += pc.sum(present).as_py() or 0
        anywhere = pc.or_(anywhere, present)
    counts.with_text["any"] += pc.sum(anywhere).as_py() or 0
