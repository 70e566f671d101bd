"""Squared error of the regressed gain: the regressors of task 1.

Equation   ``(sigmoid(z) - gain)²`` with gains 1, 0.1, 0.01, 0
Reference  docs/method.md, task 1
Our number none yet: the ensemble of task 1 will bring it
Cost       none beside the forward pass
Traps      the model must have one output; the sigmoid is taken in float32

Legend: ``B`` examples.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SquaredError:
    """Squared error after a sigmoid."""

    def __call__(self, logits_B1: Tensor, targets_B: Tensor) -> Tensor:
        """Loss of each example, ``[B]``; targets are gains between 0 and 1."""
        return (logits_B1[:, 0].float().sigmoid() - targets_B.float()).square()
