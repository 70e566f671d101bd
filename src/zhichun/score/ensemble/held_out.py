"""What all members say of the pairs that none of them was trained on, and weights that are fitted to it.

Legend: ``P`` pairs, ``M`` members, ``C`` classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.tasks import Prediction, Task, gain_vector
from zhichun.data.dataset.dataset import Dataset
from zhichun.data.dataset.predictions import find_tables, read_predictions
from zhichun.score.ensemble.candidates import Candidate
from zhichun.score.ensemble.ensemble import average
from zhichun.score.ensemble.weights import Doubles, gain_weights, likelihood_weights
from zhichun.score.ensemble.worth import Judgements

LEAST_QUERIES = 4  # two for each half


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
    def read(cls, candidates: Sequence[Candidate], dataset: Dataset) -> "HeldOutByAll":
        """Read the ``predictions.parquet`` of all runs.

        Raises
        ------
        UserError
            When one is missing or of other data, or too few pairs are common to all.
        """
        found = [
            (of.task, read_predictions(find_tables(str(run) for run in of.runs), dataset, of.task)) for of in candidates
        ]
        judged = dataset.column(schema.ORIGIN) == schema.JUDGED
        rows = np.flatnonzero(judged & np.all([said.times_E > 0 for _, said in found], axis=0))
        judgements = Judgements(dataset.labels[rows], dataset.column(schema.QUERY_ID)[rows])
        if judgements.queries < LEAST_QUERIES:
            counts = "; ".join(
                f"{of.place} {(said.times_E > 0).sum():,} pairs"
                for of, (_, said) in zip(candidates, found, strict=True)
            )
            raise UserError(
                f"the members held out {judgements.queries} queries in common, and {LEAST_QUERIES} are the least "
                f"({counts}).",
                remedy="Train all with the same train.validation_fold, or for every fold (zhichun train --folds K), or "
                "leave --weights fitted and --data out.",
            )
        predictions = (_prediction(task, said.mean_EC[rows]) for task, said in found)
        return cls(tuple(predictions), judgements)

    def fit(self) -> Doubles:
        """Fit weights, ``[M]``: by the likelihood of classifiers, by the squared error of gains where there are any."""
        task = self.predictions[0].task
        if any(said.task != task for said in self.predictions) or not task.classes:
            gains_PM = np.stack([said.score.astype(np.float64) for said in self.predictions], axis=1)
            return gain_weights(gains_PM, gain_vector()[self.judgements.labels_P].astype(np.float64))
        targets_P = np.asarray(task.targets(self.judgements.labels_P), np.int64)[:, None]
        truths = [np.take_along_axis(_known(said), targets_P, axis=1)[:, 0] for said in self.predictions]
        return likelihood_weights(np.stack(truths, axis=1).astype(np.float64))

    def combine(self, weights_M: Doubles) -> Prediction:
        """Average the members that count."""
        kept = [(said, float(weight)) for said, weight in zip(self.predictions, weights_M, strict=True) if weight > 0]
        return average([said for said, _ in kept], [weight for _, weight in kept])

    def cross_fitted(self) -> Prediction:
        """Average with weights that each half of the queries gets from the other, so that none has seen its own."""
        in_first_P = self.judgements.halves()
        parts = []
        for half_P in (in_first_P, ~in_first_P):
            weights_M = self.select(~half_P).fit()
            parts.append((np.flatnonzero(half_P), self.select(half_P).combine(weights_M)))
        return _joined(parts)

    def select(self, rows_P: npt.NDArray[np.bool_]) -> "HeldOutByAll":
        """Take some of the pairs."""
        chosen = [
            replace(
                said,
                probabilities=None if said.probabilities is None else said.probabilities[rows_P],
                score=said.score[rows_P],
            )
            for said in self.predictions
        ]
        return HeldOutByAll(tuple(chosen), self.judgements.select(rows_P))


def _prediction(task: Task, said_PC: Doubles) -> Prediction:
    return task.of_probabilities(said_PC) if task.classes else Prediction(task, None, said_PC[:, 0].astype(np.float32))


def _known(prediction: Prediction) -> npt.NDArray[np.float32]:
    assert prediction.probabilities is not None
    return prediction.probabilities


def _joined(parts: Sequence[tuple[npt.NDArray[np.int64], Prediction]]) -> Prediction:
    """Put the predictions of parts of the pairs together; without probabilities where a part has none."""
    order = np.argsort(np.concatenate([rows for rows, _ in parts]))
    score = np.concatenate([said.score for _, said in parts])[order]
    known = [said.probabilities for _, said in parts if said.probabilities is not None]
    task = next((said.task for _, said in parts if not said.task.classes), parts[0][1].task)
    return Prediction(task, np.concatenate(known)[order] if len(known) == len(parts) else None, score)
