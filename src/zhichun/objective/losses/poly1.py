"""Poly-1: cross-entropy with more weight on the first term of its expansion in ``1 - q_y``.

Equation   ``Σ_c t_c (-log q_c + ε (1 - q_c))``; of a hard target ``-log q_y + ε (1 - q_y)``
Reference  Leng et al., 2022, *PolyLoss*, eq. 6; the paper's choice in Table 4, with ε = 1
Our number no gain measured over cross-entropy: micro-F1 -0.000 (95 % -0.007 to +0.006) on the extract of ESCI,
           -0.008 on the sample shop; `benchmarks/results/tables/table4-esci.md`
Cost       none beside the forward pass
Traps      below ε = -1 a larger probability of the answer can cost more

Legend: ``B`` examples, ``C`` classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from zhichun.core.errors import UserError
from zhichun.core.settings import require_range
from zhichun.objective.losses.classification import ClassificationLoss


@dataclass(frozen=True, kw_only=True)
class Poly1(ClassificationLoss):
    """Poly-1 cross-entropy.

    Parameters
    ----------
    epsilon
        What is added to the factor 1 of the expansion's first term.
    """

    epsilon: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        remedy = "Give one such as 1; with 0 it is the loss CrossEntropy."
        require_range(self, "epsilon", least=-1, remedy=remedy)
        if self.epsilon == 0:
            raise UserError("Poly1 with epsilon=0 is cross-entropy.", remedy=remedy)

    def of_classes(self, log_q_BC: Tensor, target_BC: Tensor) -> Tensor:
        """Return ``-log q + ε (1 - q)``."""
        return -log_q_BC - self.epsilon * torch.expm1(log_q_BC)
