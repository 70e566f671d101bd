"""RankNet: of two pairs of a list, the one with the higher gain should have the higher score.

Equation   mean of ``log(1 + exp(s_j - s_i))`` over all ``i``, ``j`` of a list with ``gain_i > gain_j``
Reference  Burges et al., 2005, *Learning to Rank using Gradient Descent*, eq. 3
Our number no gain measured: no table of ours has it yet
Cost       as in `ranking.of_lists`
Traps      a mistake at the end of a list costs as much as one at its top: `LambdaLoss` weighs by what nDCG loses

Legend: ``L`` lists, ``M`` pairs of the longest.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from zhichun.objective.ranking.of_lists import RankingLoss, better, differences, mean_where


@dataclass(frozen=True, kw_only=True)
class RankNet(RankingLoss):
    """Cross-entropy of the order of each two pairs."""

    def of_lists(self, score_LM: Tensor, gain_LM: Tensor, mask_LM: Tensor) -> Tensor:
        """Return the mean over the pairs of different gain."""
        return mean_where(functional.softplus(-differences(score_LM)), better(gain_LM, mask_LM))
