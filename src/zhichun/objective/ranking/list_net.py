"""ListNet: the softmax over a list's scores should be that over its gains.

Equation   ``-Σ_i t_i log softmax(s)_i`` over the pairs of a list, with ``t = softmax(gain / τ)``
Reference  Cao et al., 2007, *Learning to Rank: From Pairwise Approach to Listwise Approach*, with the probability of
           the first place; there gains are grades of whole numbers and τ is 1
Our number no gain measured: no table of ours has it yet
Cost       as in `ranking.of_lists`
Traps      gains go from 0 to 1, so that τ = 1 would make a target that is nearly flat. The loss is the entropy of the
           target at least: it does not go to 0, and is the larger the longer the list

Legend: ``L`` lists, ``M`` pairs of the longest.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from zhichun.core.settings import require_range
from zhichun.objective.ranking.of_lists import RankingLoss


@dataclass(frozen=True, kw_only=True)
class ListNet(RankingLoss):
    """Cross-entropy over a list.

    Parameters
    ----------
    temperature
        τ, what the gains are divided by.
    """

    temperature: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range(self, "temperature", above=0, remedy="Give one such as 0.25.")

    def of_lists(self, score_LM: Tensor, gain_LM: Tensor, mask_LM: Tensor) -> Tensor:
        """Return the cross-entropy of the two distributions."""
        target_LM = (gain_LM / self.temperature).masked_fill(~mask_LM, -torch.inf).softmax(dim=1)
        log_q_LM = score_LM.masked_fill(~mask_LM, -torch.inf).log_softmax(dim=1)
        return -(target_LM * log_q_LM.masked_fill(~mask_LM, 0)).sum(dim=1)
