"""The judgements of the sample shop: true labels, the split, and the mistakes of the judges."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from zhichun.core.schema import LOCALES
from zhichun.data.sample_shop.candidates import Queries, make_queries
from zhichun.data.sample_shop.catalogue import Catalogue
from zhichun.data.sample_shop.rule import true_labels

TEST_SHARE: Final = 0.2
# What a mistaken judge says instead of E, S, C and I: more often a label next to the true one.
MISTAKES: Final = np.array(
    [[0.00, 0.75, 0.05, 0.20], [0.55, 0.00, 0.15, 0.30], [0.10, 0.40, 0.00, 0.50], [0.15, 0.45, 0.40, 0.00]]
)

Labels = npt.NDArray[np.int8]


@dataclass(frozen=True)
class JudgedPairs:
    """All judgements, query after query.

    Attributes
    ----------
    queries
        What the queries ask for.
    in_test
        Shape ``(queries,)``: whether a query is in the test split.
    query_ids, products
        Shape ``(pairs,)``: rows of the queries and of the catalogue.
    truth, labels
        Shape ``(pairs,)``: places in :data:`zhichun.core.schema.LABELS`, true and as judged.
    """

    queries: Queries
    in_test: npt.NDArray[np.bool_]
    query_ids: npt.NDArray[np.int64]
    products: npt.NDArray[np.int32]
    truth: Labels
    labels: Labels


def judge(
    catalogue: Catalogue, queries: int, candidates: float, wrong_labels: float, rng: np.random.Generator
) -> JudgedPairs:
    """Draw the queries, choose their candidates and judge them.

    Parameters
    ----------
    catalogue
        The products.
    queries
        How many queries.
    candidates
        How many products per query on average.
    wrong_labels
        Share of the train split's judgements that are wrong; the test split has no wrong ones.
    rng
        Source of all chance.

    Returns
    -------
    JudgedPairs
    """
    wanted, products, sizes = make_queries(catalogue, queries, candidates, rng)
    query_ids = np.repeat(np.arange(queries), sizes)
    truth = true_labels(wanted.asked[query_ids], catalogue.attributes[products])
    in_test = _choose_test(wanted, rng)
    labels = _mistake(truth, np.flatnonzero(~in_test[query_ids]), wrong_labels, rng)
    return JudgedPairs(wanted, in_test, query_ids, products, truth, labels)


def _choose_test(queries: Queries, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Put every fifth query of each locale, sorted by difficulty, into the test split."""
    every = round(1 / TEST_SHARE)
    in_test = np.zeros(len(queries.locales), dtype=np.bool_)
    for locale in range(len(LOCALES)):
        rows = rng.permutation(np.flatnonzero(queries.locales == locale))
        rows = rows[np.argsort(queries.hard[rows], kind="stable")]
        first = rng.integers(min(every, len(rows))) if len(rows) > 1 else 1  # a single query is to train on
        in_test[rows[first::every]] = True
    return in_test


def _mistake(truth: Labels, train: npt.NDArray[np.int64], share: float, rng: np.random.Generator) -> Labels:
    labels = truth.copy()
    wrong = rng.choice(train, size=round(share * len(train)), replace=False)
    reached = np.cumsum(MISTAKES, axis=1)[truth[wrong]]
    labels[wrong] = (rng.random((len(wrong), 1)) * reached[:, -1:] >= reached).sum(axis=1)
    return labels
