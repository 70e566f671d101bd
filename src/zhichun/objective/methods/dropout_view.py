"""A plain second view: the same pairs and weights, with another draw of dropout.

Equation   ``z' = f(x)`` with dropout drawn anew
Reference  Liang et al., 2021, *R-Drop: Regularized Dropout for Neural Networks*: the two views of the classic R-Drop
Our number none yet: Table 5 will bring the paper's adversarial view, and this beside it
Cost       a second forward and backward: twice a plain step
Traps      without dropout in encoder and head both views are the same: it is refused
"""

from dataclasses import dataclass

from zhichun.objective.views import FirstView, SecondView


@dataclass(frozen=True, kw_only=True)
class DropoutView:
    """Another draw of dropout."""

    def second_view(self, first: FirstView) -> SecondView:
        """Run the model again."""
        return first.moved()
