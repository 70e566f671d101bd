"""Margin-MSE: two pairs of a list should be as far apart as a teacher has them.

Equation   mean of ``((g_i - g_j) - (t_i - t_j))²`` over each two pairs of a list, with the predicted gain
           ``g = sigmoid(s)`` and the target's gain ``t``
Reference  Hofstätter et al., 2020, *Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge
           Distillation*, eq. 1, there of scores without bounds and of one relevant and one other document
Our number no gain measured: no table of ours has it yet
Cost       as in `ranking.of_lists`
Traps      the teacher is the target: `train.soft_labels` with ``share`` 1, the shares of judges, or pairs of a teacher;
           hard labels are a teacher that is always sure. Differences of gains alone leave a list's level to the loss of
           the pairs

Legend: ``L`` lists, ``M`` pairs of the longest.
"""

from dataclasses import dataclass

from torch import Tensor

from zhichun.objective.ranking.of_lists import RankingLoss, differences, mean_where


@dataclass(frozen=True, kw_only=True)
class MarginMSE(RankingLoss):
    """Squared error of the differences of two gains."""

    def of_lists(self, score_LM: Tensor, gain_LM: Tensor, mask_LM: Tensor) -> Tensor:
        """Return the mean over each two pairs."""
        error_LMM = (differences(score_LM.sigmoid()) - differences(gain_LM)).square()
        return mean_where(error_LMM, (mask_LM[:, :, None] & mask_LM[:, None, :]).triu(diagonal=1))
