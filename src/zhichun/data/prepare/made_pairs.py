"""Adds synthetic pairs to the judged ones: complete and without leaks.

A synthetic pair keeps the label, versions, split and fold of its judged pair. Where its query differs, as
after translation, that query may be in the test split or another fold; such pairs are dropped.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.files import new_file
from zhichun.data.dataset.dataset import VALIDATION_BUCKET, Progress, buckets_of
from zhichun.data.prepare.clean_catalogue import PRODUCTS_SCHEMA
from zhichun.data.prepare.split import KEY, PAIR
from zhichun.data.prepare.steps import INDEX, ROW, Made, MakingStep, Pairs, Refuse
from zhichun.data.readers import rejected as reasons
from zhichun.data.readers.table import BATCH_ROWS
from zhichun.text.fold import fold_query

_SOURCE: Final = "source"
_FACTOR: Final = "factor"
# What a made pair does not take from its judged pair.
_OWN: Final = (schema.QUERY, schema.QUERY_ID, KEY, schema.PRODUCT_ID, schema.LOCALE, schema.ORIGIN)
_JUDGED_TRAINING: Final = (pl.col(schema.ORIGIN) == schema.JUDGED) & (pl.col(schema.SPLIT) == schema.TRAIN)
_MARK: Final = "~"


def make_pairs(
    pairs: Pairs, steps: Sequence[MakingStep], products: Path, known: pl.DataFrame, progress: Progress
) -> dict[str, int]:
    """Run the steps that make pairs from judged training pairs, and add their products to the catalogue.

    Returns how many products were added, by origin.
    """
    if not steps:
        return {}
    judged = pairs.frame.filter(_JUDGED_TRAINING & (pl.col(schema.WEIGHT) > 0)).drop(INDEX, ROW, KEY)
    marker = _free_marker(known[schema.PRODUCT_ID])
    tables: dict[str, Any] = {}
    for step in steps:
        made = step.make(judged, products, marker, partial(progress, step.name))
        pairs.take(step.name, partial(_add, origin=step.origin, made=made))
        used = pairs.frame.filter(pl.col(schema.ORIGIN) == step.origin).select(schema.PRODUCT_ID, schema.LOCALE)
        rows = made.products.join(used, on=[schema.PRODUCT_ID, schema.LOCALE], how="semi", maintain_order="left")
        rows = rows.select(*schema.PRODUCT_COLUMNS, pl.lit(step.origin).alias(schema.ORIGIN))
        tables[step.origin] = rows.to_arrow().cast(PRODUCTS_SCHEMA)
    _append_products(products, tables.values())
    return {origin: len(rows) for origin, rows in tables.items()}


def _add(frame: pl.DataFrame, refuse: Refuse, *, origin: str, made: Made) -> pl.DataFrame:
    """Add what a step made to the pairs so far, which stay as they are and come first.

    A refused pair is listed by its judged pair. Afterwards no query is in two folds or in both splits, and no pair is
    there twice.
    """
    judged = frame.filter(_JUDGED_TRAINING)
    taken = [name for name in frame.columns if name not in _OWN]
    source = judged.select(*taken, pl.col(schema.QUERY).alias(_SOURCE))
    pairs = made.pairs.rename({schema.WEIGHT: _FACTOR})
    pairs = pairs.join(source, on=schema.EXAMPLE_ID, how="left", maintain_order="left")
    assert not pairs[INDEX].has_nulls(), "a pair was made from one that is not a judged training pair"
    weight = (pl.col(schema.WEIGHT) * pl.col(_FACTOR)).cast(pl.Float32)
    pairs = pairs.with_columns(weight.alias(schema.WEIGHT), pl.lit(origin).alias(schema.ORIGIN))
    pairs = pairs.join(_new_queries(pairs), on=[schema.QUERY, _SOURCE], how="left", maintain_order="left")
    pairs = _refuse_leaks(pairs, frame, refuse)
    pairs = _refuse_repeated(pairs, frame, refuse)
    pairs = _number_queries(pairs, frame)
    ids = _next_ids(frame[schema.EXAMPLE_ID], len(pairs))
    return pl.concat([frame, pairs.with_columns(ids).select(frame.columns)])


def _append_products(path: Path, made: Iterable[Any]) -> None:
    with (
        new_file(path) as partial_file,
        pq.ParquetFile(path) as catalogue,
        pq.ParquetWriter(partial_file, PRODUCTS_SCHEMA, compression="zstd") as writer,
    ):
        for group in range(catalogue.num_row_groups):
            writer.write_table(catalogue.read_row_group(group))
        for table in made:
            writer.write_table(table, row_group_size=BATCH_ROWS)


def _free_marker(ids: pl.Series) -> str:
    """Find a text that no id contains, so that ids with it are unique."""
    marker = _MARK
    while ids.str.contains(marker, literal=True).any():
        marker += _MARK
    return marker


def _new_queries(pairs: pl.DataFrame) -> pl.DataFrame:
    """Return the key of each synthetic query, and whether it came from a validation query and is not one."""
    queries = pairs.select(schema.QUERY, _SOURCE).unique(maintain_order=True)
    validated, was_validated = (
        pl.Series(buckets_of(queries[name].to_list()) == VALIDATION_BUCKET) for name in (schema.QUERY, _SOURCE)
    )
    keys = pl.Series(KEY, [fold_query(query) for query in queries[schema.QUERY]], pl.String)
    return queries.with_columns(keys, (was_validated & ~validated).alias("escaped"))


def _refuse_leaks(pairs: pl.DataFrame, frame: pl.DataFrame, refuse: Refuse) -> pl.DataFrame:
    known = frame.unique(KEY).select(KEY, known_split=schema.SPLIT, known_fold=schema.FOLD)
    pairs = pairs.join(known, on=KEY, how="left", maintain_order="left")
    query = pl.format("{} '{}'", schema.ORIGIN, schema.QUERY)
    pairs = refuse(pairs, pl.col("known_split") == schema.TEST, reasons.LEAKAGE, query)
    # A query that nobody judged belongs to the fold of the first pair that was made with it.
    fold = pl.coalesce("known_fold", pl.col(schema.FOLD).first().over(KEY))
    pairs = refuse(pairs, pl.col(schema.FOLD) != fold, reasons.OTHER_FOLD, query)
    # The final models validate by bucket, not by fold (`zhichun.data.dataset.dataset.VALIDATION_BUCKET`).
    return refuse(pairs, pl.col("escaped"), reasons.VALIDATED, query)


def _refuse_repeated(pairs: pl.DataFrame, frame: pl.DataFrame, refuse: Refuse) -> pl.DataFrame:
    detail = pl.format("{} of '{}'", schema.ORIGIN, _SOURCE)
    there = frame.select(PAIR).with_columns(there=True)
    pairs = pairs.join(there, on=PAIR, how="left", maintain_order="left")
    repeated = pl.col("there").is_not_null() | pl.struct(PAIR).is_duplicated()
    if pairs.select(repeated.any()).item():
        labels = pl.col(schema.LABEL).n_unique().over(PAIR)
        pairs = refuse(pairs, pl.col("there"), reasons.DUPLICATE, detail)
        pairs = refuse(pairs, labels > 1, reasons.MADE_TWO_LABELS, detail)
        pairs = refuse(pairs, ~pl.struct(PAIR).is_first_distinct(), reasons.DUPLICATE, detail)
    return pairs


def _number_queries(pairs: pl.DataFrame, frame: pl.DataFrame) -> pl.DataFrame:
    """Reuse the ids of queries judged in the same locale, and assign new ids to the others."""
    identity = [KEY, schema.LOCALE]
    known = frame.select(*identity, schema.QUERY_ID).unique(identity)
    new = pairs.select(identity).unique(maintain_order=True).join(known, on=identity, how="anti", maintain_order="left")
    ids = _next_ids(frame[schema.QUERY_ID], len(new))
    numbered = pl.concat([known, new.with_columns(ids)])
    return pairs.join(numbered, on=identity, how="left", maintain_order="left")


def _next_ids(ids: pl.Series, count: int) -> pl.Series:
    """Count on after the highest id."""
    highest = int(ids.max() or 0)  # type: ignore[arg-type]
    if highest > np.iinfo(np.int64).max - count - 1:
        raise UserError(
            f"the {ids.name}s go up to {highest}, so that there are none left for pairs that are made",
            remedy="Leave the column out: rows are then counted from 0.",
        )
    return pl.int_range(highest + 1, highest + 1 + count, eager=True).alias(ids.name)
