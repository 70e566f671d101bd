"""Calibration of probabilities: calibration error and log loss. Lower is better for both.

Shapes: ``N`` pairs, ``C`` classes, ``K`` bins that hold a pair.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from zhichun.core.settings import require_range
from zhichun.metrics.judged import Judged
from zhichun.metrics.metric import Metric

NORMAL_95 = 1.96


def _probabilities(judged: Judged) -> NDArray[np.float64]:
    if judged.probabilities is None:
        raise ValueError("a calibration metric needs probabilities")
    return judged.probabilities


def _sorted(
    probabilities: NDArray[np.float64], truth: NDArray[np.intp], bins: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.intp]]:
    """Return the probability of each pair's likeliest class, whether it is right, and the bin."""
    sure = probabilities.max(axis=1)
    return sure, probabilities.argmax(axis=1) == truth, np.clip(np.ceil(sure * bins).astype(np.intp) - 1, 0, bins - 1)


@dataclass(frozen=True, eq=False)
class Reliability:
    """Pairs in bins of equal width by the probability of the most likely class; empty bins are left out.

    Bin i of B holds probabilities in ((i − 1) / B, i / B]; where two classes are equally likely the first is the
    answer. Of each bin, ``[K]``: its lower end, its pairs, their mean probability, and the share that is right.
    """

    lows: NDArray[np.float64]
    pairs: NDArray[np.intp]
    sure: NDArray[np.float64]
    right: NDArray[np.float64]

    @classmethod
    def of(cls, probabilities: NDArray[np.float64], truth: NDArray[np.intp], bins: int = 15) -> "Reliability":
        """Sort pairs into bins."""
        sure, right, bin_of_pair = _sorted(probabilities, truth, bins)
        pairs = np.bincount(bin_of_pair, minlength=bins)
        used = np.flatnonzero(pairs)
        means = (np.bincount(bin_of_pair, values, bins)[used] / pairs[used] for values in (sure, right))
        return cls(used / bins, pairs[used], *means)

    def interval(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give Wilson's 95 % interval (1927) of each share that is right: what so few pairs leave open."""
        return wilson(self.right, self.pairs, NORMAL_95)


def wilson(share: Any, n: Any, z: float) -> tuple[Any, Any]:
    """Give the ends of Wilson's interval of a share that was seen in ``n`` cases, ``z`` standard errors to a side."""
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return centre - half, centre + half


@dataclass(frozen=True)
class ExpectedCalibrationError(Metric):
    """Difference between the probability of the most likely class and the accuracy; in 0..1.

    Pairs are sorted into the bins of `Reliability`; the error is the mean over bins, weighted by their pairs, of
    |accuracy − mean probability| (Guo et al., 2017, eq. 3).

    Parameters
    ----------
    bins
        Number of bins.
    """

    reads: ClassVar[Literal["probabilities"]] = "probabilities"

    bins: int = 15

    def __post_init__(self) -> None:
        require_range(self, "bins", least=1)

    name = "ece"
    title = "calibration error (lower is better)"

    def sums(self, judged: Judged) -> NDArray[np.float64]:
        """Return the gap between right answers and confidence in each bin, and the pairs. Shape [Q, bins + 1]."""
        sure, right, bin_of_pair = _sorted(_probabilities(judged), judged.truth, self.bins)
        gaps = (right - sure)[:, None] * (bin_of_pair[:, None] == np.arange(self.bins))
        return judged.sum_by_query(np.hstack([gaps, np.ones((len(gaps), 1))]))

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Add up the gaps of the bins, over the pairs."""
        return np.asarray(np.abs(sums[..., :-1]).sum(axis=-1) / sums[..., -1])


@dataclass(frozen=True)
class LogLoss(Metric):
    """Negative logarithm of the true class's probability, in nats, the mean over pairs.

    A probability of 0 counts as 2.2e-16, as in scikit-learn, so that one confident wrong prediction costs 36 nats, not
    infinity.
    """

    reads: ClassVar[Literal["probabilities"]] = "probabilities"

    name = "log_loss"
    title = "log loss (lower is better)"

    def sums(self, judged: Judged) -> NDArray[np.float64]:
        """Return the losses, and the pairs. Shape [Q, 2]."""
        of_truth = np.take_along_axis(_probabilities(judged), judged.truth[:, None], axis=1)[:, 0]
        tiniest = np.finfo(np.float64).eps
        losses = -np.log(np.clip(of_truth, tiniest, 1 - tiniest))
        return judged.sum_by_query(np.stack([losses, np.ones_like(losses)], axis=1))
