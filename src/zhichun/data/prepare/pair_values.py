"""Turning the texts of a judgement file into what they mean."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa

from zhichun.core.schema import (
    EXAMPLE_ID,
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
from zhichun.data.readers.rejected import RejectedRows
from zhichun.data.readers.table import Table
from zhichun.text.clean import clean_text
from zhichun.text.fold import fold_grade, fold_locales, trim_ids

INDEX: Final = "index"
ROW: Final = "row"
# What `split` is for a text that is neither of these two, so that it can be refused; null is for no text.
UNKNOWN: Final = "unknown"

_VERSIONS: Final = {"": 1, "0": 0, "1": 1, "false": 0, "true": 1}
_SPLITS: Final = {TRAIN: TRAIN, TEST: TEST}


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """How pairs are read.

    Attributes
    ----------
    labels
        From `zhichun.data.readers.judgements.grade_labels`.
    locale
        The locale of pairs without one.
    folds
        How many folds.
    test_share
        Share of the queries that are for testing, where the file does not say.
    """

    labels: Mapping[str, str]
    locale: str
    folds: int
    test_share: float


def read_pairs(
    table: Table, columns: Mapping[str, str], rejected: RejectedRows, progress: Callable[[int, int], None]
) -> pl.DataFrame:
    """Read the judgements as they stand.

    Parameters
    ----------
    table, columns
        Where they come from; official name to the table's column.
    rejected
        Takes the rows that cannot be read.
    progress
        Called with how much is done and how much there is.

    Returns
    -------
    polars.DataFrame
        The columns as text, and ``row``.
    """
    parts = [pl.DataFrame(schema={**dict.fromkeys(columns, pl.String), ROW: pl.Int64})]
    for batch in table.batches(columns, rejected):
        parts.append(pl.DataFrame(pl.from_arrow(pa.table({**batch.columns, ROW: batch.rows_N}))))
        progress(batch.done, table.total)
    return pl.concat(parts)


def read_values(raw: pl.DataFrame, options: PairOptions) -> pl.DataFrame:
    """Give each column its meaning.

    Parameters
    ----------
    raw
        From `read_pairs`.
    options
        How to read it.

    Returns
    -------
    polars.DataFrame
        ``index`` into ``raw``, ``row``, cleaned query, id, locale, label, split, both versions, weight and, where
        given, both ids as text. Null is what means nothing; for ``split`` it means that the file does not say.
    """
    locales = _arrow(raw[LOCALE]) if LOCALE in raw.columns else None
    frame = pl.DataFrame(
        {
            INDEX: np.arange(len(raw)),
            ROW: raw[ROW],
            QUERY: _each_distinct(raw[QUERY], lambda query: clean_text(query) or None, pl.String),
            PRODUCT_ID: _series(trim_ids(_arrow(raw[PRODUCT_ID]))),
            LOCALE: _series(fold_locales(locales, options.locale, len(raw))),
            LABEL: _each_distinct(raw[LABEL], lambda grade: options.labels.get(fold_grade(grade)), pl.String),
            SPLIT: _column(raw, SPLIT, _split, pl.String),
            SMALL: _column(raw, SMALL, _VERSIONS.get, pl.Int64, blank=1),
            LARGE: _column(raw, LARGE, _VERSIONS.get, pl.Int64, blank=1),
            WEIGHT: _column(raw, WEIGHT, _weight, pl.Float32, blank=1.0),
        }
    )
    return frame.with_columns(raw[name] for name in (QUERY_ID, EXAMPLE_ID) if name in raw.columns)


def _split(text: str) -> str | None:
    return _SPLITS.get(text, UNKNOWN) if text else None


def _weight(text: str) -> float | None:
    try:
        weight = float(text or 1)
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
    """Apply a function to each different text once."""
    distinct = column.drop_nulls().unique()
    meanings = pl.Series([meaning(text) for text in distinct], dtype=kind)
    return column.replace_strict(distinct, meanings, default=None, return_dtype=kind)


def _arrow(column: pl.Series) -> Any:
    return column.to_arrow().cast(pa.large_string())


def _series(array: Any) -> pl.Series:
    return pl.Series(pl.from_arrow(array))
