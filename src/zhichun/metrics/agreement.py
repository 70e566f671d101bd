"""How well raters agree, corrected for chance.

* Cohen's kappa (1960), plain and with quadratic weights (1968), for each two raters, and its mean over them.
* Krippendorff's alpha (2011, *Computing Krippendorff's Alpha-Reliability*), nominal and ordinal: any number of raters,
  gaps allowed.
* One rater beside others: kappa with their majority, how labels are confused, and the bias: how much more often a label
  is given than by the others. And the human level: the rater as if it were a model, or in place of each of the others.

All intervals are percentiles of a bootstrap over queries. Shapes: ``P`` pairs, ``J`` raters, ``K`` grades in the order
of `schema.LABELS`, from best to worst, ``Q`` queries.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from zhichun.core.schema import LABELS
from zhichun.metrics.f1 import MacroF1, MicroF1
from zhichun.metrics.judged import Judged
from zhichun.metrics.metric import Metric, measurable
from zhichun.metrics.ndcg import nDCG
from zhichun.metrics.significance import Floats, Interval, draw_sums, intervals

Ints = NDArray[np.intp]
NO_RATING: Final = -1
# Kappa is of two raters who rate the same pairs; of a crowd, alpha says all.
MOST_IN_PAIRS: Final = 12
# What people and the ceiling are measured by, and a model beside them.
HUMAN_METRICS: Final[tuple[Metric, ...]] = (nDCG(), nDCG() @ 10, MicroF1(), MacroF1())


@dataclass(frozen=True, eq=False)
class Ratings:
    """What every rater said of every pair.

    Parameters
    ----------
    codes_PJ
        A grade of each rater, as its place, or -1 where there is none.
    query_P
        The query of each pair, a number.
    grades
        How many grades there are.
    """

    codes_PJ: Ints
    query_P: Ints
    grades: int = len(LABELS)

    @cached_property
    def counts_PK(self) -> Ints:
        """How many raters gave each pair each grade."""
        return np.stack([(self.codes_PJ == grade).sum(axis=1) for grade in range(self.grades)], axis=1)

    def select(self, rows: NDArray[Any]) -> "Ratings":
        """Take some of the pairs, by a mask or by indices."""
        return Ratings(self.codes_PJ[rows], self.query_P[rows], self.grades)

    def beside(self, own: Sequence[int], others: Sequence[int]) -> tuple["Ratings", Ints, Ints]:
        """Take the pairs that some raters and any other rated: the others' ratings and majority, and their own."""
        own_PJ, rated_P = self.codes_PJ[:, own], (self.codes_PJ[:, others] != NO_RATING).any(axis=1)
        both_P = rated_P & (own_PJ != NO_RATING).all(axis=1)
        rated = Ratings(self.codes_PJ[both_P][:, others], self.query_P[both_P], self.grades)
        return rated, majority(rated.counts_PK), own_PJ[both_P]

    def against_rest(self, grade: int) -> "Ratings":
        """Tell one grade from all others."""
        return Ratings(np.where(self.codes_PJ < 0, NO_RATING, self.codes_PJ != grade), self.query_P, 2)


def majority(counts_PK: NDArray[np.integer]) -> Ints:
    """Return the grade that most raters gave; of several, the least relevant, as `zhichun prepare` does."""
    return np.asarray(counts_PK.shape[1] - 1 - counts_PK[:, ::-1].argmax(axis=1))


def kappa(confusion_KK: Floats, *, quadratic: bool = False) -> Floats:
    """Cohen's kappa of two raters.

    Parameters
    ----------
    confusion_KK
        How often the first gave the row's grade and the second the column's; more axes may stand before.
    quadratic
        Whether a disagreement counts by the square of the distance between the grades.

    Returns
    -------
    NDArray[np.float64]
        1 for raters who always agree, 0 for agreement by chance; NaN where both gave one and the same grade only.
    """
    ranks_K = np.arange(confusion_KK.shape[-1])
    distance_KK = np.subtract.outer(ranks_K, ranks_K) ** 2
    return _corrected(
        confusion_KK,
        distance_KK if quadratic else distance_KK > 0,
        confusion_KK.sum(axis=-1)[..., :, None] * confusion_KK.sum(axis=-2)[..., None, :],
        confusion_KK.sum(axis=(-2, -1)),
    )


