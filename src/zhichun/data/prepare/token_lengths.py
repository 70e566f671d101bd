"""How many tokens queries, products and pairs have, and how many pairs are cut at a length.

A pair counts as `zhichun.text.pairs.Pairs` puts it together: query, product with a separator between its fields, and
the tokenizer's special tokens. Legend: ``Q`` queries, ``S`` products of the sample, ``P`` pairs.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zhichun.core.arrays import Int64
from zhichun.core.schema import JUDGED, ORIGIN, QUERY
from zhichun.data.dataset.dataset import product_keys
from zhichun.data.prepare.catalogue_survey import locales_of
from zhichun.data.prepare.length_counts import LengthCounts
from zhichun.data.prepare.pair_counts import JudgedQueries
from zhichun.text.document import COLUMN_OF
from zhichun.text.tokenizer import PairTokenizer

# Values of `model.max_length` that people choose among; the paper's is 256.
MAX_LENGTHS: Final = (64, 128, 192, 256, 384, 512)
BATCH: Final = 512

Progress = Callable[[str, int, int], None]


def token_lengths(
    tokenizer: PairTokenizer, queries: JudgedQueries, examples: pa.Table, sample: pa.Table, progress: Progress
) -> tuple[dict[str, LengthCounts], list[dict[str, Any]]]:
    """Count tokens.

    Parameters
    ----------
    tokenizer
        What makes them.
    queries
        The judged queries; all of them are counted.
    examples
        ``examples.parquet``. Counted are the judged pairs whose product is in the sample: products are drawn evenly and
        come with all of their pairs, so that these stand for all pairs.
    sample
        Products.
    progress
        Called with (what, texts done, texts in all).

    Returns
    -------
    lengths
        Of ``query``, ``product`` and ``pair``, in tokens.
    cut
        By locale and maximum length: ``locale``, ``max_length``, ``pairs``, and ``cut``, those that are longer.
    """
    query_Q = _encoded(queries.texts.to_pylist(), tokenizer, progress)
    product_S = _products(sample, tokenizer, progress)
    judged = examples.filter(pc.equal(examples.column(ORIGIN), JUDGED))
    rows = pc.index_in(product_keys(judged), value_set=product_keys(sample).combine_chunks())
    known = rows.is_valid()
    judged, rows_P = judged.filter(known), rows.filter(known).to_numpy()
    # A text that is a query in two locales has the same tokens in both.
    queries_P = pc.index_in(judged.column(QUERY), value_set=queries.texts).to_numpy()
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
