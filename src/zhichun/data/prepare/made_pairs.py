"""Adds synthetic pairs to the judged ones: complete and without leaks.

A synthetic pair keeps the label, versions, split and fold of its judged pair. Where its query differs, as
after translation, that query may be in the test split or another fold; such pairs are dropped.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from zhichun.core.errors import UserError
from zhichun.core.schema import (
    EXAMPLE_ID,
    FOLD,
    JUDGED,
    JUDGED_GAIN,
    LABEL,
    LABEL_SHARES,
    LARGE,
    LOCALE,
    ORIGIN,
    QUERY,
    QUERY_ID,
    SMALL,
    SPLIT,
    TEST,
    TRAIN,
    WEIGHT,
)
from zhichun.data.dataset.query_folds import VALIDATION_BUCKET, buckets_of
from zhichun.data.prepare.split import KEY, PAIR
from zhichun.data.prepare.steps import INDEX, ROW, Made, Refuse
from zhichun.data.readers import rejected as reasons
from zhichun.text.fold import fold_query

_SOURCE: Final = "source"
_FACTOR: Final = "factor"
_KEPT: Final = (INDEX, ROW, LABEL, SMALL, LARGE, SPLIT, FOLD, WEIGHT, JUDGED_GAIN, LABEL_SHARES)
_MARK: Final = "~"


@dataclass(frozen=True, kw_only=True, eq=False)
class AddMade:
    """Adds what a step made.

    Attributes
    ----------
    name, origin
        Of the step.
    made
        From it.
    """

    name: str
    origin: str
    made: Made

    def __call__(self, frame: pl.DataFrame, refuse: Refuse) -> pl.DataFrame:
        """Take all pairs so far, which stay as they are and come first; a refused one is listed by its judged pair.

        Afterwards no query is in two folds or in both splits, and no pair is there twice.
        """
        judged = frame.filter((pl.col(ORIGIN) == JUDGED) & (pl.col(SPLIT) == TRAIN))
        kept = [name for name in _KEPT if name in frame.columns]
        source = judged.select(EXAMPLE_ID, *kept, pl.col(QUERY).alias(_SOURCE))
        pairs = self.made.pairs.rename({WEIGHT: _FACTOR}).join(source, on=EXAMPLE_ID, how="left", maintain_order="left")
        assert not pairs[INDEX].has_nulls(), "a pair was made from one that is not a judged training pair"
        weight = (pl.col(WEIGHT) * pl.col(_FACTOR)).cast(pl.Float32)
        pairs = pairs.with_columns(weight.alias(WEIGHT), pl.lit(self.origin).alias(ORIGIN)).join(
            _new_queries(pairs, _SOURCE), on=[QUERY, _SOURCE], how="left", maintain_order="left"
        )
        pairs = _refuse_leaks(pairs, frame, refuse)
        pairs = _refuse_repeated(pairs, frame, refuse)
        pairs = _number_queries(pairs, frame)
        ids = _next_id(frame[EXAMPLE_ID], len(pairs)) + np.arange(len(pairs), dtype=np.int64)
        return pl.concat([frame, pairs.with_columns(pl.Series(EXAMPLE_ID, ids)).select(frame.columns)])


def free_marker(ids: pl.Series) -> str:
    """Find a text that no id contains, so that ids with it are unique."""
    marker = _MARK
    while ids.str.contains(marker, literal=True).any():
        marker += _MARK
    return marker


def _new_queries(pairs: pl.DataFrame, source: str) -> pl.DataFrame:
    """Return the key of each synthetic query, and whether it came from a validation query and is not one."""
    queries = pairs.select(QUERY, source).unique(maintain_order=True)
    buckets = [buckets_of(queries[name].to_list()) for name in (source, QUERY)]
    return queries.with_columns(
        pl.Series(KEY, [fold_query(query) for query in queries[QUERY]], pl.String),
        pl.Series("escaped", (buckets[0] == VALIDATION_BUCKET) & (buckets[1] != VALIDATION_BUCKET)),
    )


def _refuse_leaks(pairs: pl.DataFrame, frame: pl.DataFrame, refuse: Refuse) -> pl.DataFrame:
    known = frame.unique(KEY).select(KEY, pl.col(SPLIT).alias("known_split"), pl.col(FOLD).alias("known_fold"))
    pairs = pairs.join(known, on=KEY, how="left", maintain_order="left")
    query = pl.format("{} '{}'", ORIGIN, QUERY)
    pairs = refuse(pairs, pl.col("known_split") == TEST, reasons.LEAKAGE, query)
    # A query that nobody judged belongs to the fold of the first pair that was made with it.
    fold = pl.coalesce("known_fold", pl.col(FOLD).first().over(KEY))
    pairs = refuse(pairs, pl.col(FOLD) != fold, reasons.OTHER_FOLD, query)
    # The final models validate by bucket, not by fold (`zhichun.data.dataset.query_folds`).
    return refuse(pairs, pl.col("escaped"), reasons.VALIDATED, query)


def _refuse_repeated(pairs: pl.DataFrame, frame: pl.DataFrame, refuse: Refuse) -> pl.DataFrame:
    detail = pl.format("{} of '{}'", ORIGIN, _SOURCE)
    there = frame.select(PAIR).with_columns(there=True)
    pairs = pairs.join(there, on=PAIR, how="left", maintain_order="left")
    repeated = pl.col("there").is_not_null() | pl.struct(PAIR).is_duplicated()
    if pairs.select(repeated.any()).item():
        labels = pl.col(LABEL).n_unique().over(PAIR)
        pairs = refuse(pairs, pl.col("there"), reasons.DUPLICATE, detail)
        pairs = refuse(pairs, labels > 1, reasons.MADE_TWO_LABELS, detail)
        pairs = refuse(pairs, ~pl.struct(PAIR).is_first_distinct(), reasons.DUPLICATE, detail)
    return pairs


def _number_queries(pairs: pl.DataFrame, frame: pl.DataFrame) -> pl.DataFrame:
    """Reuse the ids of queries judged in the same locale, and assign new ids to the others."""
    identity = [KEY, LOCALE]
    known = frame.select(*identity, QUERY_ID).unique(identity)
    new = pairs.select(identity).unique(maintain_order=True).join(known, on=identity, how="anti", maintain_order="left")
    ids = _next_id(frame[QUERY_ID], len(new)) + np.arange(len(new), dtype=np.int64)
    numbered = pl.concat([known, new.with_columns(pl.Series(QUERY_ID, ids))])
    return pairs.join(numbered, on=identity, how="left", maintain_order="left")


def _next_id(ids: pl.Series, room: int) -> int:
    highest = int(ids.max() or 0)  # type: ignore[arg-type]
    if highest > np.iinfo(np.int64).max - room - 1:
        raise UserError(
            f"the {ids.name}s go up to {highest}, so that there are none left for pairs that are made",
            remedy="Leave the column out: rows are then counted from 0.",
        )
    return highest + 1