def alpha(coincidence_KK: Floats, *, ordinal: bool = False) -> Floats:
    """Krippendorff's alpha.

    Parameters
    ----------
    coincidence_KK
        How often two ratings of one pair were the row's and the column's grade, each pair's ratings counted as one
        less than there are; more axes may stand before.
    ordinal
        Whether a disagreement counts by the number of ratings between the grades, squared.

    Returns
    -------
    NDArray[np.float64]
        1 for full agreement, 0 for agreement by chance; NaN where only one grade was given.
    """
    totals_K = coincidence_KK.sum(axis=-1)
    middles_K = np.cumsum(totals_K, axis=-1) - totals_K / 2 if ordinal else np.arange(totals_K.shape[-1])
    distance_KK = (middles_K[..., :, None] - middles_K[..., None, :]) ** 2
    by_chance_KK = totals_K[..., :, None] * totals_K[..., None, :]
    return _corrected(
        coincidence_KK, distance_KK if ordinal else distance_KK > 0, by_chance_KK, totals_K.sum(axis=-1) - 1
    )


def _corrected(counts_KK: Floats, distance_KK: NDArray[Any], by_chance_KK: Floats, total: Floats) -> Floats:
    """Return one minus the disagreement over that by chance; a grade is at no distance from itself."""
    found = (distance_KK * counts_KK).sum(axis=(-2, -1)) * total
    expected = (distance_KK * by_chance_KK).sum(axis=(-2, -1))
    return np.asarray(1 - np.divide(found, expected, out=np.full(np.shape(found), np.nan), where=expected > 0))


def agreement(ratings: Ratings, *, draws: int = 2000, seed: int = 0) -> dict[str, Interval]:
    """Measure how well raters agree.

    Parameters
    ----------
    ratings
        Of at least two raters; pairs with fewer than two ratings are skipped.
    draws, seed
        Of the bootstrap.

    Returns
    -------
    dict[str, Interval]
        ``unanimous`` (the share of pairs on which all agree), ``alpha`` and ``ordinal_alpha``; unless there are many
        raters, ``kappa`` and ``quadratic_kappa`` (the mean over each two who share a pair), and ``kappa.A-B`` and
        ``quadratic_kappa.A-B`` for raters A and B, counted from 0.
    """
    ratings = ratings.select(ratings.counts_PK.sum(axis=1) > 1)
    counts_PK, grades, raters = ratings.counts_PK, ratings.grades, ratings.codes_PJ.shape[1]
    rated_P, add_up = counts_PK.sum(axis=1), Judged(ratings.query_P, majority(counts_PK)).sum_by_query
    together_PKK = counts_PK[:, :, None] * counts_PK[:, None, :] - np.eye(grades) * counts_PK[:, :, None]
    two = list(combinations(range(raters), 2)) if raters <= MOST_IN_PAIRS else []
    one_hot_PJK = ratings.codes_PJ[:, :, None] == np.arange(grades)
    parts = [np.stack([counts_PK.max(axis=1) == rated_P, np.ones(len(rated_P))], axis=1)]
    parts += [(together_PKK / (rated_P - 1)[:, None, None]).reshape(len(rated_P), -1)]
    parts += [(one_hot_PJK[:, a, :, None] & one_hot_PJK[:, b, None, :]).reshape(len(rated_P), -1) for a, b in two]
    sums_QX = np.hstack([add_up(part) for part in parts])

    def figures(sums: Floats) -> Floats:
        matrices = sums[..., 2:].reshape(*sums.shape[:-1], 1 + len(two), grades, grades)
        coincidence, confusion_2 = matrices[..., 0, :, :], matrices[..., 1:, :, :]
        found = [sums[..., 0] / sums[..., 1], alpha(coincidence), alpha(coincidence, ordinal=True)]
        for kappas in [kappa(confusion_2), kappa(confusion_2, quadratic=True)] if two else []:
            known = ~np.isnan(kappas)
            mean = np.where(known, kappas, 0).sum(axis=-1) / np.maximum(known.sum(axis=-1), 1)
            found += [np.where(known.any(axis=-1), mean, np.nan), *np.moveaxis(kappas, -1, 0)]
        return np.stack(found, axis=-1)

    names = ["unanimous", "alpha", "ordinal_alpha"]
    for kind in ("kappa", "quadratic_kappa") if two else ():
        names += [kind, *(f"{kind}.{a}-{b}" for a, b in two)]
    found = Interval.of(figures(sums_QX.sum(axis=0)), figures(draw_sums(sums_QX, draws=draws, seed=seed)))
    return dict(zip(names, found, strict=True))


