"""How far a run's probabilities can be believed, and how its scores are spread.

Legend: ``P`` pairs, ``C`` classes, ``K`` bins that hold a pair.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from zhichun.core import schema
from zhichun.measure.report.html import Html, figure, table
from zhichun.measure.report.names import class_name
from zhichun.measure.report.plot import Plot
from zhichun.measure.report.scored import Scored

Floats = npt.NDArray[np.float64]

BINS: Final = 15
SCORE_BINS: Final = 20
NORMAL_95: Final = 1.96


@dataclass(frozen=True, eq=False)
class Reliability:
    """Pairs in bins of equal width by the probability of the likeliest class; empty bins are left out.

    The bins are those of `zhichun.metrics.ExpectedCalibrationError`: bin i of B holds ((i − 1) / B, i / B].

    Parameters
    ----------
    lows
        Lower ends of the bins, ``[K]``.
    pairs
        Pairs in each, ``[K]``.
    sure
        Their mean probability, ``[K]``.
    right
        Share of them that is right, ``[K]``.
    """

    lows: Floats
    pairs: npt.NDArray[np.intp]
    sure: Floats
    right: Floats

    @classmethod
    def of(cls, probabilities_PC: Floats, truth_P: npt.NDArray[np.intp]) -> "Reliability":
        """Sort pairs into bins."""
        sure_P, right_P = probabilities_PC.max(axis=1), probabilities_PC.argmax(axis=1) == truth_P
        bin_P = np.clip(np.ceil(sure_P * BINS).astype(np.intp) - 1, 0, BINS - 1)
        pairs = np.bincount(bin_P, minlength=BINS)
        used = np.flatnonzero(pairs)
        sure, right = (np.bincount(bin_P, values, BINS)[used] / pairs[used] for values in (sure_P, right_P))
        return cls(used / BINS, pairs[used], sure, right)

    def interval(self) -> tuple[Floats, Floats]:
        """Give Wilson's 95 % interval (1927) of each share that is right: what so few pairs leave open."""
        z, n = NORMAL_95, self.pairs
        centre = (self.right + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z * np.sqrt(self.right * (1 - self.right) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
        return centre - half, centre + half


def reliability_plots(scored: Scored, error: float | None) -> list[Html]:
    """Draw how often the model is right against how sure it says it is, and list it; a regressor says neither.

    Parameters
    ----------
    scored
        The scored pairs.
    error
        The calibration error, to be said beside.
    """
    if scored.probabilities is None:
        return []
    bins = Reliability.of(scored.probabilities, scored.truth.astype(np.intp))
    plot = Plot((0, 1), (0, 1), "probability of the predicted class", "share right", 320)
    plot.segment((0, 0), (1, 1), "mark")
    for sure, low, high in zip(bins.sure, *bins.interval(), strict=True):
        plot.segment((sure, low), (sure, high), "whisker")
    plot.dots(bins.sure, bins.right, "a", 3 + 6 * np.sqrt(bins.pairs / bins.pairs.max()))
    said = "" if error is None else f" Calibration error {error:.3f}."
    text = (
        "A point on the dashed line is right as often as the model says, one below it less often. Larger points hold "
        f"more pairs; bars are 95 % intervals.{said}"
    )
    rows = [
        [f"{low:.2f} to {low + 1 / BINS:.2f}", f"{pairs:,}", f"{sure:.3f}", f"{right:.3f}"]
        for low, pairs, sure, right in zip(bins.lows, bins.pairs, bins.sure, bins.right, strict=True)
    ]
    columns = ["probability", "pairs", "mean probability", "share right"]
    return [figure(plot.svg(text), text), table("The same in numbers", columns, rows)]


def score_plots(scored: Scored) -> list[Html]:
    """Draw how the scores of each judged label are spread."""
    what = "probability of a substitute" if scored.task.name == "substitute" else "expected gain"
    edges = np.linspace(0, 1, SCORE_BINS + 1)
    shares = {}
    for place, label in enumerate(schema.LABELS):
        of_label = scored.score[scored.labels == place]
        if len(of_label):
            shares[label] = np.histogram(of_label, edges)[0] / len(of_label), len(of_label), float(of_label.mean())
    highest = max(float(share.max()) for share, _, _ in shares.values())
    plots = []
    for label, (share, count, mean) in shares.items():
        plot = Plot((0, 1), (0, highest), what, "share", 170)
        plot.bars(edges, share, "bars")
        plot.segment((mean, 0), (mean, highest), "mark")
        text = f"{class_name(label)}: {what} of {count:,} pairs, {mean:.3f} on average (dashed)."
        plots.append(figure(plot.svg(text), text))
    return plots
