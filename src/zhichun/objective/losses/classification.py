"""Base of the classification losses: hard or soft targets, label smoothing, class weights.

Equation   ``Σ_c w_c t_c ℓ_c`` with ``t = (1 - s) target + s / C``; ``ℓ_c`` is the loss if ``c`` is the true class
Reference  label smoothing: Szegedy et al., 2016, section 7; class weights: as in torch's cross-entropy of soft targets
Our number no gain measured by smoothing or by weights: no table of ours has them
Cost       none beside the forward pass
Traps      class weights scale the loss, and no mean over them is taken out again: the step divides by the pairs' own
           weights alone. AdamW is invariant to the scale, clipping is not; weights whose mean over the pairs is 1 keep
           it

Legend: ``B`` examples, ``C`` classes, ``K`` dropout samples of one example.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from zhichun.core.errors import UserError
from zhichun.core.settings import require_range


class Loss(ABC):
    """A loss of each example: one more kind of ``objective.loss``."""

    regresses: ClassVar[bool] = False
    """Whether it is a regression loss; otherwise a classification loss."""

    @abstractmethod
    def __call__(self, logits_BC: Tensor, targets: Tensor, /) -> Tensor:
        """Measure the loss of each example, ``[B]``, float32."""


@dataclass(frozen=True, kw_only=True)
class ClassificationLoss(Loss):
    """A loss of classes.

    Parameters
    ----------
    label_smoothing
        Share of the target that is spread evenly over all classes, such as 0.1; null is off.
    class_weights
        A factor for each class, in the task's order (E, S, C, I); null is equal weights.
    """

    label_smoothing: float | None = None
    class_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        weights = self.class_weights
        require_range(self, "label_smoothing", above=0, below=1, remedy="Give one such as 0.1, or null, which is off.")
        if weights is not None and not (all(0 <= weight < float("inf") for weight in weights) and any(weights)):
            remedy = "Give each class a number from 0 on, not all of them 0; null is equal weights."
            raise UserError(f"class_weights={list(weights)} weigh nothing.", remedy=remedy)

    def __call__(self, logits_BC: Tensor, targets: Tensor, /) -> Tensor:
        """Measure the loss of each example.

        Parameters
        ----------
        logits_BC
            Logits, ``[B, C]``, or ``[K, B, C]`` where a head drew several dropout masks (`model.parts`): the loss of an
            example is then the mean over its samples.
        targets
            Class indices ``[B]`` of any integer type, or probabilities ``[B, C]``; those of one class are the same.

        Returns
        -------
        Tensor
            ``[B]``, float32.
        """
        log_q_BC = logits_BC.float().log_softmax(dim=-1)
        target_BC = target_probabilities(targets, logits_BC.shape[-1])
        if self.label_smoothing is not None:
            target_BC = (1 - self.label_smoothing) * target_BC + self.label_smoothing / target_BC.shape[-1]
        loss_BC = target_BC * self.of_classes(log_q_BC, target_BC)
        if self.class_weights is not None:
            loss_BC = loss_BC * torch.tensor(self.class_weights, device=loss_BC.device)
        loss_B = loss_BC.sum(dim=-1)
        return loss_B if loss_B.ndim == 1 else loss_B.mean(dim=0)

    @abstractmethod
    def of_classes(self, log_q_BC: Tensor, target_BC: Tensor) -> Tensor:
        """Return the loss of each class if it is the true one, ``[B, C]``, from the logarithms of the probabilities."""


def target_probabilities(targets: Tensor, classes: int) -> Tensor:
    """Return targets as probabilities.

    Parameters
    ----------
    targets
        Class indices ``[B]``, or probabilities ``[B, C]``.
    classes
        Number of classes, ``C``.

    Returns
    -------
    Tensor
        ``[B, C]``, float32; of an index one 1 and zeros.
    """
    if targets.ndim == 2:
        return targets.float()
    return functional.one_hot(targets.to(torch.int64), classes).float()
