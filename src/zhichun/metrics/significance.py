"""How sure is a figure, and is one model better than another? A bootstrap over queries.

Pairs of one query are not independent, so whole queries are drawn, with replacement, and both models are measured on
the same draw (Efron and Tibshirani, 1993, chapters 13 and 16; Smucker, Allan and Carterette, 2007, for retrieval).
Differences of less than about 0.002 nDCG are noise unless they are paired like this.

Shapes: ``Q`` queries, ``X`` sums, ``S`` draws, ``F`` figures, ``M`` models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zhichun.metrics.judged import Judged
from zhichun.metrics.metric import Metric

Floats = NDArray[np.float64]
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

    drawn = draw_sums(np.stack([sums, sizes], axis=1), draws=resamples, seed=seed)
    mean, means = float(gaps.mean()), drawn[:, 0] / drawn[:, 1]
    # Values often lie on a grid, where draws fall just on the bound: rounding must not decide whether they reach it.
    extreme = np.abs(means - mean) >= abs(mean) - 1e-9 * np.abs(gaps).max()
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    p = float((1 + extreme.sum()) / (1 + resamples))
    return Difference(mean, float(low), float(high), p, len(sums), resamples, confidence, seed)


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval; NaN where it is not defined, such as a kappa where only one grade was given."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values_F: Floats, drawn_SF: Floats) -> list["Interval"]:
        """Take the middle 95 % of the draws of each figure; draws in which it is not defined are skipped."""
        undefined_F = np.isnan(drawn_SF).all(axis=0)
        bounds_2F = np.nanquantile(np.where(undefined_F, 0, drawn_SF), [0.025, 0.975], axis=0)
        bounds_2F[:, undefined_F] = np.nan
        return [cls(*map(float, each)) for each in zip(values_F, *bounds_2F, strict=True)]

    def to_json(self) -> dict[str, float | None]:
        """Return it for JSON, which has no NaN: what is not defined is None."""
        return {end: None if value != value else value for end, value in asdict(self).items()}


def to_json(figures: Mapping[str, Interval]) -> dict[str, dict[str, float | None]]:
    """Return figures for JSON."""
    return {name: each.to_json() for name, each in figures.items()}


def intervals(metrics: Sequence[Metric], judged: Judged, *, draws: int = 2000, seed: int = 0) -> dict[str, Interval]:
    """Measure with intervals: the percentiles of a bootstrap over queries.

    Parameters
    ----------
    metrics
        What to measure.
    judged
        With all that they read.
    draws, seed
        Of the bootstrap.

    Returns
    -------
    dict[str, Interval]
        By the names of the metrics.
    """
    values_1F, drawn_1SF = drawn_values(metrics, judged, draws=draws, seed=seed)
    return {metric.name: each for metric, each in zip(metrics, Interval.of(values_1F[0], drawn_1SF[0]), strict=True)}


def drawn_values(metrics: Sequence[Metric], *judged: Judged, draws: int, seed: int) -> tuple[Floats, Floats]:
    """Measure models on their queries, which are the same, ``[M, F]``, and on the same draws of them, ``[M, S, F]``."""
    sums = [metric.sums(each) for each in judged for metric in metrics]
    ends = np.cumsum([each.shape[1] for each in sums])[:-1]
    drawn = np.split(draw_sums(np.hstack(sums), draws=draws, seed=seed), ends, axis=1)
    values_X = [metric.value(of.sum(axis=0)) for metric, of in zip([*metrics] * len(judged), sums, strict=True)]
    drawn_XS = [metric.value(of) for metric, of in zip([*metrics] * len(judged), drawn, strict=True)]
    shape = len(judged), len(metrics)
    return np.reshape(values_X, shape), np.swapaxes(np.reshape(drawn_XS, (*shape, draws)), 1, 2)


def draw_sums(sums_QX: Floats, *, draws: int, seed: int) -> Floats:
    """Draw as many queries as there are, with replacement, and add up what each brings; many times.

    Parameters
    ----------
    sums_QX
        Of each query, as `Metric.sums` returns it.
    draws, seed
        How many times, and what decides them.

    Returns
    -------
    NDArray[np.float64]
        Shape [S, X]; NaN for a single query, which says nothing of others.
    """
    generator, queries = np.random.default_rng(seed), len(sums_QX)
    if queries == 1:
        return np.full((draws, sums_QX.shape[1]), np.nan)
    block, drawn = max(1, _DRAWS_AT_ONCE // queries), []
    for start in range(0, draws, block):
        places = generator.integers(queries, size=(min(block, draws - start), queries))
        cells = places + queries * np.arange(len(places))[:, None]
        times = np.bincount(cells.ravel(), minlength=places.size).reshape(places.shape)
        drawn.append(times.astype(np.float64) @ sums_QX)
    return np.concatenate(drawn)


def holm(p_N: ArrayLike) -> Floats:
    """Correct p-values for being several (Holm, 1979): the chance of one false alarm among all stays the level."""
    given = np.asarray(p_N, np.float64)
    order = np.argsort(given, kind="stable")
    corrected = np.empty_like(given)
    corrected[order] = np.minimum(1, np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1)))
    return corrected


def _gaps(first: ArrayLike, second: ArrayLike) -> Floats:
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != other.shape or one.ndim != 1:
        raise ValueError(f"the two models must be measured on the same rows, not {one.shape} and {other.shape}")
    gaps: Floats = one - other
    if not np.isfinite(gaps).all():
        raise ValueError("every value must be finite")
    return gaps


def _by_query(gaps: Floats, query_ids: ArrayLike | None) -> tuple[Floats, Floats]:
    """Add up the rows of each query: their differences and their number."""
    if query_ids is None:
        return gaps, np.ones_like(gaps)
    ids: NDArray[Any] = np.asarray(query_ids)
    if ids.shape != gaps.shape:
        raise ValueError(f"query_ids has shape {ids.shape}, but there are {len(gaps)} rows")
    index = np.unique(ids, return_inverse=True)[1]
    return np.bincount(index, weights=gaps).astype(np.float64), np.bincount(index).astype(np.float64)
