"""Focal loss: easy pairs, with a confident correct prediction, count less.

Equation   ``-Σ_c t_c (1 - q_c)^γ log q_c``; of a hard target ``-(1 - q_y)^γ log q_y``
Reference  Lin et al., 2017, *Focal Loss for Dense Object Detection*, eq. 4 with a softmax for the sigmoid; their α of
           eq. 5 is `class_weights`; the paper's Table 4
Our number no gain measured over cross-entropy: micro-F1 +0.003 (95 % -0.009 to +0.014) on the extract of ESCI,
           -0.004 on the sample shop; `benchmarks/results/tables/table4-esci.md`
Cost       none beside the forward pass
Differences the authors' released code takes another class's probability for the true one's; this is the equation
Traps      it pulls probabilities towards the middle, so they are less well calibrated than those of cross-entropy

Legend: ``B`` examples, ``C`` classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from zhichun.core.settings import require_range
from zhichun.objective.losses.classification import ClassificationLoss


@dataclass(frozen=True, kw_only=True)
class Focal(ClassificationLoss):
    """Focal loss.

    Parameters
    ----------
    gamma
        How strongly confident predictions are down-weighted.
    """

    gamma: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range(self, "gamma", above=0, remedy="Give one such as 2; without focus it is the loss CrossEntropy.")

    def of_classes(self, log_q_BC: Tensor, target_BC: Tensor) -> Tensor:
        """Return ``-(1 - q)^γ log q``."""
        # Not 1 - exp, which is 0 too soon. The bound keeps the slope of the power finite where γ is below 1.
        others_BC = (-torch.expm1(log_q_BC)).clamp(min=torch.finfo(torch.float32).tiny)
        return -(others_BC**self.gamma) * log_q_BC
