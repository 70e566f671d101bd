"""The figures of a dataset folder's summary: counts, text lengths, missing values, frequent values.

They are in ``summary.json``, apart from the manifest, because they can be recomputed at any time, also with a
tokenizer, without changing the dataset. They contain no times and no paths. The catalogue is read once; of its texts
only the lengths are kept, and an even sample.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from zhichun.core import schema
from zhichun.core.arrays import Int64, Ragged
from zhichun.core.errors import UserError
from zhichun.data.dataset import REMEDY, Dataset, Progress, no_progress, of_catalogue, read_parquet
from zhichun.text.tokenizer import PairTokenizer
from zhichun.text.vocabulary import word_counts

FORMAT: Final = 1
SUMMARY_FILE: Final = "summary.json"
# A share of so many is right within one point in 95 of 100 draws.
SAMPLE: Final = 10_000
# What all fields together are called.
PRODUCT: Final = "product"
# A histogram shows all but the longest hundredth, in so many bars at most.
SHOWN_SHARE: Final = 0.99
MOST_BARS: Final = 40
MOST_VALUES: Final = 10
# Values of `model.max_length` that people choose among; the paper's is 256.
MAX_LENGTHS: Final = (64, 128, 192, 256, 384, 512)
BATCH: Final = 512
_TOKENS: Final = "tokens"
_GROUPED: Final = (schema.LOCALE, schema.BRAND, schema.COLOR)


def summarise(
    folder: Path,
    *,
    tokenizer: PairTokenizer | None = None,
    tokenizer_name: str = "",
    sample: int = SAMPLE,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Compute the figures of a dataset folder.

    Parameters
    ----------
    folder
        The folder; of its files, ``examples.parquet`` and ``products.parquet`` are read.
    tokenizer, tokenizer_name
        For lengths in tokens, with its name for the summary; without one, lengths are in characters and words.
    sample
        Maximum number of products, drawn evenly, in which words and tokens are counted.
    progress
        Called with (what, rows done, rows in all).

    Returns
    -------
    dict
        Ready for JSON; the same folder and options give the same figures. What each means is in ``docs/data.md``.

    Raises
    ------
    UserError
        When it is no dataset folder, a file is missing or damaged, or the sample is empty.
    """
    if sample < 1:
        raise UserError(f"a sample cannot have {sample} products.", remedy="Give a whole number from 1.")
    dataset = Dataset.open(folder)
    examples = pl.DataFrame(pl.from_arrow(dataset.examples))
    judged = examples.filter(pl.col(schema.ORIGIN) == schema.JUDGED)
    queries = _queries(judged)
    products, drawn, made = survey(dataset, sample, progress)
    of_locale = (
        products.group_by(schema.LOCALE).agg(pl.len(), pl.col(*schema.COLUMN_OF).null_count()).sort(schema.LOCALE)
    )
    words = _words(drawn)
    lengths = {
        "query": {unit: describe(queries, unit) for unit in ("characters", "bytes", "words")},
        **{
            part: {"characters": describe(products, part), "words": describe(words, part)}
            for part in (*schema.COLUMN_OF, PRODUCT)
        },
    }
    tokens = None
    if tokenizer is not None:
        counted = _tokens(tokenizer, queries, judged, drawn, progress)
        for part, frame in counted.items():
            lengths.setdefault(part, {})[_TOKENS] = describe(frame, _TOKENS)
        tokens = {"tokenizer": tokenizer_name, "fingerprint": tokenizer.fingerprint, "cut": _cut(counted["pair"])}
    of_queries = queries.group_by(schema.LOCALE, schema.SPLIT).len().sort(schema.LOCALE, schema.SPLIT)
    return {
        "format": FORMAT,
        "pairs": _pairs(examples),
        "queries": of_queries.rename({schema.LOCALE: "locale", "len": "queries"}).to_dicts(),
        "judged_products": describe(queries, "products"),
        "products": {
            "by_locale": dict(of_locale.select(schema.LOCALE, "len").iter_rows()),
            "without": {field: dict(of_locale.select(schema.LOCALE, field).iter_rows()) for field in schema.COLUMN_OF},
            "made": made,
        },
        "brands": top_values(products, schema.BRAND),
        "colors": top_values(products, schema.COLOR),
        "sample": {"products": len(drawn), "of": len(products)},
        "tokens": tokens,
        "lengths": lengths,
    }


