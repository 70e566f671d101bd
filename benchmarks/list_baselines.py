"""What needs no training, beside which models are seen: a random order, BM25, and the encoder as it comes.

Not a script.

Legend: ``P`` pairs, ``C`` classes, ``Q`` queries, ``N`` products, ``D`` size of a vector.
"""

from functools import cache

import numpy as np
import numpy.typing as npt
from list_cells import Bench, label_codes_of, with_folded_locales
from list_figures import Said
from list_rows import Row

from zhichun.core import schema
from zhichun.data.dataset import product_keys, read_parquet
from zhichun.text.bm25 import Documents, FirstStage

Places = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


def untrained(bench: Bench, row: Row, fold: int) -> tuple[Places, Said]:
    """Give the pairs of a fold and what a row without trainings says of them."""
    place_P = np.flatnonzero(bench.fold_P == fold)
    if row.side == "random":
        return place_P, by_shares(bench, fold, place_P)
    scores_P = bm25_scores(bench) if row.side == "bm25" else cosines(bench)
    return place_P, Said(scores_P[place_P], None)


def by_shares(bench: Bench, fold: int, place_P: Places) -> Said:
    """Say of all pairs how often each label is in training; rank nothing."""
    counts_C = np.bincount(label_codes_of(bench.judged)[bench.fold_P != fold], minlength=len(schema.LABELS))
    return Said(np.zeros(len(place_P)), np.tile(counts_C / counts_C.sum(), (len(place_P), 1)))


def titles_and_brands(bench: Bench) -> tuple[list[str], list[str], Places]:
    """Read the catalogue: what is searched of each product, its locale, and the row of each pair's product, ``[P]``."""
    products = with_folded_locales(read_parquet(bench.source / schema.OFFICIAL_PRODUCTS_FILE))
    row_of = {key: row for row, key in enumerate(product_keys(products).to_pylist())}
    fields = (products.column(name).to_pylist() for name in (schema.TITLE, schema.BRAND))
    texts = [" ".join(filter(None, texts)) for texts in zip(*fields, strict=True)]
    of_pair = np.asarray([row_of[key] for key in product_keys(bench.judged).to_pylist()])
    return texts, products.column(schema.LOCALE).to_pylist(), of_pair


@cache
def bm25_scores(bench: Bench) -> Doubles:
    """Score the judged pairs by BM25 on title and brand, over the catalogue of their locale, ``[P]``."""
    texts, locale_of, product_P = titles_and_brands(bench)
    locales, queries = (bench.judged.column(name).to_pylist() for name in (schema.LOCALE, schema.QUERY))
    found_P = np.zeros(len(queries))
    for locale in set(locales):
        rows = [row for row, of in enumerate(locale_of) if of == locale]
        documents, place_of = Documents(), {row: place for place, row in enumerate(rows)}
        documents.add([texts[row] for row in rows])
        search = cache(FirstStage(documents).scores)
        for pair, query in enumerate(queries):
            if locales[pair] == locale and (scores_N := search(query)) is not None:
                found_P[pair] = scores_N[place_of[product_P[pair]]]
    return found_P


@cache
def cosines(bench: Bench) -> Doubles:
    """Score the judged pairs by the cosine of query with title and brand, by the encoder before any training, ``[P]``.

    sentence-transformers reads the encoder's own pooling; the means of all tokens, where it names none.
    """
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(bench.recipe.model.encoder, trust_remote_code=False)
    encoder.max_seq_length = bench.recipe.model.max_length
    texts, _, product_P = titles_and_brands(bench)
    queries, query_P = np.unique(bench.judged.column(schema.QUERY).to_pylist(), return_inverse=True)
    judged, judged_P = np.unique(product_P, return_inverse=True)
    prompts = (encoder.prompts.get(name) for name in ("query", "document"))  # E5 wants some
    sides = zip((queries.tolist(), [texts[row] for row in judged]), prompts, strict=True)
    query_QD, product_ND = (encoder.encode(side, prompt=of, normalize_embeddings=True) for side, of in sides)
    cosine_P: Doubles = np.einsum("pd,pd->p", query_QD[query_P], product_ND[judged_P]).astype(np.float64)
    return cosine_P
