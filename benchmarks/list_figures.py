"""The figures of `quality_lists.py`: of each system, and differences with a bootstrap over queries.

Ranking figures are over the queries with two grades or more: any order of the others is right. Not a script.

Legend: ``P`` pairs, ``Q`` queries, ``C`` classes, ``S`` seeds, ``D`` draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from zhichun.metrics import MRR, Judged, LogLoss, MacroF1, MicroF1, nDCG, paired_bootstrap
from zhichun.metrics.metric import RankingMetric

Doubles = npt.NDArray[np.float64]
RANKING: Final[tuple[RankingMetric, ...]] = (nDCG(), nDCG() @ 10, MRR())
CLASSES: Final = (MicroF1(), MacroF1(), LogLoss())
NAMES: Final = tuple(metric.name for metric in (*RANKING, *CLASSES))
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
    """Bootstrap over queries the first system minus the second, both averaged over their seeds."""
    found: dict[str, dict[str, Any]] = {}
    for metric in RANKING if truth.ranked_P.any() else ():
        one, other = (
            np.mean([metric.per_query(said.ranked(truth))[1] for said in seeds], axis=0) for seeds in (first, second)
        )
        found[metric.name] = vars(paired_bootstrap(one, other, resamples=DRAWS)).copy()
    classed = [[judged for said in seeds if (judged := said.classed(truth))] for seeds in (first, second)]
    if all(classed):
        for name, worth in (("micro_f1", MicroF1().per_pair), ("log_loss", _log_losses)):
            one, other = (np.mean([worth(judged) for judged in seeds], axis=0) for seeds in classed)
            of = paired_bootstrap(one, other, query_ids=truth.query_ids, resamples=DRAWS)
            found[name] = vars(of).copy()
        found["macro_f1"] = _macro_difference(*classed)
    return found


def _log_losses(judged: Judged) -> Doubles:
    assert judged.probabilities is not None
    of_truth = np.take_along_axis(judged.probabilities, judged.truth[:, None], axis=1)[:, 0]
    return -np.log(np.clip(of_truth, np.finfo(np.float64).eps, 1))


def _macro_difference(first: Sequence[Judged], second: Sequence[Judged]) -> dict[str, Any]:
    """Bootstrap macro-F1, which has no value for a query: each draw counts its queries' confusion matrices."""
    queries = len(first[0].queries)
    drawn_DQ = np.random.default_rng(0).multinomial(queries, np.full(queries, 1 / queries), size=DRAWS)
    one, other = (np.mean([_macro_f1(drawn_DQ, judged) for judged in seeds], axis=0) for seeds in (first, second))
    mean = float(np.mean([MacroF1()(judged) for judged in first]) - np.mean([MacroF1()(judged) for judged in second]))
    gaps = one - other
    low, high = np.quantile(gaps, [0.025, 0.975])
    p = (1 + (np.abs(gaps - mean) >= abs(mean)).sum()) / (1 + DRAWS)
    return {"mean": mean, "low": float(low), "high": float(high), "p": float(p), "queries": queries}


def _macro_f1(drawn_DQ: npt.NDArray[np.int64], judged: Judged) -> Doubles:
    """Give macro-F1 of each draw of queries, ``[D]``."""
    assert judged.predictions is not None
    classes = len(judged.classes)
    cells_P = (judged.query_index * classes + judged.truth) * classes + judged.predictions
    counts = np.bincount(cells_P, minlength=len(judged.queries) * classes**2).reshape(-1, classes**2)
    cells_DCC = (drawn_DQ @ counts).reshape(-1, classes, classes)
    right_DC, both_DC = np.einsum("dcc->dc", cells_DCC), cells_DCC.sum(axis=1) + cells_DCC.sum(axis=2)
    return np.divide(2 * right_DC, both_DC, out=np.zeros(right_DC.shape), where=both_DC > 0).mean(axis=1)
