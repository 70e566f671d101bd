"""CAN's prior correction: probabilities that a model is unsure of are pulled towards how often each class occurs.

Equation   one step of alternating normalisation, for an uncertain pair with the probabilities ``b`` below those of the
           confident held-out pairs ``A``: columns to the sum 1, ``u_c = b_c / (Σ_i A_ic + b_c)``, times the prior
           ``q_c`` of the class, rows to the sum 1 again: ``b'_c = u_c q_c / Σ_k u_k q_k``
Reference  Jia et al., 2021, *When in Doubt: Improving Classification Performance with Alternating Normalization*, with
           α = 1 and d = 1; tried by the paper's authors after the contest
Differences the entropy is over all classes, not the likeliest k of many. More than one step would let each uncertain
           pair renormalise all confident ones. ``A`` and ``q`` are of the pairs that the run held out, never of those
           that are scored: so a score still depends on its own pair alone
Our number none of four thresholds raises micro-F1 on held-out folds (experiments/LOG.md)
Cost       none beside the model
Traps      the held-out pairs must be like those that are scored; a class that the confident pairs hardly contain is
           favoured in all uncertain ones

Legend: ``H`` held-out pairs, ``P`` pairs, ``C`` classes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.tasks import Prediction, Task
from zhichun.data.dataset.dataset import read_parquet
from zhichun.data.dataset.out_of_fold import PREDICTIONS_FILE
from zhichun.metrics import label_codes

Doubles = npt.NDArray[np.float64]
_TINY: Final = np.finfo(np.float64).tiny
REMEDY: Final = "Give a share of the highest entropy, from 0 to below 1, such as 0.9."


@dataclass(frozen=True, eq=False)
class HeldOutPredictions:
    """What a run said of the pairs that it held out.

    Parameters
    ----------
    task
        What it predicts.
    probabilities_HC
        Of the task's classes.
    labels_H
        The judgements, as places in `schema.LABELS`.
    query_ids
        Which query each pair belongs to, ``[H]``.
    file
        For messages.
    """

    task: Task
    probabilities_HC: Doubles
    labels_H: npt.NDArray[np.int64]
    query_ids: npt.NDArray[Any]
    file: Path

    @classmethod
    def of_run(cls, run: Path, task: Task) -> "HeldOutPredictions":
        """Read what a run's training left.

        Raises
        ------
        UserError
            For a regressor, or a folder without predictions.
        """
        if not task.classes:
            raise UserError("a regressor has no classes whose prior could correct it.", file=run)
        file = run / PREDICTIONS_FILE
        table = read_parquet(file, "The prior is that of the pairs that training held out; name its run folder.")
        columns = [table.column(f"p_{name}").to_numpy() for name in task.classes]
        labels_H = label_codes(table.column(schema.LABEL).to_pylist()).astype(np.int64)
        query_ids = table.column(schema.QUERY_ID).to_numpy()
        return cls(task, np.stack(columns, axis=1).astype(np.float64), labels_H, query_ids, file)

    def select(self, rows_H: npt.NDArray[np.bool_]) -> "HeldOutPredictions":
        """Take some of the pairs."""
        parts = (self.probabilities_HC[rows_H], self.labels_H[rows_H], self.query_ids[rows_H])
        return HeldOutPredictions(self.task, *parts, self.file)

    def corrected(self, threshold: float) -> Doubles | None:
        """Correct each half of the queries by the other half, ``[H, C]``; ``None`` where there is too little for it.

        What a correction does to the pairs that it was made of would be too good a figure.
        """
        in_first_H = np.unique(self.query_ids, return_inverse=True)[1] % 2 == 0
        corrected_HC = self.probabilities_HC.copy()
        for half_H in (in_first_H, ~in_first_H):
            others = self.select(~half_H)
            if not (entropy(others.probabilities_HC) <= threshold).any():
                return None
            corrected_HC[half_H] = PriorCorrection.fit(others, threshold)(corrected_HC[half_H])
        return corrected_HC


@dataclass(frozen=True, eq=False)
class PriorCorrection:
    """Corrects uncertain probabilities.

    Parameters
    ----------
    task
        Whose classes are meant.
    threshold
        Pairs whose entropy is above this share of the highest possible are uncertain.
    prior_C
        How often each class was judged.
    confident_C
        Sum of the probabilities of each class over the confident held-out pairs.
    """

    task: Task
    threshold: float
    prior_C: Doubles
    confident_C: Doubles

    @classmethod
    def fit(cls, held_out: HeldOutPredictions, threshold: float) -> "PriorCorrection":
        """Take the prior from held-out judgements, and what is confident from the predictions.

        Raises
        ------
        UserError
            For a threshold that cannot be, or one under which no held-out pair is confident.
        """
        if not 0 <= threshold < 1:
            raise UserError(f"a threshold of {threshold} makes no pair uncertain or cannot be.", remedy=REMEDY)
        confident_H = entropy(held_out.probabilities_HC) <= threshold
        if not confident_H.any():
            raise UserError(
                f"of the held-out pairs none has an entropy of at most {threshold} of the highest.",
                file=held_out.file,
                remedy=REMEDY,
            )
        targets_H = np.asarray(held_out.task.targets(held_out.labels_H), np.int64)
        counts_C = np.bincount(targets_H, minlength=held_out.task.outputs)
        confident_C = held_out.probabilities_HC[confident_H].sum(axis=0)
        return cls(held_out.task, threshold, counts_C / counts_C.sum(), confident_C)

    def __call__(self, probabilities_PC: npt.NDArray[np.floating[Any]]) -> Doubles:
        """Correct the uncertain pairs, each by itself; the others stay as they are."""
        corrected_PC = probabilities_PC.astype(np.float64)
        uncertain_P = self.uncertain(corrected_PC)
        corrected_PC[uncertain_P] = normalise_once(corrected_PC[uncertain_P], self.confident_C, self.prior_C)
        return corrected_PC

    def uncertain(self, probabilities_PC: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
        """Tell which pairs are uncertain, ``[P]``."""
        return entropy(probabilities_PC) > self.threshold

    def correct(self, prediction: Prediction) -> Prediction:
        """Correct a prediction; its labels and scores follow."""
        assert prediction.probabilities is not None
        return self.task.of_probabilities(self(prediction.probabilities))

    def to_json(self) -> dict[str, Any]:
        """Give what decides the correction."""
        return {
            "threshold": self.threshold,
            "prior": dict(zip(self.task.classes, self.prior_C.tolist(), strict=True)),
            "confident": dict(zip(self.task.classes, self.confident_C.tolist(), strict=True)),
        }


def entropy(probabilities_PC: npt.NDArray[np.floating[Any]]) -> Doubles:
    """Give the entropy of each pair's probabilities as a share of the highest, from 0 to 1, ``[P]``."""
    given_PC = probabilities_PC.astype(np.float64)
    terms_PC = given_PC * np.log(np.maximum(given_PC, _TINY))
    shares_P: Doubles = -terms_PC.sum(axis=1) / np.log(given_PC.shape[1])
    return shares_P


def normalise_once(uncertain_PC: Doubles, confident_C: Doubles, prior_C: Doubles) -> Doubles:
    """Do one step of alternating normalisation for each uncertain pair (Jia et al., 2021, section 3).

    Parameters
    ----------
    uncertain_PC
        Probabilities of the uncertain pairs.
    confident_C
        Sum of the confident pairs' probabilities.
    prior_C
        Probability of each class.

    Returns
    -------
    numpy.ndarray
        Probabilities, ``[P, C]``; as they were where all classes of a pair have the prior 0.
    """
    columns_PC = uncertain_PC / np.maximum(confident_C + uncertain_PC, _TINY)
    rows_PC = columns_PC * prior_C
    total_P1 = rows_PC.sum(axis=1, keepdims=True)
    normalised_PC: Doubles = np.where(total_P1 > 0, rows_PC / np.maximum(total_P1, _TINY), uncertain_PC)
    return normalised_PC
