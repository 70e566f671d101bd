"""The ceiling: the best figures that raters' noise lets any model reach, where the label is the raters' majority.

A model of Dawid and Skene (1979) whose raters are exchangeable (one confusion matrix for all) is fitted by EM. Queries
differ in their mix of true grades, by a Dirichlet distribution whose spread is found by the method of moments. Truths
are drawn from this model given the ratings, then new ratings, whose majority is the label. What is scored is the model
that knows each pair's truth and the raters' noise: it names the likeliest label and ranks by the label's expected gain.
That is the best for micro-F1 and for DCG, and as good as the best for macro-F1 and nDCG, whose denominators depend on
the labels too.

It assumes that raters err independently given the truth, and alike for all raters, queries and products. Where they
share a mistake (all misread the same query), or one of few is much better than the others, the true ceiling is higher.

How a rare grade is confused is said by few pairs. Each row of the confusion matrix therefore borrows `_BORROWED`
ratings from all: as often right as all rows together, and wrong by how common the other grades are. Without these, the
interval of macro-F1 missed a higher truth in one of six simulations (`benchmarks/ceiling.py`).

Shapes: ``P`` pairs, ``K`` grades in the order of `schema.LABELS`, ``Q`` queries, ``U`` different sets of ratings of a
pair, ``S`` draws, ``E`` groups of pairs of one query with the same ratings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import lgamma
from typing import Final

import numpy as np
from numpy.typing import NDArray

from zhichun.core.schema import LABELS
from zhichun.core.tasks import gain_vector
from zhichun.metrics.agreement import HUMAN_METRICS, Ints, Ratings, majority
from zhichun.metrics.judged import Judged
from zhichun.metrics.metric import Metric, measurable
from zhichun.metrics.significance import Floats, Interval

# Simulations of all pairs: of the value, and of each draw of its interval, to which their own noise adds little.
_REPEATS: Final = 20
_REPEATS_OF_A_DRAW: Final = 2
# With 4, fewer intervals of macro-F1 hold the truth, and with 8 fewer of micro-F1 (experiments/LOG.md).
_BORROWED: Final = 6.0
# Of a pair: four labels have 15 parameters, and the counts of two raters 9 free cells.
FEWEST_RATINGS: Final = 3
# Of the mixes of queries: steps to where sampling starts, and rounds of sampling (Gibbs).
_STEPS, _ROUNDS = 8, 2


@dataclass(frozen=True, eq=False)
class RaterModel:
    """Dawid and Skene's model with exchangeable raters; several are fitted at once.

    Parameters
    ----------
    prior_SK
        Shares of the true grades.
    confusion_SKK
        For each true grade the chance of each rating; rows add up to 1.
    """

    prior_SK: Floats
    confusion_SKK: Floats

    @classmethod
    def fit(cls, ratings_UK: NDArray[np.integer], weight_SU: Floats, *, steps: int = 500) -> "RaterModel":
        """Fit by EM, from the majority.

        Parameters
        ----------
        ratings_UK
            How often each grade was given to a pair; each such set once.
        weight_SU
            How many pairs have it, in each draw.
        steps
            Of EM at most.
        """
        grades = ratings_UK.shape[1]
        given_SK = weight_SU @ ratings_UK
        wrong_SKK = _shares(given_SK[:, None] * (1 - np.eye(grades)))
        truth_SUK = ((ratings_UK + 0.1) / (ratings_UK + 0.1).sum(axis=1, keepdims=True))[None]
        for _ in range(steps):
            weighed_SUK = truth_SUK * weight_SU[:, :, None]
            prior_SK = weighed_SUK.sum(axis=1) + 1e-6
            confusion_SKK = weighed_SUK.swapaxes(1, 2) @ ratings_UK
            right_S11 = (np.trace(confusion_SKK, axis1=1, axis2=2) / given_SK.sum(axis=1))[:, None, None]
            confusion_SKK += _BORROWED * (right_S11 * np.eye(grades) + (1 - right_S11) * wrong_SKK)
            confusion_SKK += 1e-3 + 1e-2 * np.eye(grades)
            model = cls(
                prior_SK / prior_SK.sum(axis=1, keepdims=True), confusion_SKK / confusion_SKK.sum(axis=2, keepdims=True)
            )
            before_SUK, truth_SUK = truth_SUK, model.posterior(ratings_UK)
            if np.abs(truth_SUK - before_SUK).max() < 1e-7:
                break
        return model

    def posterior(self, ratings_UK: NDArray[np.integer]) -> Floats:
        """Return the chance of each true grade given the ratings of a pair, ``[S, U, K]``."""
        return _shares(self.prior_SK[:, None] * self.likelihood(ratings_UK))

    def likelihood(self, ratings_UK: NDArray[np.integer]) -> Floats:
        """Return the chance of the ratings given each true grade, but for a factor of each set, ``[S, U, K]``."""
        log_SUK = ratings_UK @ np.log(self.confusion_SKK).swapaxes(1, 2)
        return np.asarray(np.exp(log_SUK - log_SUK.max(axis=2, keepdims=True)))

    def majority(self, raters: int) -> Floats:
        """Return, for each true grade, the chance of each label that a majority of so many makes, ``[S, K, K]``."""
        labels_SKK = np.zeros_like(self.confusion_SKK)
        for given in combinations_with_replacement(range(labels_SKK.shape[2]), raters):
            counts_K = np.bincount(given, minlength=labels_SKK.shape[2])
            ways = lgamma(raters + 1) - sum(lgamma(count + 1) for count in counts_K)
            labels_SKK[:, :, majority(counts_K[None])[0]] += np.exp(ways + np.log(self.confusion_SKK) @ counts_K)
        return labels_SKK


def ceiling(
    ratings: Ratings, metrics: Sequence[Metric] = HUMAN_METRICS, *, draws: int = 200, seed: int = 0
) -> dict[str, Interval]:
    """Estimate the best figures that any model can reach where the label is the raters' majority.

    Parameters
    ----------
    ratings
        Of the four labels. Pairs without a rating are skipped.
    metrics
        Of rankings or classes, such as ``nDCG()`` and ``MacroF1()``; gains are those of ``esci``.
    draws
        Each draws queries, fits the raters anew and simulates.
    seed
        Of all chance.

    Returns
    -------
    dict[str, Interval]
        By the names of the metrics; none where fewer than half of the pairs have three ratings: many models of the
        raters fit two equally well.
    """
    generator = np.random.default_rng(seed)
    ratings = ratings.select(ratings.counts_PK.sum(axis=1) > 0)
    if 2 * (ratings.counts_PK.sum(axis=1) >= FEWEST_RATINGS).sum() < max(1, len(ratings.codes_PJ)):
        return {}
    sets_UK, set_P = np.unique(ratings.counts_PK, axis=0, return_inverse=True)
    of_query = Judged(ratings.query_P, majority(ratings.counts_PK))
    metrics = measurable(metrics, of_query)
    sets_QU = of_query.sum_by_query(np.eye(len(sets_UK))[set_P.ravel()]).astype(np.intp)
    queries = len(sets_QU)
    times_SQ = generator.multinomial(queries, np.full(queries, 1 / queries), size=draws)
    times_SQ = np.concatenate([np.ones((1, queries), np.intp), times_SQ])
    fitted = RaterModel.fit(sets_UK, (times_SQ @ sets_QU).astype(np.float64))
    spread_SK = _spread(fitted, sets_UK, sets_QU, times_SQ)
    labels_SUKK, likelihood_SUK = _labels(fitted, sets_UK), fitted.likelihood(sets_UK)
    values = []
    for draw, times_Q in enumerate(times_SQ):
        copies = np.repeat(np.arange(queries), times_Q * (_REPEATS_OF_A_DRAW if draw else _REPEATS))
        truth_QUK = _expected(spread_SK[draw], likelihood_SUK[draw], sets_QU)
        query_E, set_E = np.nonzero(sets_QU[copies])
        pairs_E, likelihood_EK = sets_QU[copies[query_E], set_E], likelihood_SUK[draw, set_E]
        truth_EK = truth_QUK[copies[query_E], set_E]
        for _ in range(_ROUNDS):
            drawn_EK = generator.multinomial(pairs_E, truth_EK)
            drawn_QK = np.add.reduceat(drawn_EK, np.flatnonzero(np.diff(query_E, prepend=-1)))
            mix_QK = generator.standard_gamma(spread_SK[draw] + drawn_QK)
            truth_EK = _shares(mix_QK[query_E] * likelihood_EK)
        best = best_possible(query_E, pairs_E, truth_EK, labels_SUKK[draw, set_E], generator)
        values.append([metric(best) for metric in metrics])
    # As in `draw_sums`, one query says nothing of others.
    found = Interval.of(np.array(values[0]), np.array(values[1:]) * (1.0 if queries > 1 else np.nan))
    return {metric.name: each for metric, each in zip(metrics, found, strict=True)}


def _labels(model: RaterModel, sets_UK: Ints) -> Floats:
    """Return the chance of each label for each truth of a pair with such ratings, ``[S, U, K, K]``."""
    raters_U = sets_UK.sum(axis=1)
    of_raters = {raters: model.majority(raters) for raters in np.unique(raters_U).tolist()}
    return np.stack([of_raters[raters] for raters in raters_U.tolist()], axis=1)


def _shares(weights_XK: Floats) -> Floats:
    weights_XK = weights_XK + 1e-300  # a query's mix may leave nothing to what its ratings say
    return np.asarray(weights_XK / weights_XK.sum(axis=-1, keepdims=True))


def _spread(model: RaterModel, sets_UK: Ints, sets_QU: Ints, times_SQ: Ints) -> Floats:
    """Return the parameters of the Dirichlet distribution of the queries' mixes of true grades, ``[S, K]``.

    Two pairs of one query are rated alike more often than two of any queries by as much as the queries' mixes differ.
    """
    share_UK = sets_UK / sets_UK.sum(axis=1, keepdims=True)
    pairs_Q, sum_QK = sets_QU.sum(axis=1), sets_QU @ share_UK
    two_S = np.maximum(times_SQ @ (pairs_Q * (pairs_Q - 1)), 1)
    mean_SK = times_SQ @ ((pairs_Q - 1)[:, None] * sum_QK) / two_S[:, None]
    alike_S = times_SQ @ ((sum_QK**2).sum(axis=1) - sets_QU @ (share_UK**2).sum(axis=1)) / two_S
    rated_SK = np.einsum("st,stk->sk", model.prior_SK, model.confusion_SKK)
    most_S = np.einsum("st,stk->s", model.prior_SK, model.confusion_SKK**2) - (rated_SK**2).sum(axis=1)
    between_S = np.clip((alike_S - (mean_SK**2).sum(axis=1)) / np.maximum(most_S, 1e-9), 0.01, 0.95)
    return np.asarray(model.prior_SK * (1 / between_S - 1)[:, None])


def _expected(spread_K: Floats, likelihood_UK: Floats, sets_QU: Ints) -> Floats:
    """Return the chance of each truth of a pair of each query, about, ``[Q, U, K]`` (collapsed variational, CVB0)."""
    truth_QUK = np.broadcast_to(_shares(spread_K * likelihood_UK), (*sets_QU.shape, len(spread_K)))
    for _ in range(_STEPS):
        others_QUK = np.einsum("qu,quk->qk", sets_QU, truth_QUK)[:, None] - truth_QUK
        truth_QUK = _shares((spread_K + np.maximum(others_QUK, 0)) * likelihood_UK)
    return truth_QUK


def best_possible(
    query_E: Ints, pairs_E: Ints, truth_EK: Floats, labels_EKK: Floats, generator: np.random.Generator
) -> Judged:
    """Draw truths and labels, and answer as one who knows the truths and the raters' noise.

    Parameters
    ----------
    query_E, pairs_E
        The query of each group of pairs, and how many it has.
    truth_EK, labels_EKK
        Chance of each truth, and of each label by truth.
    generator
        Of all chance.
    """
    chances_EX = (truth_EK[:, :, None] * labels_EKK).reshape(len(truth_EK), -1)
    drawn_EX = generator.multinomial(pairs_E, chances_EX)
    entry, cell = np.nonzero(drawn_EX)
    times, (truth, label) = drawn_EX[entry, cell], np.divmod(cell, len(LABELS))
    # Alike for all pairs of one truth and as many raters: they are tied, which rounding must not undo.
    gain_EK, answer_EK = np.round(labels_EKK @ gain_vector().astype(np.float64), 12), labels_EKK.argmax(axis=2)
    return Judged(
        np.repeat(query_E[entry], times),
        np.repeat(label, times),
        scores=np.repeat(gain_EK[entry, truth], times),
        predictions=np.repeat(answer_EK[entry, truth], times),
    )
