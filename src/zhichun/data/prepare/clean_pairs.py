"""The steps that parse every value of judged pairs, and drop pairs with an invalid one or an unknown product."""

from collections.abc import Callable
from typing import Any, Final

import polars as pl
import pyarrow as pa

from zhichun.core import schema
from zhichun.data.prepare.steps import INDEX, ROW, SOURCE, Refuse
from zhichun.data.readers import rejected as reasons
from zhichun.text.clean import clean_text
from zhichun.text.fold import NOT_JUDGED, fold_grade, fold_judge, fold_locales, trim_ids

# The grade as it was written, folded.
GRADE: Final = "grade"
# What `split` is for a text that is neither of these two, so that it can be refused; null is for no text.
_UNKNOWN: Final = "unknown"
_VERSIONS: Final = {"": 1, "0": 0, "1": 1, "false": 0, "true": 1}
_SPLITS: Final = {"": None, schema.TRAIN: schema.TRAIN, schema.TEST: schema.TEST}
_OPTIONAL: Final = (schema.LOCALE, schema.JUDGE, schema.SPLIT, schema.SMALL, schema.LARGE, schema.WEIGHT)


def clean(frame: pl.DataFrame, refuse: Refuse, *, label_of: Callable[[str], str | None], locale: str) -> pl.DataFrame:
    """Clean queries, parse all other values of raw pairs, and drop pairs with an invalid one.

    A split may still be missing afterwards.

    Parameters
    ----------
    frame, refuse
        As of every step.
    label_of
        Maps a grade to a label: one of the four, `NOT_JUDGED`, or None.
    locale
        The locale of pairs without one.
    """
    absent = [pl.lit(None, pl.String).alias(name) for name in _OPTIONAL if name not in frame.columns]
    raw = frame.with_columns(absent)
    frame = _read(raw, label_of, locale)

    def given(name: str) -> pl.Expr:
        """Return what was written in the file."""
        return pl.format("'{}'", pl.col(INDEX).map_batches(raw[name].gather, return_dtype=pl.String))

    frame = refuse(frame, pl.col(schema.LABEL) == NOT_JUDGED, reasons.NOT_JUDGED, given(schema.LABEL))
    frame = refuse(frame, pl.col(schema.PRODUCT_ID).is_null(), reasons.MISSING_ID, given(schema.PRODUCT_ID))
    frame = refuse(frame, pl.col(schema.QUERY).is_null(), reasons.EMPTY_QUERY, given(schema.QUERY))
    frame = refuse(frame, pl.col(schema.LABEL).is_null(), reasons.UNKNOWN_LABEL, given(schema.LABEL))
    frame = refuse(frame, pl.col(schema.SPLIT) == _UNKNOWN, reasons.UNKNOWN_SPLIT, given(schema.SPLIT))
    for name in (schema.SMALL, schema.LARGE, schema.WEIGHT):
        frame = refuse(frame, pl.col(name).is_null(), reasons.BAD_NUMBER, pl.format(f"{name} {{}}", given(name)))
    return frame


def _read(raw: pl.DataFrame, label_of: Callable[[str], str | None], locale: str) -> pl.DataFrame:
    """Parse each column; null is an invalid value, or a split that the file does not have."""

    def read(name: str, meaning: Callable[[str], Any], kind: Any = pl.String) -> pl.Series:
        """Look at each different text once."""
        texts = raw[name].fill_null("")
        distinct = texts.unique()
        meanings = pl.Series([meaning(text) for text in distinct], dtype=kind)
        return texts.replace_strict(distinct, meanings, default=None, return_dtype=kind)

    frame = pl.DataFrame(
        {
            INDEX: raw[INDEX],
            ROW: raw[ROW],
            SOURCE: raw[SOURCE],
            schema.QUERY: read(schema.QUERY, lambda text: clean_text(text) or None),
            schema.PRODUCT_ID: _series(trim_ids(_arrow(raw[schema.PRODUCT_ID]))),
            schema.LOCALE: _series(fold_locales(_arrow(raw[schema.LOCALE]), locale, len(raw))),
            schema.LABEL: read(schema.LABEL, label_of),
            GRADE: read(schema.LABEL, fold_grade),
            schema.JUDGE: read(schema.JUDGE, lambda text: fold_judge(text) or None),
            schema.SPLIT: read(schema.SPLIT, lambda text: _SPLITS.get(fold_grade(text), _UNKNOWN)),
            schema.SMALL: read(schema.SMALL, lambda text: _VERSIONS.get(fold_grade(text)), pl.Int64),
            schema.LARGE: read(schema.LARGE, lambda text: _VERSIONS.get(fold_grade(text)), pl.Int64),
            schema.WEIGHT: read(schema.WEIGHT, _weight, pl.Float32),
        }
    )
    return frame.with_columns(raw[name] for name in (schema.QUERY_ID, schema.EXAMPLE_ID) if name in raw.columns)


def match_products(frame: pl.DataFrame, refuse: Refuse, *, products: pl.DataFrame) -> pl.DataFrame:
    """Drop the pairs whose product the catalogue does not have in the pair's locale.

    The reason says if it has it in another one. ``products`` has ``product_id`` and ``product_locale``, each pair once.
    """
    keys = [schema.PRODUCT_ID, schema.LOCALE]
    unknown = frame.join(products, on=keys, how="anti")
    if unknown.is_empty():
        return frame
    elsewhere = products.unique(schema.PRODUCT_ID, keep="first")
    elsewhere = elsewhere.select(schema.PRODUCT_ID, elsewhere=schema.LOCALE)
    unknown = unknown.select(keys).unique().with_columns(known=False)
    unknown = unknown.join(elsewhere, on=schema.PRODUCT_ID, how="left")
    frame = frame.join(unknown, on=keys, how="left", maintain_order="left")
    hint = pl.format(", but there is one in {}", "elsewhere").fill_null("")
    detail = pl.format("'{}' in locale '{}'", schema.PRODUCT_ID, schema.LOCALE) + hint
    return refuse(frame, pl.col("known").is_not_null(), reasons.NO_PRODUCT, detail).drop("known", "elsewhere")


def _weight(text: str) -> float | None:
    try:
        weight = float(fold_grade(text) or 1)
    except ValueError:
        return None
    return weight if 0 <= weight < float("inf") else None


def _arrow(column: pl.Series) -> Any:
    return column.to_arrow().cast(pa.large_string())


def _series(array: Any) -> pl.Series:
    return pl.Series(pl.from_arrow(array))
