"""Precision of the first ranks: which share of them is relevant.

As trec_eval's ``P_k``, the divisor is k even where fewer documents were returned. Ties: the expected value over all
orders of the tied documents, that is, a group that the cut runs through contributes its relevant documents in
proportion (McSherry and Najork, 2008).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zhichun.metrics.judged import Judged
from zhichun.metrics.metric import BinaryRankingMetric, Metric


@dataclass(frozen=True, repr=False)
class Precision(BinaryRankingMetric):
    """Share of relevant documents among the first k, the mean over queries; in 0..1.

    Parameters
    ----------
    relevant
        The labels that count as relevant.
    k
        How many ranks are looked at. ``None`` is all that were returned: the divisor then is their number, and a query
        of which nothing was returned has the value 0.

    Examples
    --------
    >>> Precision(relevant=("E", "S")) @ 5
    Precision(relevant=('E', 'S')) @ 5
    """

    @property
    def _short_name(self) -> str:
        return "precision" + self._suffix()

    @classmethod
    def reported(cls, classes: tuple[str, ...]) -> tuple[Metric, ...]:
        """Of the first, and of the first five."""
        return cls() @ 1, cls() @ 5

    def _values(self, judged: Judged) -> NDArray[np.float64]:
        groups, queries = judged.tied_groups, len(judged.queries)
        within = groups.size if self.k is None else np.clip(self.k - groups.before, 0, groups.size)
        found = groups.sum_per_query(self._relevant_per_group(judged) * within / groups.size, queries)
        if self.k is not None:
            return found / self.k
        return found / np.maximum(groups.sum_per_query(groups.size, queries), 1)
