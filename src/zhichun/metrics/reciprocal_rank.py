"""Mean reciprocal rank: one over the rank of the first relevant document, 0 where there is none.

Ties: the exact expected value over all orders of the tied documents (McSherry and Najork, 2008). Only the first group
with a relevant document matters. With b documents before it, n in it and r of them relevant, the first relevant one is
the group's j-th with the (negative hypergeometric) chance C(n − j, r − 1) / C(n, r), so

    value = Σ_{j = 1 .. n − r + 1}  C(n − j, r − 1) / C(n, r) / (b + j)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zhichun.metrics.judged import Judged
from zhichun.metrics.metric import BinaryRankingMetric


@dataclass(frozen=True, repr=False)
class MRR(BinaryRankingMetric):
    """Mean reciprocal rank of the first relevant document; in 0..1.

    Parameters
    ----------
    relevant
        The labels that count as relevant.
    k
        A first relevant document after rank k counts as none; ``None`` is the whole list.

    Examples
    --------
    >>> MRR(relevant=("E",))
    MRR(relevant=('E',))
    """

    @property
    def _short_name(self) -> str:
        return "mrr" + self._suffix()

    @property
    def title(self) -> str:
        """Display name."""
        return self.name.replace("mrr", "MRR")

    def _values(self, judged: Judged) -> NDArray[np.float64]:
        groups, relevant = judged.tied_groups, self._relevant_per_group(judged)
        holding = np.flatnonzero(relevant)
        # Groups come best first, so the first one of each query decides.
        queries, first = np.unique(groups.query[holding], return_index=True)
        deciding = holding[first]
        values = np.zeros(len(judged.queries))
        values[queries] = _expected(groups.before[deciding], groups.size[deciding], relevant[deciding], self.k)
        return values


def _expected(
    before: NDArray[np.intp], size: NDArray[np.intp], relevant: NDArray[np.intp], k: int | None
) -> NDArray[np.float64]:
    """Sum the equation above for each deciding group: all groups at once, rank by rank."""
    values = np.zeros(len(size))
    last = before + size - relevant + 1  # the worst rank that the first relevant document can have
    if k is not None:
        last = np.minimum(last, k)
    chance = relevant / size
    live, turn = np.flatnonzero(before < last), 1
    while len(live):
        rank = before[live] + turn
        values[live] += chance[live] / rank
        live = live[rank < last[live]]
        chance[live] *= (size[live] - turn + 1 - relevant[live]) / (size[live] - turn)
        turn += 1
    return values
