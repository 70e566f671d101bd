"""The figures of a dataset folder's summary: what is in it, how long its texts are, what they lack.

They lie in ``summary.json``, apart from the manifest, because they can be taken again at any time, also with a
tokenizer, without the dataset being another one. They hold no times and no paths.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow.compute as pc

from zhichun.core.errors import UserError
from zhichun.data.dataset.dataset import Dataset
from zhichun.data.prepare.catalogue_survey import PRODUCT, CatalogueSurvey
from zhichun.data.prepare.length_counts import LengthCounts
from zhichun.data.prepare.pair_counts import JudgedQueries, count_pairs
from zhichun.data.prepare.token_lengths import token_lengths
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
    """Take the figures of a dataset folder.

    Parameters
    ----------
    folder
        The folder; of its files, ``examples.parquet`` and ``products.parquet`` are read.
    tokenizer, tokenizer_name
        What counts tokens, and what it is called in the summary; without one, lengths are in characters and words.
    sample
        Words and tokens of products are counted in so many products at most, drawn evenly.
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
        raise UserError(f"a sample of {sample} products says nothing.", remedy="Give a whole number from 1.")
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


def _lengths(queries: JudgedQueries, catalogue: CatalogueSurvey) -> dict[str, dict[str, LengthCounts]]:
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
