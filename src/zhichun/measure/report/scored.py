"""Predictions of a run from ``scored.parquet``: calibration, scores by label, and the most confident mistakes.

Legend: ``P`` pairs, ``C`` classes, ``K`` bins that hold a pair.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zhichun.core import schema
from zhichun.core.tasks import Task
from zhichun.data.dataset.dataset import read_parquet
from zhichun.measure.report.page import Figure, Plot, class_name
from zhichun.metrics import label_codes
from zhichun.metrics.calibration import Reliability

Floats = npt.NDArray[np.float64]

BINS: Final = 15
SCORE_BINS: Final = 20


@dataclass(frozen=True)
class Scored:
    """Scored pairs.

    Parameters
    ----------
    task
        What the run predicts.
    pairs
        ``scored.parquet``: the judged pairs with probabilities, label and gain.
    """

    task: Task
    pairs: pa.Table

    @classmethod
    def read(cls, path: Path, task: Task) -> "Scored | None":
        """Read ``scored.parquet``; None where it is missing or is of another task."""
        if not path.is_file():
            return None
        pairs = read_parquet(path)
        needed = [f"p_{name}" for name in task.classes] or ["gain"]
        return cls(task, pairs) if set(needed) <= set(pairs.column_names) else None

    @property
    def probabilities(self) -> Floats | None:
        """Probability of each class, ``[P, C]``; a regressor gives none."""
        if not self.task.classes:
            return None
        columns = [self.pairs.column(f"p_{name}").to_numpy() for name in self.task.classes]
        return np.stack(columns, axis=1).astype(np.float64)

    @property
    def score(self) -> Floats:
        """What pairs are ranked by, ``[P]``: the gain, or the probability of a substitute."""
        name = "p_S" if self.task.name == "substitute" else "gain"
        score: Floats = self.pairs.column(name).to_numpy().astype(np.float64)
        return score

    @property
    def labels(self) -> npt.NDArray[np.intp]:
        """Judgements as places in `schema.LABELS`, ``[P]``."""
        return label_codes(self.pairs.column(schema.LABEL).to_pylist())

    @property
    def truth(self) -> Floats:
        """Judgements as the task's targets, ``[P]``: places in its classes, or gains."""
        return np.asarray(self.task.targets(self.labels), np.float64)


def reliability(scored: Scored, error: float | None) -> dict[str, Any] | None:
    """Draw how often the model is right against how sure it is, and list it; none of a regressor."""
    if scored.probabilities is None or not len(scored.pairs):
        return None
    bins = Reliability.of(scored.probabilities, scored.truth.astype(np.intp), BINS)
    plot = Plot((0, 1), (0, 1), "probability of the predicted class", "share right", 320)
    plot.segment((0, 0), (1, 1), "mark")
    for sure, low, high in zip(bins.sure, *bins.interval(), strict=True):
        plot.segment((sure, low), (sure, high), "whisker")
    plot.dots(bins.sure, bins.right, "a", 3 + 6 * np.sqrt(bins.pairs / bins.pairs.max()))
    named = "" if error is None else f" Calibration error {error:.3f}."
    text = (
        "A point on the dashed line is right as often as its probability, one below it less often. Larger points hold "
        f"more pairs; bars are 95 % intervals.{named}"
    )
    rows = [
        [f"{low:.2f} to {low + 1 / BINS:.2f}", f"{pairs:,}", f"{sure:.3f}", f"{right:.3f}"]
        for low, pairs, sure, right in zip(bins.lows, bins.pairs, bins.sure, bins.right, strict=True)
    ]
    return {"figure": Figure(plot, text), "rows": rows}


def score_figures(scored: Scored) -> list[Figure]:
    """Draw how the scores of each judged label are spread; nothing where there is no pair."""
    what = "probability of a substitute" if scored.task.name == "substitute" else "expected gain"
    edges = np.linspace(0, 1, SCORE_BINS + 1)
    shares = {}
    for place, label in enumerate(schema.LABELS):
        of_label = scored.score[scored.labels == place]
        if len(of_label):
            shares[label] = np.histogram(of_label, edges)[0] / len(of_label), len(of_label), float(of_label.mean())
    highest = max((float(share.max()) for share, _, _ in shares.values()), default=1.0)
    figures = []
    for label, (share, count, mean) in shares.items():
        plot = Plot((0, 1), (0, highest), what, "share", 170)
        plot.bars(edges, share, "bars")
        plot.segment((mean, 0), (mean, highest), "mark")
        figures.append(Figure(plot, f"{class_name(label)}: {what} of {count:,} pairs, {mean:.3f} on average (dashed)."))
    return figures


def mistakes(scored: Scored, most: int = 10) -> list[dict[str, Any]]:
    """Find the worst mistakes: the most probable wrong classes, or the gains farthest from the judged ones.

    Returns
    -------
    list
        The pairs, with what was ``judged``, what was ``predicted``, and its ``surety``: how sure a classifier was, or
        how far off a regressor.
    """
    truth_P, probabilities_PC = scored.truth, scored.probabilities
    if probabilities_PC is None:
        surety_P = np.abs(scored.score - truth_P)
        predicted = [f"{gain:.3f}" for gain in scored.score]
        judged = [f"{gain:g}" for gain in truth_P]
    else:
        # A right answer sinks below all wrong ones.
        predicted_P = probabilities_PC.argmax(axis=1)
        surety_P = np.where(predicted_P == truth_P, 0.0, probabilities_PC.max(axis=1))
        predicted = [scored.task.classes[place] for place in predicted_P]
        judged = [scored.task.classes[int(place)] for place in truth_P]
    worst = [place for place in np.argsort(-surety_P, kind="stable")[:most].tolist() if surety_P[place] > 0]
    pairs = scored.pairs.take(pa.array(worst, pa.int64())).to_pylist()
    return [
        {**pair, "judged": judged[place], "predicted": predicted[place], "surety": float(surety_P[place])}
        for place, pair in zip(worst, pairs, strict=True)
    ]
