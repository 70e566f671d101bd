"""The step that checks the judged pairs and gives each its split, fold, weight and ids."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl
import pyarrow as pa

from zhichun.data import rejected as reasons
from zhichun.data.folds import fold_key, folds_of, in_test
from zhichun.data.pair_values import INDEX, ROW, TEST, TRAIN, UNKNOWN, PairOptions, read_values
from zhichun.data.rejected import Refusal, RejectedRows
from zhichun.schema import (
    EXAMPLE_ID,
    FOLD,
    LABEL,
    LARGE,
    LOCALE,
    ORIGIN,
    PRODUCT_ID,
    QUERY,
    QUERY_ID,
    SMALL,
    SPLIT,
    WEIGHT,
)

EXAMPLES_SCHEMA: Final = pa.schema(
    [
        (EXAMPLE_ID, pa.int64()),
        (QUERY, pa.string()),
        (QUERY_ID, pa.int64()),
        (PRODUCT_ID, pa.string()),
        (LOCALE, pa.string()),
        (LABEL, pa.string()),
        (SMALL, pa.int64()),
        (LARGE, pa.int64()),
        (SPLIT, pa.string()),
        (FOLD, pa.int8()),
        (WEIGHT, pa.float32()),
        (ORIGIN, pa.string()),
    ]
)
# The origin of a pair that somebody judged, as against one that a later step made.
JUDGED: Final = "judged"
# Whether ids are the file's own or were counted.
GIVEN: Final = "given"
COUNTED: Final = "counted"
_PAIR: Final = (QUERY, LOCALE, PRODUCT_ID)


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckedPairs:
    """Pairs that can be used.

    Attributes
    ----------
    frame
        The columns of `EXAMPLES_SCHEMA`, in the file's order.
    ids
        For ``query_id`` and ``example_id``, whether they are ``given`` or ``counted``.
    """

    frame: pl.DataFrame
    ids: Mapping[str, str]


def check_pairs(
    raw: pl.DataFrame, products: pl.DataFrame, options: PairOptions, rejected: RejectedRows, file: str
) -> CheckedPairs:
    """Refuse what cannot be used and complete the rest.

    Parameters
    ----------
    raw
        From `zhichun.data.pair_values.read_pairs`.
    products
        ``product_id`` and ``product_locale`` of the catalogue.
    options
        How to read them.
    rejected
        Takes the refused rows, each with the first reason that holds.
    file
        Name of the file that they come from.

    Returns
    -------
    CheckedPairs
        No query is in both splits, and no pair is there twice.
    """
    refuse = _Refuse(raw, rejected, file)
    frame = _refuse_unreadable(read_values(raw, options), raw, refuse)
    frame = _refuse_without_product(frame, products, refuse)
    label_count = pl.col(LABEL).n_unique().over(_PAIR)
    labels = pl.col(LABEL).unique().sort().str.join(" and ").over(_PAIR)
    frame = refuse(frame, label_count > 1, reasons.TWO_LABELS, labels)
    frame = _split_by_query(frame, options)
    tested = frame.filter(pl.col(SPLIT) == TEST)["key"].unique()
    leaks = (pl.col(SPLIT) == TRAIN) & pl.col("key").is_in(tested.implode())
    frame = refuse(frame, leaks, reasons.LEAKAGE, pl.format("'{}'", QUERY))
    frame = refuse(frame, ~pl.struct(_PAIR).is_first_distinct(), reasons.DUPLICATE, pl.format("'{}'", PRODUCT_ID))
    frame, query_ids = _number(frame, QUERY_ID, [QUERY, LOCALE])
    frame, example_ids = _number(frame, EXAMPLE_ID, [INDEX])
    frame = frame.with_columns(pl.lit(JUDGED).alias(ORIGIN)).select(EXAMPLES_SCHEMA.names)
    return CheckedPairs(frame=frame, ids={QUERY_ID: query_ids, EXAMPLE_ID: example_ids})


class _Refuse:
    """Moves rows from a frame to the list of refused rows."""

    def __init__(self, raw: pl.DataFrame, rejected: RejectedRows, file: str) -> None:
        self._raw, self._rejected, self._file = raw.drop(ROW), rejected, file

    def __call__(self, frame: pl.DataFrame, condition: pl.Expr, reason: str, detail: pl.Expr) -> pl.DataFrame:
        # A condition on a missing value is null; a row is refused only for what is known of it.
        frame = frame.with_columns(condition.fill_null(False).alias("refused"))
        refused = frame.filter("refused").with_columns(detail.fill_null("nothing").alias("detail"))
        records = self._raw[refused[INDEX]].iter_rows(named=True)
        for row, text, record in zip(refused[ROW], refused["detail"], records, strict=True):
            self._rejected.add(Refusal(self._file, row, reason, text), record)
        return frame.filter(~pl.col("refused")).drop("refused")


def _refuse_unreadable(frame: pl.DataFrame, raw: pl.DataFrame, refuse: _Refuse) -> pl.DataFrame:
    def given(name: str) -> pl.Expr:
        """Say what the file holds, for the list."""
        texts = raw[name] if name in raw.columns else pl.repeat(None, len(raw), dtype=pl.String, eager=True)
        return pl.format("'{}'", pl.col(INDEX).map_batches(texts.gather, return_dtype=pl.String))

    frame = refuse(frame, pl.col(PRODUCT_ID).is_null(), reasons.MISSING_ID, given(PRODUCT_ID))
    frame = refuse(frame, pl.col(QUERY).is_null(), reasons.EMPTY_QUERY, given(QUERY))
    frame = refuse(frame, pl.col(LABEL).is_null(), reasons.UNKNOWN_LABEL, given(LABEL))
    frame = refuse(frame, pl.col(SPLIT) == UNKNOWN, reasons.UNKNOWN_SPLIT, given(SPLIT))
    for name in (SMALL, LARGE, WEIGHT):
        frame = refuse(frame, pl.col(name).is_null(), reasons.MALFORMED, pl.format(f"{name} {{}}", given(name)))
    return frame


def _refuse_without_product(frame: pl.DataFrame, products: pl.DataFrame, refuse: _Refuse) -> pl.DataFrame:
    known = products.select(PRODUCT_ID, LOCALE, pl.lit(True).alias("known"))
    elsewhere = products.unique(PRODUCT_ID, keep="first").select(PRODUCT_ID, pl.col(LOCALE).alias("elsewhere"))
    frame = frame.join(known, on=[PRODUCT_ID, LOCALE], how="left", maintain_order="left")
    frame = frame.join(elsewhere, on=PRODUCT_ID, how="left", maintain_order="left")
    hint = pl.format(", but there is one in {}", "elsewhere").fill_null("")
    detail = pl.format("'{}' in locale '{}'", PRODUCT_ID, LOCALE) + hint
    frame = refuse(frame, pl.col("known").is_null(), reasons.NO_PRODUCT, detail)
    return frame.drop("known", "elsewhere")


def _split_by_query(frame: pl.DataFrame, options: PairOptions) -> pl.DataFrame:
    """Add fold and key, and the split where the file does not give one."""
    queries = frame[QUERY].unique(maintain_order=True)
    by_query = pl.DataFrame(
        {
            QUERY: queries,
            "key": [fold_key(query) for query in queries],
            FOLD: folds_of(queries.to_list(), options.folds),
            "drawn": [TEST if in_test(query, options.test_share) else TRAIN for query in queries],
        },
        schema_overrides={"key": pl.String, "drawn": pl.String},
    )
    frame = frame.join(by_query, on=QUERY, how="left", maintain_order="left")
    return frame.with_columns(pl.coalesce(SPLIT, "drawn").alias(SPLIT)).drop("drawn")


def _number(frame: pl.DataFrame, name: str, identifies: list[str]) -> tuple[pl.DataFrame, str]:
    """Keep the file's ids if they are whole numbers, one for each thing they identify; otherwise count from 0."""
    if name in frame.columns:
        ids = frame.with_columns(pl.col(name).str.strip_chars().cast(pl.Int64, strict=False))
        things = ids.group_by(name).agg(pl.struct(identifies).n_unique().alias("things"))
        if not ids[name].has_nulls() and (things["things"] <= 1).all():
            return ids, GIVEN
    things = frame.select(identifies).unique(maintain_order=True).with_row_index(name)
    return frame.drop(name, strict=False).join(things, on=identifies, how="left", maintain_order="left"), COUNTED
