"""Is one model better than another? A paired bootstrap over queries.

Pairs of one query are not independent, so whole queries are drawn, with replacement, and both models are measured on
the same draw (Efron and Tibshirani, 1993, chapters 13 and 16; Smucker, Allan and Carterette, 2007, for retrieval).
Differences of less than about 0.002 nDCG are noise unless they are paired like this.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Draws held in memory at once: 32 MiB of indices.
_DRAWS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Difference:
    """Result of `paired_bootstrap`.

    Parameters
    ----------
    mean
        The first model's metric minus the second's, on the queries as they are.
    low, high
        Percentile interval of that difference.
    p
        Two-sided: probability of a difference at least this large under the null hypothesis.
    queries, resamples, confidence, seed
        What it rests on.
    """

    mean: float
    low: float
    high: float
    p: float
    queries: int
    resamples: int
    confidence: float
    seed: int


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    *,
    query_ids: ArrayLike | None = None,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Compare two models on the same queries.

    Parameters
    ----------
    first, second
        The two models' values, row by row of the same queries or pairs: one per query (from ``metric.per_query``), or
        one per pair with `query_ids` (from ``MicroF1().per_pair``). The metric is the mean over rows. Shape [N].
    query_ids
        The query of each row; all rows of a query are drawn together. ``None``: each row is a query. Shape [N].
    resamples
        How many times the queries are drawn.
    confidence
        Of the interval.
    seed
        The same seed gives the same result.

    Returns
    -------
    Difference
        With ``p = (1 + #{|d* − d| ≥ |d|}) / (1 + resamples)``, d the difference and d* that of a draw: the draws,
        moved to have no difference, stand for the null hypothesis. It is never 0.

    Raises
    ------
    ValueError
        If lengths differ, a value is not finite, there are fewer than two queries, or a setting is out of range.
    """
    gaps = _gaps(first, second)
    if resamples < 1 or not 0 < confidence < 1:
        raise ValueError("resamples must be at least 1, and confidence between 0 and 1")
    sums, sizes = _by_query(gaps, query_ids)
    if len(sums) < 2:
        raise ValueError("a bootstrap over queries needs at least two queries")

    mean = float(gaps.mean())
    means = np.concatenate(list(_resampled_means(sums, sizes, resamples, seed)))
    # Values often lie on a grid, where draws fall just on the bound: rounding must not decide whether they reach it.
    extreme = np.abs(means - mean) >= abs(mean) - 1e-9 * np.abs(gaps).max()
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    p = float((1 + extreme.sum()) / (1 + resamples))
    return Difference(mean, float(low), float(high), p, len(sums), resamples, confidence, seed)


def _gaps(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != other.shape or one.ndim != 1:
        raise ValueError(f"the two models must be measured on the same rows, not {one.shape} and {other.shape}")
    gaps: NDArray[np.float64] = one - other
    if not np.isfinite(gaps).all():
        raise ValueError("every value must be finite")
    return gaps


def _by_query(
    gaps: NDArray[np.float64], query_ids: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Add up the rows of each query: their differences and, unless each row is a query, their number."""
    if query_ids is None:
        return gaps, None
    ids: NDArray[Any] = np.asarray(query_ids)
    if ids.shape != gaps.shape:
        raise ValueError(f"query_ids has shape {ids.shape}, but there are {len(gaps)} rows")
    index = np.unique(ids, return_inverse=True)[1]
    return np.bincount(index, weights=gaps).astype(np.float64), np.bincount(index).astype(np.float64)


def _resampled_means(
    sums: NDArray[np.float64], sizes: NDArray[np.float64] | None, resamples: int, seed: int
) -> Iterator[NDArray[np.float64]]:
    """Yield the mean difference of each draw, a block of draws at a time so that memory stays bounded."""
    generator, queries = np.random.default_rng(seed), len(sums)
    block = max(1, _DRAWS_AT_ONCE // queries)
    for start in range(0, resamples, block):
        drawn = generator.integers(queries, size=(min(block, resamples - start), queries))
        rows = queries if sizes is None else sizes[drawn].sum(axis=1)
        yield sums[drawn].sum(axis=1) / rows