def survey(dataset: Dataset, sample: int, progress: Progress) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, int]]:
    """Read the catalogue.

    Returns
    -------
    products
        Locale, brand and color of each product, and its characters by field, null where there is no text, and of all
        together as `PRODUCT`; without those that steps made.
    drawn
        ``sample`` whole products: every n-th, or all where there are no more.
    made
        Products that steps made, by origin.
    """
    origins = read_parquet(dataset.folder / schema.PRODUCTS_FILE, REMEDY, [schema.ORIGIN])
    made = dict(pl.DataFrame(pl.from_arrow(origins)).group_by(schema.ORIGIN).len().sort(schema.ORIGIN).iter_rows())
    total = made.pop(schema.CATALOGUE, 0)
    chosen = np.arange(min(sample, total)) * total // max(1, min(sample, total))
    drawn = [pl.DataFrame(schema=dict.fromkeys(schema.PRODUCT_COLUMNS, pl.String))]
    strings, numbers = dict.fromkeys(_GROUPED, pl.String), dict.fromkeys(schema.COLUMN_OF, pl.Int32)
    products = [pl.DataFrame(schema={**strings, **numbers})]
    read = 0
    for batch in dataset.product_batches(schema.ORIGIN):
        catalogue = of_catalogue(batch)
        first, last = np.searchsorted(chosen, (read, read + len(catalogue)))
        here = catalogue.select(list(schema.PRODUCT_COLUMNS)).take(pa.array(chosen[first:last] - read))
        drawn.append(pl.DataFrame(pl.from_arrow(here)))
        known = {name: catalogue.column(name) for name in _GROUPED}
        lengths = {field: pc.utf8_length(catalogue.column(column)) for field, column in schema.COLUMN_OF.items()}
        products.append(pl.DataFrame(pl.from_arrow(pa.table({**known, **lengths}))))
        read += len(catalogue)
        progress("summary", read, total)
    return _with_sum(pl.concat(products)), pl.concat(drawn), made


def describe(frame: pl.DataFrame, name: str) -> dict[str, Any]:
    """Return the figures of a column of lengths by locale; nulls do not count."""
    parts = frame.drop_nulls(name).partition_by(schema.LOCALE, as_dict=True)
    counts = {str(locale): np.bincount(part[name].to_numpy()) for (locale,), part in sorted(parts.items())}
    bar = _bar_width(1 + max((_reached_by(each, SHOWN_SHARE) for each in counts.values()), default=0))
    return {"bar": bar, "by_locale": {locale: _figures(each, bar) for locale, each in counts.items()}}


def _figures(counts: Int64, bar: int) -> dict[str, Any]:
    texts = int(counts.sum())
    bars = _reached_by(counts, SHOWN_SHARE) // bar + 1
    shown = np.zeros(bars * bar, np.int64)
    kept = min(len(shown), len(counts))
    shown[:kept] = counts[:kept]
    return {
        "texts": texts,
        "mean": round(float(counts @ np.arange(len(counts))) / texts, 2),
        "median": _reached_by(counts, 0.5),
        "p95": _reached_by(counts, 0.95),
        "longest": len(counts) - 1,
        "bars": shown.reshape(bars, bar).sum(axis=1).tolist(),
        "beyond": texts - int(shown.sum()),
    }


def _reached_by(counts: Int64, share: float) -> int:
    """Return a quantile of the lengths."""
    total = np.cumsum(counts)
    return int(np.searchsorted(total, share * total[-1] - 1e-9))


def _bar_width(lengths: int) -> int:
    """Return the smallest of 1, 2, 5, 10, 20, … with which the lengths fit into `MOST_BARS` bars."""
    unit = 1
    while True:
        for factor in (1, 2, 5):
            if factor * unit * MOST_BARS >= lengths:
                return factor * unit
        unit *= 10


def top_values(products: pl.DataFrame, name: str) -> dict[str, Any]:
    """Count the values of a column by locale, upper and lower case alike; ties are broken by text."""
    counted = products.drop_nulls(name).group_by(schema.LOCALE, pl.col(name).str.to_lowercase()).len()
    parts = counted.sort("len", name, descending=[True, False]).partition_by(schema.LOCALE, as_dict=True)
    return {
        str(locale): {
            "values": len(part),
            "products": int(part["len"].sum()),
            "top": [list(row) for row in part.select(name, "len").head(MOST_VALUES).iter_rows()],
        }
        for (locale,), part in sorted(parts.items())
    }


