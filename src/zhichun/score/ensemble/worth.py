"""What models are worth together, beside each of them alone: figures, and paired bootstrap intervals over queries.

Legend: ``P`` pairs, ``M`` members.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zhichun.core.tasks import Prediction
from zhichun.metrics import Judged, MicroF1, nDCG, paired_bootstrap
from zhichun.score.ensemble.ensemble import Answer, Ensemble

Values = tuple[npt.NDArray[np.float64], npt.NDArray[Any] | None]


@dataclass(frozen=True)
class Judgements:
    """What people say of P pairs.

    Parameters
    ----------
    labels_P
        As places in `schema.LABELS`.
    query_ids
        Which query each pair belongs to, ``[P]``.
    """

    labels_P: npt.NDArray[np.int64]
    query_ids: npt.NDArray[Any]

    @property
    def queries(self) -> int:
        """How many there are."""
        return len(np.unique(self.query_ids))

    def halves(self) -> npt.NDArray[np.bool_]:
        """Tell which pairs are of the first half of the queries, every other one."""
        in_first_P: npt.NDArray[np.bool_] = np.unique(self.query_ids, return_inverse=True)[1] % 2 == 0
        return in_first_P

    def select(self, rows_P: npt.NDArray[np.bool_]) -> "Judgements":
        """Take some of the pairs."""
        return Judgements(self.labels_P[rows_P], self.query_ids[rows_P])


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
    measured, found = {member: figures(said, judgements) for member, said in members.items()}, {}
    for name in figures(prediction, judgements):
        there = [member for member in measured if name in measured[member]]
        best = max(there, key=lambda member: measured[member][name])
        compared = difference(prediction, members[best], judgements)
        if name in compared:
            found[name] = {"member": best, **compared[name]}
    return found


def beside_members(
    ensemble: Ensemble, answers: Sequence[Answer], prediction: Prediction, judgements: Judgements
) -> dict[str, Any]:
    """Hold an ensemble's prediction against those of its members.

    Returns
    -------
    dict
        ``members`` with name, task, weight, figures and seconds of each, and ``against_best``.
    """
    told = list(zip(ensemble.members, answers, strict=True))
    return {
        "members": [
            {
                "name": member.name,
                "task": member.task.name,
                "weight": member.weight,
                "seconds": round(answer.seconds, 3),
                **figures(answer.prediction, judgements),
            }
            for member, answer in told
        ],
        "against_best": against_best(
            prediction, {member.name: answer.prediction for member, answer in told}, judgements
        ),
    }


def _values(prediction: Prediction, judgements: Judgements) -> dict[str, Values]:
    """Give each metric's values, of queries or of pairs with the query of each."""
    task, found = prediction.task, dict[str, Values]()
    if task.name != "substitute":
        ranked = Judged(judgements.query_ids, judgements.labels_P, scores=prediction.score.astype(np.float64))
        found["ndcg"] = (nDCG().per_query(ranked)[1], None)
    if prediction.probabilities is not None:
        targets_P = np.asarray(task.targets(judgements.labels_P), np.int64)
        classed = Judged(
            judgements.query_ids,
            targets_P,
            predictions=prediction.probabilities.argmax(axis=1),
            classes=task.classes,
        )
        found["micro_f1"] = (MicroF1().per_pair(classed), judgements.query_ids)
    return found
