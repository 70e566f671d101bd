"""How far probabilities can be believed: calibration error, Brier score and log loss. Lower is better for all three.

Shapes: ``N`` pairs, ``C`` classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zhichun.core.errors import UserError
from zhichun.metrics.judged import Judged


def _probabilities(judged: Judged) -> NDArray[np.float64]:
    if judged.probabilities is None:
        raise ValueError("a calibration metric needs probabilities")
    return judged.probabilities


@dataclass(frozen=True)
class ExpectedCalibrationError:
    """How far the probability of the likeliest class is from the share of right answers; in 0..1.

    Pairs are sorted into bins of equal width by that probability; the error is the mean over bins, weighted by their
    pairs, of |share right − mean probability| (Guo et al., 2017, eq. 3). Where two classes are equally likely the
    first is the answer.

    Parameters
    ----------
    bins
        Number of bins. Bin i of B holds probabilities in ((i − 1) / B, i / B].
    """

    bins: int = 15

    def __post_init__(self) -> None:
        if self.bins < 1:
            raise UserError(f"Calibration error cannot have {self.bins} bins.", remedy="Give at least 1.")

    @property
    def name(self) -> str:
        """The metric's key in ``metrics.json``."""
        return "ece"

    def __call__(self, judged: Judged, /) -> float:
        """Measure."""
        probabilities = _probabilities(judged)
        confidence = probabilities.max(axis=1)
        right = probabilities.argmax(axis=1) == judged.truth
        bin_of_pair = np.clip(np.ceil(confidence * self.bins).astype(np.intp) - 1, 0, self.bins - 1)
        gap = np.bincount(bin_of_pair, weights=right - confidence, minlength=self.bins)
        return float(np.abs(gap).sum() / len(right))


@dataclass(frozen=True)
class BrierScore:
    """Squared distance between the probabilities and the truth, summed over classes, the mean over pairs; in 0..2.

    This is the original form (Brier, 1950); with two classes it is twice the score of the one probability.
    """

    @property
    def name(self) -> str:
        """The metric's key in ``metrics.json``."""
        return "brier"

    def __call__(self, judged: Judged, /) -> float:
        """Measure."""
        distance = _probabilities(judged) - np.eye(len(judged.classes))[judged.truth]
        return float((distance**2).sum(axis=1).mean())


@dataclass(frozen=True)
class LogLoss:
    """Negative logarithm of the true class's probability, in nats, the mean over pairs.

    A probability of 0 counts as 2.2e-16, as in scikit-learn, so that one sure and wrong answer costs 36 nats, not
    infinity.
    """

    @property
    def name(self) -> str:
        """The metric's key in ``metrics.json``."""
        return "log_loss"

    def __call__(self, judged: Judged, /) -> float:
        """Measure."""
        of_truth = np.take_along_axis(_probabilities(judged), judged.truth[:, None], axis=1)[:, 0]
        tiniest = np.finfo(np.float64).eps
        return float(-np.log(np.clip(of_truth, tiniest, 1 - tiniest)).mean())
