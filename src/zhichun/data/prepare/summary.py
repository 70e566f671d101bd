"""The figures of a dataset folder's summary: counts, text lengths, missing values.

They are in ``summary.json``, apart from the manifest, because they can be recomputed at any time, also with a
tokenizer, without changing the dataset. They contain no times and no paths.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zhichun.core.arrays import Int64
from zhichun.core.errors import UserError
from zhichun.core.schema import JUDGED, LABEL, LOCALE, ORIGIN, QUERY, QUERY_ID, SPLIT, WEIGHT
from zhichun.data.dataset.dataset import Dataset, product_keys
from zhichun.data.prepare.survey import PRODUCT, CatalogueSurvey, LengthCounts, locales_of
from zhichun.text.document import COLUMN_OF
from zhichun.text.tokenizer import PairTokenizer
from zhichun.text.words import word_counts

FORMAT: Final = 1
SUMMARY_FILE: Final = "summary.json"
# A share of so many is right within one point in 95 of 100 draws.
SAMPLE: Final = 10_000

Progress = Callable[[str, int, int], None]


def summarise(
    folder: Path,
    *,
    tokenizer: PairTokenizer | None = None,
    tokenizer_name: str = "",
    sample: int = SAMPLE,
    progress: Progress | None = None,
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
    progress = progress or _silent
    dataset = Dataset.open(folder)
    queries = JudgedQueries(dataset.examples)
    catalogue = CatalogueSurvey(dataset, sample, partial(progress, "summary"))
    lengths = _lengths(queries, catalogue)
    tokens = None
    if tokenizer is not None:
        counted, cut = token_lengths(tokenizer, queries, dataset.examples, catalogue.sample, progress)
        for part, counts in counted.items():
            lengths.setdefault(part, {})["tokens"] = counts
        tokens = {"tokenizer": tokenizer_name, "fingerprint": tokenizer.fingerprint, "cut": cut}
    return {
        "format": FORMAT,
        "pairs": count_pairs(dataset.examples),
        "queries": queries.count(),
        "judged_products": queries.judged_products(),
        "products": {
            "by_locale": dict(sorted(catalogue.products.items())),
            "without": {field: dict(sorted(counts.items())) for field, counts in catalogue.without.items()},
            "made": dict(sorted(catalogue.made.items())),
        },
        "brands": catalogue.brands,
        "colors": catalogue.colors,
        "sample": {"products": catalogue.sample.num_rows, "of": catalogue.products.total()},
        "tokens": tokens,
        "lengths": {
            part: {unit: counts.describe() for unit, counts in units.items()} for part, units in lengths.items()
        },
    }


def _lengths(queries: "JudgedQueries", catalogue: CatalogueSurvey) -> dict[str, dict[str, LengthCounts]]:
    """Count characters and words by part; of queries also bytes, which is what the paper counted of Japanese."""
    of_query = {unit: LengthCounts() for unit in ("characters", "bytes", "words")}
    of_query["characters"].add_rows(queries.locales, pc.utf8_length(queries.texts).to_numpy())
    of_query["bytes"].add_rows(queries.locales, pc.binary_length(queries.texts).to_numpy())
    of_query["words"].add_rows(queries.locales, word_counts(queries.texts.to_pylist()))
    words = catalogue.words()
    return {
        "query": of_query,
        **{part: {"characters": catalogue.characters[part], "words": words[part]} for part in (*COLUMN_OF, PRODUCT)},
    }


def _silent(what: str, done: int, total: int) -> None:
    pass


def count_pairs(examples: pa.Table) -> list[dict[str, Any]]:
    """Count pairs, and add up their weights, by origin, locale, split and label."""
    names = (ORIGIN, LOCALE, SPLIT, LABEL)
    counted = examples.group_by(list(names)).aggregate([([], "count_all"), (WEIGHT, "sum")])
    keys = ("origin", "locale", "split", "label", "pairs", "weight")
    columns = [*names, "count_all", f"{WEIGHT}_sum"]
    rows = [dict(zip(keys, (row[name] for name in columns), strict=True)) for row in counted.to_pylist()]
    for row in rows:
        row["weight"] = round(row["weight"], 2)
    return sorted(rows, key=lambda row: tuple(row[key] for key in keys[:4]))


class JudgedQueries:
    """The distinct judged queries.

    Parameters
    ----------
    examples
        ``examples.parquet``.

    Attributes
    ----------
    ids : NDArray[int64]
        Their ids, ascending, ``[Q]``.
    texts : pyarrow.Array
        The queries, each once in its locale and in its first spelling, ``[Q]``.
    locales : NDArray[str]
        The locale of each, ``[Q]``.
    """

    def __init__(self, examples: pa.Table) -> None:
        rows = np.flatnonzero(pc.equal(examples.column(ORIGIN), JUDGED).to_numpy())
        ids = examples.column(QUERY_ID).to_numpy()[rows]
        self.ids, first, self._pairs = np.unique(ids, return_index=True, return_counts=True)
        once = examples.select([QUERY, LOCALE, SPLIT]).take(pa.array(rows[first]))
        self.texts: pa.Array = once.column(QUERY).combine_chunks()
        self.locales: npt.NDArray[Any] = np.asarray(once.column(LOCALE).to_pylist(), dtype=str)
        self._splits: npt.NDArray[Any] = np.asarray(once.column(SPLIT).to_pylist(), dtype=str)

    def count(self) -> list[dict[str, Any]]:
        """Count them: ``locale``, ``split`` and ``queries``."""
        counted = pa.table([self.locales, self._splits], ["locale", "split"])
        rows = counted.group_by(["locale", "split"]).aggregate([([], "count_all")]).to_pylist()
        found = [{"locale": row["locale"], "split": row["split"], "queries": row["count_all"]} for row in rows]
        return sorted(found, key=lambda row: (row["locale"], row["split"]))

    def judged_products(self) -> dict[str, Any]:
        """Return how many products are judged for a query, as `LengthCounts.describe` does."""
        counts = LengthCounts()
        counts.add_rows(self.locales, self._pairs)
        return counts.describe()


# Values of `model.max_length` that people choose among; the paper's is 256.
MAX_LENGTHS: Final = (64, 128, 192, 256, 384, 512)
BATCH: Final = 512


def token_lengths(
    tokenizer: PairTokenizer, queries: JudgedQueries, examples: pa.Table, sample: pa.Table, progress: Progress
) -> tuple[dict[str, LengthCounts], list[dict[str, Any]]]:
    """Count tokens."""
    query_Q = _encoded(queries.texts.to_pylist(), tokenizer, progress)
    product_S = _products(sample, tokenizer, progress)
    judged = examples.filter(pc.equal(examples.column(ORIGIN), JUDGED))
    rows = pc.index_in(product_keys(judged), value_set=product_keys(sample).combine_chunks())
    known = rows.is_valid()
    judged, rows_P = judged.filter(known), rows.filter(known).to_numpy()
    # Spellings of one query count as its first one does.
    queries_P = np.searchsorted(queries.ids, judged.column(QUERY_ID).to_numpy())
    pair_P = query_Q[queries_P] + product_S[rows_P] + tokenizer.layout.specials
    lengths = {name: LengthCounts() for name in ("query", "product", "pair")}
    locales_P = locales_of(judged)
    for name, locales, values in (
        ("query", queries.locales, query_Q),
        ("product", locales_of(sample), product_S),
        ("pair", locales_P, pair_P),
    ):
        lengths[name].add_rows(locales, values)
    cut = []
    for locale in np.unique(locales_P):
        of_locale = pair_P[locales_P == locale]
        for length in MAX_LENGTHS:
            longer = int(np.count_nonzero(of_locale > length))
            cut.append({"locale": str(locale), "max_length": length, "pairs": len(of_locale), "cut": longer})
    return lengths, cut


def _encoded(texts: Sequence[str], tokenizer: PairTokenizer, progress: Progress) -> Int64:
    parts = [np.zeros(0, np.int64)]
    for start in range(0, len(texts), BATCH):
        parts.append(tokenizer.encode(texts[start : start + BATCH]).lengths)
        progress("tokens of queries", min(start + BATCH, len(texts)), len(texts))
    return np.concatenate(parts)


def _products(sample: pa.Table, tokenizer: PairTokenizer, progress: Progress) -> Int64:
    parts = [np.zeros(0, np.int64)]
    for start in range(0, sample.num_rows, BATCH):
        rows = sample.slice(start, BATCH)
        columns = [pc.fill_null(rows.column(name), "").to_pylist() for name in COLUMN_OF.values()]
        parts.append(tokenizer.encode_documents(columns).lengths)
        progress("tokens of products", start + rows.num_rows, sample.num_rows)
    return np.concatenate(parts)
