"""What one run of a table came to, and what several of them say together.

The runs of a row differ in their seed alone, so what a pair (for micro-F1) or a query (for ranking) is worth is
averaged over the seeds first; then whole queries are drawn with replacement. What no query has, such as macro-F1 or the
loss of a pre-training, has an interval over the seeds instead.

Legend: ``P`` pairs, ``Q`` queries, ``N`` either, ``S`` seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from zhichun.ablate.ablation import PAIRED
from zhichun.core import schema
from zhichun.core.files import read_json
from zhichun.core.tasks import TASKS
from zhichun.measure.report.scored import Scored
from zhichun.metrics import Judged, MicroF1, paired_bootstrap
from zhichun.metrics.figures import RANKING

OUTCOME_FILE: Final = "outcome.json"
# 97.5 % quantiles of Student's t, from 1 degree of freedom on; beyond the last, the last is on the safe side.
T_QUANTILES: Final = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """A finished run.

    Parameters
    ----------
    folder
        The run folder, with ``outcome.json`` and ``scored.parquet``.
    seed
        Its seed.
    task
        What it predicts.
    figures
        Its figures by metric.
    floor
        Figures by metric without a model: one class always, or a random order.
    seconds, seconds_before
        How long the training took, and what had to be made before it; ``None`` where that was nothing, or it was broken
        off in between.
    """

    folder: Path
    seed: int
    task: str
    figures: dict[str, float]
    floor: dict[str, float]
    seconds: float | None
    seconds_before: float | None

    @classmethod
    def read(cls, folder: Path) -> "Outcome | None":
        """Read a run's outcome; ``None`` where the run is not finished."""
        path = folder / OUTCOME_FILE
        return cls(folder, **read_json(path)) if path.is_file() else None

    def to_json(self) -> dict[str, Any]:
        """Give all but the folder as JSON values."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name != "folder"}

    @cached_property
    def judged(self) -> Judged:
        """The test pairs in the order of their ids, with the prediction's scores and classes."""
        task = TASKS[self.task]
        scored = Scored.read(self.folder / "scored.parquet", task)
        assert scored is not None, f"{self.folder} has an outcome and nothing that it comes from"
        order = np.argsort(scored.pairs.column(schema.EXAMPLE_ID).to_numpy(), kind="stable")
        query_ids = scored.pairs.column(schema.QUERY_ID).to_numpy()[order]
        if scored.probabilities is None:
            return Judged(query_ids, scored.labels[order], scores=scored.score[order])
        return Judged(
            query_ids,
            scored.truth.astype(np.intp)[order],
            scores=scored.score[order],
            predictions=scored.probabilities.argmax(axis=1)[order],
            classes=task.classes,
        )

    def worth(self, metric: str) -> Floats:
        """Give what each pair, or for a ranking metric each query, is worth, ``[N]``; their mean is the metric."""
        if metric == "micro_f1":
            return MicroF1().per_pair(self.judged)
        return next(known for known in RANKING if known.name == metric).per_query(self.judged)[1]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure, or a difference of two, with how far it can be trusted.

    Parameters
    ----------
    mean
        Over the seeds.
    low, high
        Interval of 95 %; ``None`` where one seed allows none.
    p
        Of a difference over queries, two-sided.
    over
        What the interval was drawn over.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None = None
    over: Literal["queries", "seeds"]


def estimate(outcomes: Sequence[Outcome], metric: str) -> Estimate:
    """Measure a row.

    Parameters
    ----------
    outcomes
        Runs of one row with different seeds.
    metric
        One that all of them have.
    """
    if metric not in PAIRED:
        return _over_seeds(np.array([outcome.figures[metric] for outcome in outcomes]))
    worth_N = _pooled(outcomes, metric)
    found = paired_bootstrap(worth_N, np.zeros_like(worth_N), query_ids=_query_ids(outcomes, metric))
    return Estimate(mean=found.mean, low=found.low, high=found.high, over="queries")


def difference(outcomes: Sequence[Outcome], baseline: Sequence[Outcome], metric: str) -> Estimate:
    """Compare two rows, on the seeds that both have.

    Parameters
    ----------
    outcomes, baseline
        Runs of the two rows; at least one seed is in both.
    metric
        One that all of them have.
    """
    shared = {outcome.seed for outcome in outcomes} & {outcome.seed for outcome in baseline}
    ours, theirs = ([run for run in runs if run.seed in shared] for runs in (outcomes, baseline))
    if metric not in PAIRED:
        of_seed = {run.seed: run.figures[metric] for run in theirs}
        return _over_seeds(np.array([run.figures[metric] - of_seed[run.seed] for run in ours]))
    found = paired_bootstrap(_pooled(ours, metric), _pooled(theirs, metric), query_ids=_query_ids(ours, metric))
    return Estimate(mean=found.mean, low=found.low, high=found.high, p=found.p, over="queries")


def _pooled(outcomes: Sequence[Outcome], metric: str) -> Floats:
    """Average what each pair or query is worth over the seeds, ``[N]``."""
    mean: Floats = np.mean([outcome.worth(metric) for outcome in outcomes], axis=0)
    return mean


def _query_ids(outcomes: Sequence[Outcome], metric: str) -> npt.NDArray[Any] | None:
    """Give the query of each pair, ``[P]``; none for a metric whose rows are queries."""
    return outcomes[0].judged.query_ids if metric == "micro_f1" else None


def _over_seeds(values_S: Floats) -> Estimate:
    """Give the mean with Student's interval."""
    mean, seeds = float(values_S.mean()), len(values_S)
    if seeds == 1:
        return Estimate(mean=mean, low=None, high=None, over="seeds")
    quantile = T_QUANTILES[min(seeds - 1, len(T_QUANTILES)) - 1]
    reach = quantile * float(values_S.std(ddof=1)) / float(np.sqrt(seeds))
    return Estimate(mean=mean, low=mean - reach, high=mean + reach, over="seeds")
