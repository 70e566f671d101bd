"""Calibration of probabilities: calibration error and log loss. Lower is better for both.

Shapes: ``N`` pairs, ``C`` classes.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from zhichun.core.settings import require_range
from zhichun.metrics.judged import Judged
from zhichun.metrics.metric import Metric


def _probabilities(judged: Judged) -> NDArray[np.float64]:
    if judged.probabilities is None:
        raise ValueError("a calibration metric needs probabilities")
    return judged.probabilities


@dataclass(frozen=True)
class ExpectedCalibrationError(Metric):
    """Difference between the probability of the most likely class and the accuracy; in 0..1.

    Pairs are sorted into bins of equal width by that probability; the error is the mean over bins, weighted by their
    pairs, of |accuracy − mean probability| (Guo et al., 2017, eq. 3). Where two classes are equally likely the
    first is the answer.

    Parameters
    ----------
    bins
        Number of bins. Bin i of B holds probabilities in ((i − 1) / B, i / B].
    """

    reads: ClassVar[Literal["probabilities"]] = "probabilities"

    bins: int = 15

    def __post_init__(self) -> None:
        require_range(self, "bins", least=1)

    @property
    def name(self) -> str:
        """The metric's key in ``metrics.json``."""
        return "ece"

    @property
    def title(self) -> str:
        """Display name."""
        return "calibration error (lower is better)"

    @classmethod
    def reported(cls, classes: tuple[str, ...]) -> tuple[Metric, ...]:
        """For every classification task."""
        return (cls(),)

    def __call__(self, judged: Judged, /) -> float:
        """Measure."""
        probabilities = _probabilities(judged)
        confidence = probabilities.max(axis=1)
        right = probabilities.argmax(axis=1) == judged.truth
        bin_of_pair = np.clip(np.ceil(confidence * self.bins).astype(np.intp) - 1, 0, self.bins - 1)
        gap = np.bincount(bin_of_pair, weights=right - confidence, minlength=self.bins)
        return float(np.abs(gap).sum() / len(right))


@dataclass(frozen=True)
class LogLoss(Metric):
    """Negative logarithm of the true class's probability, in nats, the mean over pairs.

    A probability of 0 counts as 2.2e-16, as in scikit-learn, so that one confident wrong prediction costs 36 nats, not
    infinity.
    """

    reads: ClassVar[Literal["probabilities"]] = "probabilities"

    @property
    def name(self) -> str:
        """The metric's key in ``metrics.json``."""
        return "log_loss"

    @property
    def title(self) -> str:
        """Display name."""
        return "log loss (lower is better)"

    @classmethod
    def reported(cls, classes: tuple[str, ...]) -> tuple[Metric, ...]:
        """For every classification task."""
        return (cls(),)

    def __call__(self, judged: Judged, /) -> float:
        """Measure."""
        of_truth = np.take_along_axis(_probabilities(judged), judged.truth[:, None], axis=1)[:, 0]
        tiniest = np.finfo(np.float64).eps
        return float(-np.log(np.clip(of_truth, tiniest, 1 - tiniest)).mean())
