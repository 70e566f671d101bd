"""Pairwise log-sum-exp: the worst mistakes of a list count most.

Equation   ``log(1 + Σ exp(s_j - s_i))`` over all ``i``, ``j`` of a list with ``gain_i > gain_j``
Reference  Li et al., 2017, *Improving Pairwise Ranking for Multi-label Image Classification*, eq. 3, there of the
           labels of one image
Our number no gain measured: no table of ours has it yet
Cost       as in `ranking.of_lists`
Traps      it is the larger the longer the list, and a wrong label dominates its list

Legend: ``L`` lists, ``M`` pairs of the longest.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from zhichun.objective.ranking.of_lists import RankingLoss, better, differences


@dataclass(frozen=True, kw_only=True)
class PairwiseLogSumExp(RankingLoss):
    """A smooth maximum over the order of each two pairs."""

    def of_lists(self, score_LM: Tensor, gain_LM: Tensor, mask_LM: Tensor) -> Tensor:
        """Return the smooth maximum over the pairs of different gain, and 0."""
        wrong_LMM = (-differences(score_LM)).masked_fill(~better(gain_LM, mask_LM), -torch.inf)
        return functional.pad(wrong_LMM.flatten(1), (1, 0)).logsumexp(dim=1)
