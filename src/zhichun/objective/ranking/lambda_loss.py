"""LambdaLoss: RankNet, weighted by what nDCG would lose by each mistake.

Equation   mean of ``w_ij log2(1 + exp(s_j - s_i))`` over all ``i``, ``j`` of a list with ``gain_i > gain_j``;
           ``w_ij = (|1/D(r_i) - 1/D(r_j)| + μ |1/D(d) - 1/D(d + 1)|) |gain_i - gain_j| / maxDCG`` with the ranks ``r``
           by score, ``d = |r_i - r_j|`` and ``D(r) = log2(1 + r)``
Reference  Wang et al., 2018, *The LambdaLoss Framework for Ranking Metric Optimization*: NDCG-Loss2++, with μ = 10;
           without μ it is LambdaRank (Burges et al., 2006)
Our number no gain measured: no table of ours has it yet
Cost       as in `ranking.of_lists`, and a sort of each list
Traps      the gains are linear, as in `metrics.ndcg`, not ``2^grade - 1``. With the gains of the contest, E against all
           others is nearly all of it, and little is left for S against C. Weights are small: ``weight`` may be above 1

Legend: ``L`` lists, ``M`` pairs of the longest.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from zhichun.core.settings import require_range
from zhichun.objective.ranking.of_lists import RankingLoss, better, differences, mean_where


@dataclass(frozen=True, kw_only=True)
class LambdaLoss(RankingLoss):
    """RankNet weighted by nDCG.

    Parameters
    ----------
    mu
        Share of the weight by distance in rank (NDCG-Loss2++); null leaves LambdaRank's alone.
    """

    mu: float | None = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range(self, "mu", above=0, remedy="Use LambdaRank's weights alone with objective.ranking.mu=null.")

    def of_lists(self, score_LM: Tensor, gain_LM: Tensor, mask_LM: Tensor) -> Tensor:
        """Return the weighted mean over the pairs of different gain."""
        discount_M = 1 / torch.log2(2.0 + torch.arange(score_LM.shape[1], device=score_LM.device))
        best_L = (gain_LM.sort(dim=1, descending=True).values * discount_M).sum(dim=1)
        by_score_LM = score_LM.detach().masked_fill(~mask_LM, -torch.inf).argsort(dim=1, descending=True, stable=True)
        rank_LM = by_score_LM.argsort(dim=1)
        weight_LMM = differences(discount_M[rank_LM]).abs()
        if self.mu is not None:
            step_M = torch.cat([discount_M.new_zeros(1), discount_M[:-1] - discount_M[1:]])
            weight_LMM = weight_LMM + self.mu * step_M[differences(rank_LM).abs()]
        weight_LMM = weight_LMM * differences(gain_LM).abs() / best_L.clamp(min=1e-10)[:, None, None]
        loss_LMM = weight_LMM * functional.softplus(-differences(score_LM)) / math.log(2)
        return mean_where(loss_LMM, better(gain_LM, mask_LM))
