"""The figures of `quality_lists.py`: of each system, and differences with a bootstrap over queries.

Ranking figures are over the queries with two grades or more: any order of the others is right. Not a script.

Legend: ``P`` pairs, ``Q`` queries, ``C`` classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zhichun.core import schema
from zhichun.core.tasks import Prediction
from zhichun.metrics import MRR, Judged, LogLoss, MacroF1, Metric, MicroF1, label_codes, nDCG
from zhichun.metrics.significance import drawn_values

Doubles = npt.NDArray[np.float64]
RANKING: Final[tuple[Metric, ...]] = (nDCG(), nDCG() @ 10, MRR())
CLASSES: Final[tuple[Metric, ...]] = (MicroF1(), MacroF1(), LogLoss())
LABELLING: Final = tuple(metric.name for metric in CLASSES)
NAMES: Final = (*(metric.name for metric in RANKING), *LABELLING)
DRAWS: Final = 10_000


@dataclass(frozen=True)
class Judgements:
    """What is measured against.

    Parameters
    ----------
    query_ids, labels
        Of each pair, ``[P]``.
    """

    query_ids: npt.NDArray[Any]
    labels: npt.NDArray[np.intp]

    @classmethod
    def of(cls, judged: pa.Table) -> "Judgements":
        """Read them off a table of judged pairs."""
        return cls(judged.column(schema.QUERY_ID).to_numpy(), label_codes(judged.column(schema.LABEL).to_pylist()))

    @property
    def ranked_P(self) -> npt.NDArray[np.bool_]:
        """Which pairs are of a query with two grades or more."""
        judged = Judged(self.query_ids, self.labels)
        return ((judged.label_counts > 0).sum(axis=1) > 1)[judged.query_index]

    def counts(self) -> dict[str, int]:
        """Count what the figures are over."""
        queries, sizes = np.unique(self.query_ids, return_counts=True)
        return {
            "pairs": len(self.labels),
            "queries": len(queries),
            "queries_of_one_product": int((sizes == 1).sum()),
            "queries_ranked": len(np.unique(self.query_ids[self.ranked_P])),
        }


@dataclass(frozen=True, eq=False)
class Said:
    """What a system says of all pairs, with one seed.

    Parameters
    ----------
    scores
        What it ranks by, ``[P]``.
    probabilities
        Of the labels, ``[P, C]``; ``None`` where it only ranks.
    """

    scores: Doubles
    probabilities: Doubles | None

    @classmethod
    def of(cls, prediction: Prediction) -> "Said":
        """Take a prediction of the labels."""
        assert prediction.probabilities is not None
        return cls(prediction.score.astype(np.float64), prediction.probabilities.astype(np.float64))

    def ranked(self, truth: Judgements) -> Judged:
        """Give what ranking figures are computed from."""
        return Judged(truth.query_ids, truth.labels, scores=self.scores).select(truth.ranked_P)

    def classed(self, truth: Judgements) -> Judged | None:
        """Give what figures of classes are computed from."""
        if self.probabilities is None:
            return None
        predictions = self.probabilities.argmax(axis=1)
        return Judged(truth.query_ids, truth.labels, predictions=predictions, probabilities=self.probabilities)


def figures(said: Said, truth: Judgements) -> dict[str, float]:
    """Measure one seed of a system; without a query of two grades there are no ranking figures."""
    found = {}
    if truth.ranked_P.any():
        found = {metric.name: float(metric(said.ranked(truth))) for metric in RANKING}
    judged = said.classed(truth)
    return found | ({} if judged is None else {metric.name: float(metric(judged)) for metric in CLASSES})


def differences(first: Sequence[Said], second: Sequence[Said], truth: Judgements) -> dict[str, dict[str, Any]]:
    """Bootstrap over queries the first system minus the second; of each draw, the mean over the seeds."""
    found: dict[str, dict[str, Any]] = {}
    ranked = [[said.ranked(truth) for said in seeds] for seeds in (first, second)] if truth.ranked_P.any() else []
    classed = [[judged for said in seeds if (judged := said.classed(truth))] for seeds in (first, second)]
    for metrics, sides in ((RANKING, ranked), (CLASSES, classed)):
        if not sides or not all(sides):
            continue
        parts = drawn_values(metrics, *sides[0], *sides[1], draws=DRAWS, seed=0)
        seeds = len(sides[0])
        values, draws = (part[:seeds].mean(axis=0) - part[seeds:].mean(axis=0) for part in parts)
        low, high = np.quantile(draws, [0.025, 0.975], axis=0)
        p = (1 + (np.abs(draws - values) >= np.abs(values) - 1e-12).sum(axis=0)) / (1 + DRAWS)
        for place, metric in enumerate(metrics):
            of = {"mean": values[place], "low": low[place], "high": high[place], "p": p[place]}
            found[metric.name] = {key: float(value) for key, value in of.items()}
            found[metric.name]["queries"] = len(sides[0][0].queries)
    return found
