"""Squared error of the regressed gain: the regressors of task 1.

Equation   ``(sigmoid(z) - gain)²`` with gains 1, 0.1, 0.01, 0
Reference  docs/method.md, task 1
Our number nDCG 0.945 to 0.954 of single members on the sample shop, 0.961 of the six together: LOG.md, 2026-11-24
Cost       none beside the forward pass
Traps      the model must have one output; the sigmoid is taken in float32

Legend: ``B`` examples, ``K`` dropout samples of one example.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from zhichun.objective.losses.classification import Loss


@dataclass(frozen=True, kw_only=True)
class SquaredError(Loss):
    """Squared error after a sigmoid."""

    regresses: ClassVar[bool] = True

    def __call__(self, logits_B1: Tensor, targets_B: Tensor, /) -> Tensor:
        """Measure the loss of each example.

        Parameters
        ----------
        logits_B1
            Logits, ``[B, 1]``, or ``[K, B, 1]`` where a head drew several dropout masks: the loss of an example is then
            the mean over its samples.
        targets_B
            Gains between 0 and 1.

        Returns
        -------
        Tensor
            ``[B]``, float32.
        """
        loss_B = (logits_B1[..., 0].float().sigmoid() - targets_B.float()).square()
        return loss_B if loss_B.ndim == 1 else loss_B.mean(dim=0)
