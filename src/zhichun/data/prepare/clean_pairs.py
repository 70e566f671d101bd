"""Reads judged pairs, and the steps that parse every value and drop pairs with invalid ones."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import polars as pl
import pyarrow as pa

from zhichun.core.schema import (
    EXAMPLE_ID,
    JUDGE,
    LABEL,
    LARGE,
    LOCALE,
    PRODUCT_ID,
    QUERY,
    QUERY_ID,
    SMALL,
    SPLIT,
    TEST,
    TRAIN,
    WEIGHT,
)
from zhichun.data.prepare.steps import INDEX, ROW, Refuse
from zhichun.data.readers import rejected as reasons
from zhichun.data.readers.judgements import NOT_JUDGED
from zhichun.data.readers.rejected import RejectedRows
from zhichun.data.readers.table import Table
from zhichun.text.clean import clean_text
from zhichun.text.fold import fold_grade, fold_locales, trim_ids

# The grade as it was written, folded.
GRADE: Final = "grade"
# What `split` is for a text that is neither of these two, so that it can be refused; null is for no text.
_UNKNOWN: Final = "unknown"
_VERSIONS: Final = {"": 1, "0": 0, "1": 1, "false": 0, "true": 1}
_SPLITS: Final = {TRAIN: TRAIN, TEST: TEST}


def read_pairs(
    table: Table, columns: Mapping[str, str], rejected: RejectedRows, progress: Callable[[int, int], None]
) -> pl.DataFrame:
    """Read the raw judgements: the columns as text, and the row."""
    parts = [pl.DataFrame(schema={**dict.fromkeys(columns, pl.String), ROW: pl.Int64})]
    for batch in table.batches(columns, rejected):
        parts.append(pl.DataFrame(pl.from_arrow(pa.table({**batch.columns, ROW: batch.rows_N}))))
        progress(batch.done, table.total)
    return pl.concat(parts)


@dataclass(frozen=True, kw_only=True)
class Clean:
    """Cleans queries, parses all other values of a pair, and drops pairs with an invalid one.

    Attributes
    ----------
    label_of
        Maps a grade to a label: one of the four, `NOT_JUDGED`, or None.
    locale
        The locale of pairs without one.
    """

    name: ClassVar[str] = "clean"

    label_of: Callable[[str], str | None]
    locale: str

    def __call__(self, frame: pl.DataFrame, refuse: Refuse) -> pl.DataFrame:
        """Parse raw pairs; a split may still be missing afterwards."""
        raw = frame

        def given(name: str) -> pl.Expr:
            """Return the raw rows, for the list."""
            texts = raw[name] if name in raw.columns else pl.repeat(None, len(raw), dtype=pl.String, eager=True)
            return pl.format("'{}'", pl.col(INDEX).map_batches(texts.gather, return_dtype=pl.String))

        frame = self._read(raw)
        frame = refuse(frame, pl.col(LABEL) == NOT_JUDGED, reasons.NOT_JUDGED, given(LABEL))
        frame = refuse(frame, pl.col(PRODUCT_ID).is_null(), reasons.MISSING_ID, given(PRODUCT_ID))
        frame = refuse(frame, pl.col(QUERY).is_null(), reasons.EMPTY_QUERY, given(QUERY))
        frame = refuse(frame, pl.col(LABEL).is_null(), reasons.UNKNOWN_LABEL, given(LABEL))
        frame = refuse(frame, pl.col(SPLIT) == _UNKNOWN, reasons.UNKNOWN_SPLIT, given(SPLIT))
        for name in (SMALL, LARGE, WEIGHT):
            frame = refuse(frame, pl.col(name).is_null(), reasons.BAD_NUMBER, pl.format(f"{name} {{}}", given(name)))
        return frame

    def _read(self, raw: pl.DataFrame) -> pl.DataFrame:
        """Parse each column; null is an invalid value, or a split that the file does not have."""
        locales = _arrow(raw[LOCALE]) if LOCALE in raw.columns else None
        grades = raw[LABEL].fill_null("")
        frame = pl.DataFrame(
            {
                INDEX: np.arange(len(raw)),
                ROW: raw[ROW],
                QUERY: _each_distinct(raw[QUERY], lambda query: clean_text(query) or None, pl.String),
                PRODUCT_ID: _series(trim_ids(_arrow(raw[PRODUCT_ID]))),
                LOCALE: _series(fold_locales(locales, self.locale, len(raw))),
                LABEL: _each_distinct(grades, self.label_of, pl.String),
                GRADE: _each_distinct(grades, fold_grade, pl.String),
                JUDGE: _column(raw, JUDGE, lambda judge: judge or None, pl.String),
                SPLIT: _column(raw, SPLIT, lambda split: _SPLITS.get(split, _UNKNOWN) if split else None, pl.String),
                SMALL: _column(raw, SMALL, _VERSIONS.get, pl.Int64, blank=1),
                LARGE: _column(raw, LARGE, _VERSIONS.get, pl.Int64, blank=1),
                WEIGHT: _column(raw, WEIGHT, _weight, pl.Float32, blank=1.0),
            }
        )
        return frame.with_columns(raw[name] for name in (QUERY_ID, EXAMPLE_ID) if name in raw.columns)


@dataclass(frozen=True, kw_only=True, eq=False)
class MatchProducts:
    """Drops the pairs whose product the catalogue does not have in the pair's locale.

    Attributes
    ----------
    products
        ``product_id`` and ``product_locale`` of the catalogue, each once.
    """

    name: ClassVar[str] = "match products"

    products: pl.DataFrame

    def __call__(self, frame: pl.DataFrame, refuse: Refuse) -> pl.DataFrame:
        """Drop pairs; the reason says if the catalogue has the product in another locale."""
        keys = [PRODUCT_ID, LOCALE]
        unknown = frame.join(self.products, on=keys, how="anti")
        if unknown.is_empty():
            return frame
        elsewhere = self.products.unique(PRODUCT_ID, keep="first")
        elsewhere = elsewhere.select(PRODUCT_ID, pl.col(LOCALE).alias("elsewhere"))
        unknown = unknown.select(keys).unique().with_columns(known=False).join(elsewhere, on=PRODUCT_ID, how="left")
        frame = frame.join(unknown, on=keys, how="left", maintain_order="left")
        hint = pl.format(", but there is one in {}", "elsewhere").fill_null("")
        detail = pl.format("'{}' in locale '{}'", PRODUCT_ID, LOCALE) + hint
        return refuse(frame, pl.col("known").is_not_null(), reasons.NO_PRODUCT, detail).drop("known", "elsewhere")


def _weight(text: str) -> float | None:
    try:
        weight = float(text.replace(",", ".") or 1)
    except ValueError:
        return None
    return weight if 0 <= weight < float("inf") else None


def _column(
    raw: pl.DataFrame, name: str, meaning: Callable[[str], Any], kind: Any, blank: float | None = None
) -> pl.Series:
    """Read a column that may be absent, by the text in lower case."""
    if name not in raw.columns:
        return pl.repeat(blank, len(raw), dtype=kind, eager=True)
    return _each_distinct(raw[name].fill_null(""), lambda text: meaning(text.strip().lower()), kind)


def _each_distinct(column: pl.Series, meaning: Callable[[str], Any], kind: Any) -> pl.Series:
    """Apply a function to each distinct text once."""
    distinct = column.drop_nulls().unique()
    meanings = pl.Series([meaning(text) for text in distinct], dtype=kind)
    return column.replace_strict(distinct, meanings, default=None, return_dtype=kind)


def _arrow(column: pl.Series) -> Any:
    return column.to_arrow().cast(pa.large_string())


def _series(array: Any) -> pl.Series:
    return pl.Series(pl.from_arrow(array))
