"""Ordinal cross-entropy: the classes are in order, and a far mistake costs more than a near one.

Equation   ``Σ_k H(T_k, Q_k)`` over the C - 1 thresholds: ``Q_k`` is the probability of one of the first ``k`` classes,
           ``T_k`` the target's, ``H`` the cross-entropy of two outcomes; of a hard target
           ``-Σ_{k ≥ y} log Q_k - Σ_{k < y} log(1 - Q_k)``
Reference  Frank and Hall, 2001, *A Simple Approach to Ordinal Classification*, whose C - 1 questions these are; here
           one softmax answers all of them. The logarithmic form of the ranked probability score (Epstein, 1969)
Our number no gain measured: no table of ours has it yet
Cost       none beside the forward pass
Traps      the order is the task's, E > S > C > I: a Complement is taken to be nearer to Irrelevant than to Exact. Of
           two classes it is cross-entropy. It is a sum over thresholds, about twice as large as cross-entropy

Legend: ``B`` examples, ``C`` classes.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from zhichun.objective.losses.classification import ClassificationLoss


@dataclass(frozen=True, kw_only=True)
class Ordinal(ClassificationLoss):
    """Cross-entropy at each threshold between the classes in their order; the options are those of all."""

    def of_classes(self, log_q_BC: Tensor, target_BC: Tensor) -> Tensor:
        """Return what the thresholds before a class, and those from it on, cost."""
        before_BC = log_q_BC.logcumsumexp(dim=-1)[..., :-1]
        after_BC = log_q_BC.flip(-1).logcumsumexp(dim=-1).flip(-1)[..., 1:]
        passed_BC = functional.pad(after_BC.cumsum(dim=-1), (1, 0))
        kept_BC = functional.pad(before_BC.flip(-1).cumsum(dim=-1).flip(-1), (0, 1))
        return -(passed_BC + kept_BC)