def human_level(
    ratings: Ratings,
    metrics: Sequence[Metric] = HUMAN_METRICS,
    *,
    people: Sequence[int] | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> list[dict[str, Interval]]:
    """Measure each rater against the majority of the other people, as if it were a model that ranks by its own grades.

    Parameters
    ----------
    ratings, metrics
        What was rated, and what is measured.
    people
        Whose majority counts; all raters, if not given.
    draws, seed
        Of the bootstrap.

    Returns
    -------
    list[dict[str, Interval]]
        For each rater the values by the names of the metrics; empty for one who shares no pair with another.
    """
    found: list[dict[str, Interval]] = []
    for own in range(ratings.codes_PJ.shape[1]):
        others = [each for each in people or range(ratings.codes_PJ.shape[1]) if each != own]
        rated, truth_P, own_P1 = ratings.beside([own], others)
        if not len(truth_P):
            found.append({})
            continue
        own_P = own_P1[:, 0]
        judged = Judged(rated.query_P, truth_P, scores=-own_P.astype(np.float64), predictions=own_P)
        found.append(intervals(measurable(metrics, judged), judged, draws=draws, seed=seed))
    return found


def beside_others(
    ratings: Ratings, own: int, others: Sequence[int], *, draws: int = 2000, seed: int = 0
) -> tuple[dict[str, Interval], Ints]:
    """Hold one rater against the majority of others.

    Returns
    -------
    figures
        ``kappa`` and ``quadratic_kappa``; ``stricter``, by how many grades its own are lower than the others';
        ``bias.K`` for each grade, the share of pairs to which it gives that one, less the share of the others' ratings
        that do; and ``share.J.K``, of the pairs whose majority is J, how many it gives K.
    confusion
        Pairs by majority and its own grade, ``[K, K]``.
    """
    rated, truth_P, own_P1 = ratings.beside([own], others)
    grades_K, grades = np.arange(ratings.grades), ratings.grades
    counts_PK = rated.counts_PK
    bias_PK = (own_P1 == grades_K) - counts_PK / counts_PK.sum(axis=1, keepdims=True)
    parts = [np.ones((len(truth_P), 1)), bias_PK, _cells(truth_P, own_P1[:, 0], grades)]
    sums_QX = Judged(rated.query_P, truth_P).sum_by_query(np.hstack(parts))

    def figures(sums: Floats) -> Floats:
        bias, cells = sums[..., 1 : 1 + grades] / sums[..., :1], sums[..., 1 + grades :]
        confusion = cells.reshape(*cells.shape[:-1], grades, grades)
        rows = confusion.sum(axis=-1, keepdims=True)
        shares = np.divide(confusion, rows, out=np.full(confusion.shape, np.nan), where=rows > 0).reshape(cells.shape)
        kappas = np.stack([kappa(confusion), kappa(confusion, quadratic=True), bias @ grades_K], axis=-1)
        return np.concatenate([kappas, bias, shares], axis=-1)

    total_X = sums_QX.sum(axis=0)
    found = Interval.of(figures(total_X), figures(draw_sums(sums_QX, draws=draws, seed=seed)))
    names = ["kappa", "quadratic_kappa", "stricter", *(f"bias.{grade}" for grade in grades_K)]
    names += [f"share.{row}.{column}" for row in grades_K for column in grades_K]
    return dict(zip(names, found, strict=True)), total_X[1 + grades :].reshape(grades, grades).astype(np.intp)


def in_place_of(
    ratings: Ratings, own: int, person: int, others: Sequence[int], *, draws: int = 2000, seed: int = 0
) -> Interval:
    """Return how much better than one person another rater agrees with the majority of others, by quadratic kappa.

    On the pairs that all of them rated; NaN where there are none.
    """
    rated, truth_P, codes_P2 = ratings.beside([own, person], others)
    if not len(truth_P):
        return Interval(np.nan, np.nan, np.nan)
    cells_PX = np.hstack([_cells(truth_P, codes_P, ratings.grades) for codes_P in codes_P2.T])
    sums_QX = Judged(rated.query_P, truth_P).sum_by_query(cells_PX.astype(np.float64))

    def gap(sums: Floats) -> Floats:
        both = kappa(sums.reshape(*sums.shape[:-1], 2, ratings.grades, ratings.grades), quadratic=True)
        return np.asarray(both[..., :1] - both[..., 1:])

    return Interval.of(gap(sums_QX.sum(axis=0)), gap(draw_sums(sums_QX, draws=draws, seed=seed)))[0]


def _cells(row_P: Ints, column_P: Ints, grades: int) -> NDArray[np.bool_]:
    """Mark each pair's cell of a confusion matrix, ``[P, K * K]``."""
    return np.asarray((row_P * grades + column_P)[:, None] == np.arange(grades**2))
