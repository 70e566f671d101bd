"""The steps that depend on the query: split and fold, leaks, ids; synthetic pairs; warnings for small sets of queries.

Queries with equal `zhichun.text.fold.fold_query` are one query, in every locale. Split and fold follow from a
hash of that form, so that they are the same on every machine and in every version of Python.

A synthetic pair keeps the label, versions, split and fold of its judged pair. Where its query differs, as
after translation, that query may be in the test split or another fold; such pairs are dropped.
"""

import math
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
from zhichun.data.dataset import VALIDATION_BUCKET, Progress, buckets_of, in_test, least_share, query_fold
from zhichun.data.prepare.clean_catalogue import PRODUCTS_SCHEMA
from zhichun.data.prepare.clean_pairs import GRADE
from zhichun.data.prepare.steps import INDEX, ROW, SOURCE, Made, MakingStep, Pairs, Refuse
from zhichun.data.readers import rejected as reasons
from zhichun.data.readers.table import BATCH_ROWS
from zhichun.text.fold import fold_query

# The form under which queries count as the same, and what a pair is.
KEY: Final = "key"
PAIR: Final = (KEY, schema.LOCALE, "product_id")
# Whether ids are the file's own or were counted, and whether that was instead of the file's.
GIVEN: Final = "given"
COUNTED: Final = "counted"
RENUMBERED: Final = "counted anew"
_SOURCE: Final = "source"
_FACTOR: Final = "factor"
# What a made pair does not take from its judged pair.
_OWN: Final = (schema.QUERY, schema.QUERY_ID, KEY, schema.PRODUCT_ID, schema.LOCALE, schema.ORIGIN)
_JUDGED_TRAINING: Final = (pl.col(schema.ORIGIN) == schema.JUDGED) & (pl.col(schema.SPLIT) == schema.TRAIN)
_MARK: Final = "~"


def split_by_query(frame: pl.DataFrame, refuse: Refuse, *, folds: int, test_share: float) -> pl.DataFrame:
    """Add fold and key to pairs with cleaned queries, and the split if the file has none; drop nothing."""
    queries = frame[schema.QUERY].unique(maintain_order=True)
    rows = [(query, fold_query(query), query_fold(query, folds), in_test(query, test_share)) for query in queries]
    kinds = {schema.QUERY: pl.String, KEY: pl.String, schema.FOLD: pl.Int8, "drawn": pl.Boolean}
    frame = frame.join(pl.DataFrame(rows, kinds, orient="row"), on=schema.QUERY, how="left", maintain_order="left")
    drawn = pl.when("drawn").then(pl.lit(schema.TEST)).otherwise(pl.lit(schema.TRAIN))
    return frame.with_columns(pl.coalesce(schema.SPLIT, drawn).alias(schema.SPLIT)).drop("drawn")


def drop_leaks(frame: pl.DataFrame, refuse: Refuse) -> pl.DataFrame:
    """Drop the training pairs of queries that are in the test set too.

    Takes pairs with split, fold and key; afterwards no query is in both splits, nor in two folds.
    """
    tested = frame.filter(pl.col(schema.SPLIT) == schema.TEST).select(KEY).unique().with_columns(tested=True)
    frame = frame.join(tested, on=KEY, how="left", maintain_order="left")
    leaks = (pl.col(schema.SPLIT) == schema.TRAIN) & pl.col("tested")
    frame = refuse(frame, leaks, reasons.LEAKAGE, pl.format("'{}'", schema.QUERY)).drop("tested")
    places = frame.select(KEY, schema.SPLIT, schema.FOLD).unique()
    assert places[KEY].is_unique().all(), "a query is in two folds or in both splits"
    return frame


def number(frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, str]]:
    """Set the ids of queries and pairs, and return for both where they are from, as above.

    The file's ids are kept if they are whole numbers and unique; spellings of one query get
    the id of the first. Pairs that only a further source judged are counted after those of the first.
    """
    added = frame.filter(pl.col(SOURCE) > 0)
    frame = frame.filter(pl.col(SOURCE) == 0)
    queries = frame.select(KEY, schema.LOCALE).unique(maintain_order=True)
    queries = queries.with_row_index(schema.QUERY_ID).cast({schema.QUERY_ID: pl.Int64})
    # By the row of the file, so that a pair has the same id whatever else is dropped: lists of label issues name it.
    rows = frame.select(INDEX, (pl.col(ROW) - 1).alias(schema.EXAMPLE_ID))
    frame, query_ids = _number(frame, schema.QUERY_ID, queries)
    frame, example_ids = _number(frame, schema.EXAMPLE_ID, rows)
    if len(added):
        added = _number_queries(added.drop(schema.QUERY_ID, strict=False), frame)
        added = added.with_columns(_next_ids(frame[schema.EXAMPLE_ID], len(added))).select(frame.columns)
    origin = pl.when(pl.col(SOURCE) == 0).then(pl.lit(schema.JUDGED)).otherwise(pl.lit(schema.ADDED))
    frame = pl.concat([frame, added.select(frame.columns)] if len(added) else [frame])
    frame = frame.with_columns(origin.alias(schema.ORIGIN)).drop(GRADE, schema.JUDGE, SOURCE)
    return frame, {schema.QUERY_ID: query_ids, schema.EXAMPLE_ID: example_ids}


