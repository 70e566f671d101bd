"""What models gain together: weights fitted to pairs that none was trained on, and figures beside each model alone.

Legend: ``P`` pairs, ``M`` members, ``C`` classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from zhichun.core import schema
from zhichun.core.arrays import Bools, Doubles, Int64
from zhichun.core.errors import UserError
from zhichun.core.tasks import Prediction, Task, gain_vector
from zhichun.data.dataset import Dataset
from zhichun.data.predictions import find_tables, read_predictions
from zhichun.metrics import MicroF1, nDCG, paired_bootstrap
from zhichun.metrics.figures import classified, ranked
from zhichun.metrics.metric import measurable
from zhichun.score.ensemble import Answer, average

STEPS: Final = 10_000
NEAR: Final = 1e-9
LEAST: Final = 1e-3  # a member that would weigh less is left out: it costs as much as the others
LEAST_QUERIES: Final = 4  # two for each half
_TINY: Final = 1e-12


@dataclass(frozen=True)
class Judgements:
    """Judgements of P pairs.

    Parameters
    ----------
    labels_P
        As places in `schema.LABELS`.
    query_ids
        Which query each pair belongs to, ``[P]``.
    """

    labels_P: Int64
    query_ids: npt.NDArray[Any]

    @property
    def queries(self) -> int:
        """How many there are."""
        return len(np.unique(self.query_ids))

    def halves(self) -> Bools:
        """Return which pairs are of the first half of the queries, every other one."""
        in_first_P: Bools = np.unique(self.query_ids, return_inverse=True)[1] % 2 == 0
        return in_first_P


@dataclass(frozen=True)
class HeldOutByAll:
    """Predictions of pairs that every candidate held out.

    Parameters
    ----------
    predictions
        Of each candidate; of the runs of all folds, of that run which held the pair out.
    judgements
        Of the pairs.
    """

    predictions: tuple[Prediction, ...]
    judgements: Judgements

    @classmethod
    def read(cls, candidates: Sequence[tuple[str, Task, Sequence[Path]]], dataset: Dataset) -> "HeldOutByAll":
        """Read the ``predictions.parquet`` of candidates, each with its name, its task and its runs.

        Raises
        ------
        UserError
            When one is missing or of other data, or too few pairs are common to all.
        """
        found = [
            (name, task, read_predictions(find_tables(map(str, runs)), dataset, task))
            for name, task, runs in candidates
        ]
        judged = dataset.column(schema.ORIGIN) == schema.JUDGED
        rows = np.flatnonzero(judged & np.all([predicted.times_E > 0 for *_, predicted in found], axis=0))
        judgements = Judgements(dataset.labels[rows], dataset.column(schema.QUERY_ID)[rows])
        if judgements.queries < LEAST_QUERIES:
            counts = "; ".join(f"{name} {(predicted.times_E > 0).sum():,} pairs" for name, _, predicted in found)
            raise UserError(
                f"the members held out {judgements.queries} queries in common, and {LEAST_QUERIES} are the least "
                f"({counts}).",
                remedy="Train all with the same train.validation_fold, or for every fold (zhichun train --folds K), or "
                "leave --weights fitted and --data out.",
            )
        return cls(tuple(_prediction(task, predicted.mean_EC[rows]) for _, task, predicted in found), judgements)

    def fit(self, rows: Bools | slice = slice(None)) -> Doubles:
        """Fit weights to some pairs, ``[M]``: by the likelihood of classifiers, by squared error where a gain is."""
        task, labels_P = self.predictions[0].task, self.judgements.labels_P[rows]
        if any(one.task != task for one in self.predictions) or not task.classes:
            gains_PM = np.stack([one.score[rows].astype(np.float64) for one in self.predictions], axis=1)
            return gain_weights(gains_PM, gain_vector()[labels_P].astype(np.float64))
        targets_P1 = np.asarray(task.targets(labels_P), np.int64)[:, None]
        truths = []
        for one in self.predictions:
            assert one.probabilities is not None
            truths.append(np.take_along_axis(one.probabilities[rows], targets_P1, axis=1)[:, 0])
        return likelihood_weights(np.stack(truths, axis=1).astype(np.float64))

    def combine(self, weights_M: Doubles) -> Prediction:
        """Average the members that count."""
        kept = [(one, float(weight)) for one, weight in zip(self.predictions, weights_M, strict=True) if weight > 0]
        return average([one for one, _ in kept], [weight for _, weight in kept])

    def cross_fitted(self) -> Prediction:
        """Average with weights that each half of the queries gets from the other, so that none has seen its own."""
        first_P = self.judgements.halves()
        one, other = (self.combine(self.fit(half_P)) for half_P in (~first_P, first_P))
        score_P = np.where(first_P, one.score, other.score)
        if one.probabilities is None or other.probabilities is None:
            return Prediction(one.task if one.probabilities is None else other.task, None, score_P)
        return Prediction(one.task, np.where(first_P[:, None], one.probabilities, other.probabilities), score_P)


def _prediction(task: Task, mean_PC: Doubles) -> Prediction:
    return task.of_probabilities(mean_PC) if task.classes else Prediction(task, None, mean_PC[:, 0].astype(np.float32))


def equal_weights(is_classifier: Sequence[bool]) -> Doubles:
    """Let all of a kind count alike, and where there are both kinds, both kinds alike, as the paper does (4.1)."""
    kinds_M = np.asarray(is_classifier)
    per_kind = [kinds_M.sum(), (~kinds_M).sum()]
    weights_M = 1 / np.where(kinds_M, per_kind[0], per_kind[1])
    return np.asarray(weights_M / weights_M.sum(), np.float64)


def likelihood_weights(truth_PM: Doubles) -> Doubles:
    """Find the weights under which the mean probability of what is true is most likely.

    The likelihood of a mixture with fixed parts is concave in its shares, so that the steps of Dempster, Laird and
    Rubin (1977), which never leave the simplex and never make it worse, go to the best from equal weights.
    """
    given_PM = np.maximum(truth_PM, _TINY)
    return _settled(given_PM.shape[1], lambda w_M: (given_PM * w_M / (given_PM @ w_M)[:, None]).mean(axis=0))


def gain_weights(gain_PM: Doubles, gain_P: Doubles) -> Doubles:
    """Find the weights under which the mean gain is nearest to the judged one, by its square.

    The mean of gains is what products are best ranked by, and the squared error is least where a gain is that mean. A
    convex problem, solved by projected gradients from equal weights.
    """
    gram_MM, aim_M = gain_PM.T @ gain_PM, gain_PM.T @ gain_P
    rate = 1 / max(float(np.linalg.eigvalsh(gram_MM)[-1]), _TINY)
    return _settled(len(aim_M), lambda w_M: onto_simplex(w_M - rate * (gram_MM @ w_M - aim_M)))


def onto_simplex(given_M: Doubles) -> Doubles:
    """Return the nearest weights that are not negative and add up to 1 (Duchi et al., 2008, figure 1)."""
    ordered_M = np.sort(given_M)[::-1]
    excess_M = (np.cumsum(ordered_M) - 1) / np.arange(1, len(given_M) + 1)
    nearest_M: Doubles = np.maximum(given_M - excess_M[np.flatnonzero(ordered_M > excess_M)[-1]], 0)
    return nearest_M


def _settled(members: int, step: Callable[[Doubles], Doubles]) -> Doubles:
    """Repeat a step from equal weights until they stay; members that would weigh next to nothing are left out."""
    weights_M = np.full(members, 1 / members)
    for _ in range(STEPS):
        before_M, weights_M = weights_M, step(weights_M)
        if np.abs(weights_M - before_M).max() < NEAR:
            break
    kept_M = np.where(weights_M < LEAST, 0, weights_M)
    return np.asarray(kept_M / kept_M.sum(), np.float64)


def figures(prediction: Prediction, judgements: Judgements) -> dict[str, float]:
    """Measure a prediction by what its task has of nDCG (gains `esci`) and micro-F1."""
    return {name: float(values.mean()) for name, (values, _) in _values(prediction, judgements).items()}


def difference(first: Prediction, second: Prediction, judgements: Judgements) -> dict[str, dict[str, Any]]:
    """Compare two predictions of the same pairs by the metrics that both have; nothing where there is one query."""
    if judgements.queries < 2:
        return {}
    one, other = _values(first, judgements), _values(second, judgements)
    return {
        name: asdict(paired_bootstrap(one[name][0], other[name][0], query_ids=one[name][1]))
        for name in one
        if name in other
    }


def against_best(
    prediction: Prediction, members: Mapping[str, Prediction], judgements: Judgements
) -> dict[str, dict[str, Any]]:
    """Compare a prediction with that of the member which is best on these very pairs, by each metric.

    Returns
    -------
    dict
        By metric: ``member``, and the prediction minus it with interval and p. That the best is known only from these
        pairs speaks for it, not for the ensemble.
    """
    measured, found = {member: figures(one, judgements) for member, one in members.items()}, {}
    for name in figures(prediction, judgements):
        if not (there := [member for member in measured if name in measured[member]]):
            continue  # of labels, where all are regressors beside the trees of a stack
        best = max(there, key=lambda member: measured[member][name])
        compared = difference(prediction, members[best], judgements)
        if name in compared:
            found[name] = {"member": best, **compared[name]}
    return found


def beside_members(answers: Sequence[Answer], prediction: Prediction, judgements: Judgements) -> dict[str, Any]:
    """Compare an ensemble's prediction with those of its members.

    Returns
    -------
    dict
        ``members`` with name, task, weight, figures and seconds of each, and ``against_best``.
    """
    members = [
        {
            "name": answer.entry.name,
            "task": answer.entry.task,
            "weight": answer.entry.weight,
            "seconds": round(answer.seconds, 3),
            **figures(answer.prediction, judgements),
        }
        for answer in answers
    ]
    by_name = {answer.entry.name: answer.prediction for answer in answers}
    return {"members": members, "against_best": against_best(prediction, by_name, judgements)}


def _values(prediction: Prediction, judgements: Judgements) -> dict[str, tuple[Doubles, npt.NDArray[Any] | None]]:
    """Return each metric's values, of queries or of pairs with the query of each."""
    found, of = dict[str, tuple[Doubles, npt.NDArray[Any] | None]](), (judgements.labels_P, judgements.query_ids)
    if prediction.task.name != "substitute" and measurable([nDCG()], judged := ranked(prediction, *of)):
        found["ndcg"] = nDCG().per_query(judged)[1], None
    if prediction.probabilities is not None:
        found["micro_f1"] = MicroF1().per_pair(classified(prediction, *of)), judgements.query_ids
    return found