def _pairs(examples: pl.DataFrame) -> list[dict[str, Any]]:
    """Count pairs, and add up their weights, by origin, locale, split and label."""
    names = {schema.ORIGIN: "origin", schema.LOCALE: "locale", schema.SPLIT: "split", schema.LABEL: "label"}
    weight = pl.col(schema.WEIGHT).cast(pl.Float64).sum().round(2).alias("weight")
    return examples.group_by(*names).agg(pl.len().alias("pairs"), weight).sort(*names).rename(names).to_dicts()


def _queries(judged: pl.DataFrame) -> pl.DataFrame:
    """Return the distinct judged queries, each in its first spelling, with judged products and lengths.

    Of queries also bytes are counted, which is what the paper counted of Japanese.
    """
    queries = judged.group_by(schema.QUERY_ID, maintain_order=True).agg(
        pl.col(schema.QUERY, schema.LOCALE, schema.SPLIT).first(), pl.len().alias("products")
    )
    return queries.with_columns(
        pl.col(schema.QUERY).str.len_chars().alias("characters"),
        pl.col(schema.QUERY).str.len_bytes().alias("bytes"),
        pl.Series("words", word_counts(queries[schema.QUERY].to_list())),
    )


def _words(drawn: pl.DataFrame) -> pl.DataFrame:
    """Count the words of each product by field, and of all together."""
    counts = []
    for field, column in schema.COLUMN_OF.items():
        words = pl.Series(word_counts(drawn[column].to_list()))
        counts.append(pl.when(pl.col(column).is_not_null()).then(words).alias(field))
    return _with_sum(drawn.select(schema.LOCALE, *counts))


def _with_sum(lengths: pl.DataFrame) -> pl.DataFrame:
    return lengths.with_columns(pl.sum_horizontal(*schema.COLUMN_OF).alias(PRODUCT))


def _tokens(
    tokenizer: PairTokenizer, queries: pl.DataFrame, judged: pl.DataFrame, drawn: pl.DataFrame, progress: Progress
) -> dict[str, pl.DataFrame]:
    """Count the tokens of queries, of the drawn products and of the pairs of both."""
    of_queries = _encoded("queries", queries, [schema.QUERY], lambda columns: tokenizer.encode(columns[0]), progress)
    of_products = _encoded("products", drawn, schema.COLUMN_OF.values(), tokenizer.encode_documents, progress)
    # Spellings of one query count as its first one does.
    product = [schema.PRODUCT_ID, schema.LOCALE]
    pairs = judged.select(schema.QUERY_ID, *product)
    pairs = pairs.join(of_queries.select(schema.QUERY_ID, of_query=_TOKENS), on=schema.QUERY_ID)
    pairs = pairs.join(of_products.select(*product, _TOKENS), on=product)
    pairs = pairs.with_columns(pl.col(_TOKENS) + pl.col("of_query") + tokenizer.layout.specials)
    return {"query": of_queries, "product": of_products, "pair": pairs}


def _encoded(
    what: str,
    frame: pl.DataFrame,
    columns: Iterable[str],
    encode: Callable[[Sequence[Sequence[str]]], Ragged],
    progress: Progress,
) -> pl.DataFrame:
    """Add the tokens of each row's texts."""
    texts, lengths = frame.select(*columns).fill_null(""), [np.zeros(0, np.int64)]
    for start in range(0, len(frame), BATCH):
        batch = texts.slice(start, BATCH)
        lengths.append(encode([column.to_list() for column in batch]).lengths)
        progress(f"tokens of {what}", start + len(batch), len(frame))
    return frame.with_columns(pl.Series(_TOKENS, np.concatenate(lengths)))


def _cut(pairs: pl.DataFrame) -> list[dict[str, Any]]:
    """Count the pairs that each maximum length cuts, by locale."""
    longer = [(pl.col(_TOKENS) > length).sum().alias(str(length)) for length in MAX_LENGTHS]
    counted = pairs.group_by(schema.LOCALE).agg(pl.len(), *longer).sort(schema.LOCALE).to_dicts()
    return [
        {"locale": row[schema.LOCALE], "max_length": length, "pairs": row["len"], "cut": row[str(length)]}
        for row in counted
        for length in MAX_LENGTHS
    ]