def _number(frame: pl.DataFrame, name: str, counted: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """Keep the file's ids if they are whole numbers and unique; otherwise count."""
    identifies, said = [column for column in counted.columns if column != name], COUNTED
    if name in frame.columns:
        said = RENUMBERED
        ids = frame.with_columns(pl.col(name).str.strip_chars().cast(pl.Int64, strict=False))
        things = ids.select(name, *identifies).unique()
        if not ids[name].has_nulls() and things[name].is_unique().all():
            first = ids if name == schema.EXAMPLE_ID else ids.with_columns(pl.col(name).first().over(identifies))
            return first, GIVEN
    return frame.drop(name, strict=False).join(counted, on=identifies, how="left", maintain_order="left"), said


def too_few(frame: pl.DataFrame, folds: int) -> list[str]:
    """Return warnings about splits that are too small for later commands, with remedies."""
    own, let_in = pl.col(schema.ORIGIN) == schema.JUDGED, pl.col(schema.ORIGIN) == schema.ADDED
    measured = frame.filter(own | (let_in & (pl.col(schema.SPLIT) == schema.TEST)))
    queries = measured.select(schema.QUERY, KEY, schema.SPLIT, schema.FOLD).unique(KEY, maintain_order=True)
    training, tested = (queries.filter(pl.col(schema.SPLIT) == split) for split in (schema.TRAIN, schema.TEST))
    said = []
    if tested.is_empty():
        share = math.ceil(min(map(least_share, queries[KEY]), default=0) * 100) / 100
        more = f" (--test-share {share:g} takes one, where the file names no split)" if 0 < share < 1 else ""
        by_fold = f"measure on held-out folds with `zhichun train … --folds {folds}`"
        said.append(f"there is no test query: judge more{more}, or {by_fold}.")
    if training.is_empty():
        return [*said, "there is no training query: judge more, or mark fewer as test in the file."]
    there = sorted(set(training[schema.FOLD]))
    if VALIDATION_BUCKET not in buckets_of(training[schema.QUERY].to_list()):
        way = f"hold out another fold: zhichun train … --set train.validation_fold={there[-1]}"
        said.append(
            f"no training query is in the validation twentieth: judge more, or {way}."
            if len(there) > 1
            else "there are too few training queries to hold some out: judge more."
        )
    if 1 < len(there) < folds:
        empty = ", ".join(str(fold) for fold in range(folds) if fold not in there)
        said.append(f"no training query is in fold {empty} of {folds}: judge more, or take fewer with --folds.")
    return said


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
    written = pq.read_schema(products)
    kept = [pl.lit(None, pl.String).alias(name) for name in written.names[len(PRODUCTS_SCHEMA) :]]
    for step in steps:
        made = step.make(judged, products, marker, partial(progress, step.name))
        pairs.take(step.name, partial(_add, origin=step.origin, made=made))
        used = pairs.frame.filter(pl.col(schema.ORIGIN) == step.origin).select(schema.PRODUCT_ID, schema.LOCALE)
        rows = made.products.join(used, on=[schema.PRODUCT_ID, schema.LOCALE], how="semi", maintain_order="left")
        rows = rows.select(*schema.PRODUCT_COLUMNS, pl.lit(step.origin).alias(schema.ORIGIN), *kept)
        tables[step.origin] = rows.to_arrow().cast(written)
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
    return pl.concat([frame, pairs.with_columns(_next_ids(frame[schema.EXAMPLE_ID], len(pairs))).select(frame.columns)])


def _append_products(path: Path, made: Iterable[Any]) -> None:
    with (
        new_file(path) as partial_file,
        pq.ParquetFile(path) as catalogue,
        pq.ParquetWriter(partial_file, catalogue.schema_arrow, compression="zstd") as writer,
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
    # The final models validate by bucket, not by fold (`zhichun.data.dataset.VALIDATION_BUCKET`).
    return refuse(pairs, pl.col("escaped"), reasons.VALIDATED, query)


def _refuse_repeated(pairs: pl.DataFrame, frame: pl.DataFrame, refuse: Refuse) -> pl.DataFrame:
    detail = pl.format("{} of '{}'", schema.ORIGIN, _SOURCE)
    pairs = pairs.join(frame.select(PAIR).with_columns(there=True), on=PAIR, how="left", maintain_order="left")
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
    numbered = pl.concat([known, new.with_columns(_next_ids(frame[schema.QUERY_ID], len(new)))])
    return pairs.join(numbered, on=identity, how="left", maintain_order="left")


def _next_ids(ids: pl.Series, count: int) -> pl.Series:
    """Count on after the highest id."""
    highest = int(ids.max() or 0)  # type: ignore[arg-type]
    if highest > np.iinfo(np.int64).max - count - 1:
        problem = f"the {ids.name}s go up to {highest}, so that there are none left for pairs that are made"
        raise UserError(problem, remedy="Leave the column out: rows are then counted from 0.")
    return pl.int_range(highest + 1, highest + 1 + count, eager=True).alias(ids.name)
