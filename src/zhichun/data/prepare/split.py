"""The steps that depend on the query: split and fold, leaks, ids; and warnings for small sets of queries.

Queries with equal `zhichun.text.fold.fold_query` are one query, in every locale. Split and fold follow from a
hash of that form, so that they are the same on every machine and in every version of Python.
"""

import math
from typing import Final

import polars as pl

from zhichun.core.schema import EXAMPLE_ID, FOLD, JUDGE, JUDGED, LOCALE, ORIGIN, QUERY, QUERY_ID, SPLIT, TEST, TRAIN
from zhichun.data.dataset.dataset import VALIDATION_BUCKET, buckets_of, in_test, least_share, query_fold
from zhichun.data.prepare.clean_pairs import GRADE
from zhichun.data.prepare.steps import INDEX, ROW, Refuse
from zhichun.data.readers import rejected as reasons
from zhichun.text.fold import fold_query

# The form under which queries count as the same, and what a pair is.
KEY: Final = "key"
PAIR: Final = (KEY, LOCALE, "product_id")
# Whether ids are the file's own or were counted, and whether that was instead of the file's.
GIVEN: Final = "given"
COUNTED: Final = "counted"
RENUMBERED: Final = "counted anew"


def split_by_query(frame: pl.DataFrame, refuse: Refuse, *, folds: int, test_share: float) -> pl.DataFrame:
    """Add fold and key to pairs with cleaned queries, and the split if the file has none; drop nothing."""
    queries = frame[QUERY].unique(maintain_order=True)
    rows = [(query, fold_query(query), query_fold(query, folds), in_test(query, test_share)) for query in queries]
    kinds = {QUERY: pl.String, KEY: pl.String, FOLD: pl.Int8, "drawn": pl.Boolean}
    by_query = pl.DataFrame(rows, kinds, orient="row")
    frame = frame.join(by_query, on=QUERY, how="left", maintain_order="left")
    drawn = pl.when("drawn").then(pl.lit(TEST)).otherwise(pl.lit(TRAIN))
    return frame.with_columns(pl.coalesce(SPLIT, drawn).alias(SPLIT)).drop("drawn")


def drop_leaks(frame: pl.DataFrame, refuse: Refuse) -> pl.DataFrame:
    """Drop the training pairs of queries that are in the test set too.

    Takes pairs with split, fold and key; afterwards no query is in both splits, nor in two folds.
    """
    tested = frame.filter(pl.col(SPLIT) == TEST).select(KEY).unique().with_columns(tested=True)
    frame = frame.join(tested, on=KEY, how="left", maintain_order="left")
    leaks = (pl.col(SPLIT) == TRAIN) & pl.col("tested")
    frame = refuse(frame, leaks, reasons.LEAKAGE, pl.format("'{}'", QUERY)).drop("tested")
    places = frame.select(KEY, SPLIT, FOLD).unique()
    assert places[KEY].is_unique().all(), "a query is in two folds or in both splits"
    return frame


def number(frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, str]]:
    """Set the ids of queries and pairs, and return for both where they are from, as above.

    The file's ids are kept if they are whole numbers and unique; spellings of one query get
    the id of the first.
    """
    query = [KEY, LOCALE]
    queries = frame.select(query).unique(maintain_order=True).with_row_index(QUERY_ID).cast({QUERY_ID: pl.Int64})
    # By the row of the file, so that a pair has the same id whatever else is dropped: lists of label issues name it.
    rows = frame.select(INDEX, (pl.col(ROW) - 1).alias(EXAMPLE_ID))
    frame, query_ids = _number(frame, QUERY_ID, queries)
    frame, example_ids = _number(frame, EXAMPLE_ID, rows)
    frame = frame.drop(GRADE, JUDGE).with_columns(pl.lit(JUDGED).alias(ORIGIN))
    return frame, {QUERY_ID: query_ids, EXAMPLE_ID: example_ids}


def _number(frame: pl.DataFrame, name: str, counted: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """Keep the file's ids if they are whole numbers and unique; otherwise count."""
    identifies, said = [column for column in counted.columns if column != name], COUNTED
    if name in frame.columns:
        said = RENUMBERED
        ids = frame.with_columns(pl.col(name).str.strip_chars().cast(pl.Int64, strict=False))
        things = ids.select(name, *identifies).unique()
        if not ids[name].has_nulls() and things[name].is_unique().all():
            return (ids if name == EXAMPLE_ID else ids.with_columns(pl.col(name).first().over(identifies))), GIVEN
    return frame.drop(name, strict=False).join(counted, on=identifies, how="left", maintain_order="left"), said


def too_few(frame: pl.DataFrame, folds: int) -> list[str]:
    """Return warnings about splits that are too small for later commands, with remedies."""
    queries = frame.select(QUERY, KEY, SPLIT, FOLD).unique(KEY, maintain_order=True)
    training, tested = (queries.filter(pl.col(SPLIT) == split) for split in (TRAIN, TEST))
    said = []
    if tested.is_empty():
        share = math.ceil(min(map(least_share, queries[KEY]), default=0) * 100) / 100
        more = f" (--test-share {share:g} takes one, where the file names no split)" if 0 < share < 1 else ""
        said.append(f"there is no test query: judge more{more}, or measure with `zhichun evaluate --split train`.")
    if training.is_empty():
        return [*said, "there is no training query: judge more, or mark fewer as test in the file."]
    there = sorted(set(training[FOLD]))
    if VALIDATION_BUCKET not in buckets_of(training[QUERY].to_list()):
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
