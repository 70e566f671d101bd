"""A plain second view: the same pairs and weights, with another dropout mask.

Equation   ``z' = f(x)`` with dropout drawn again
Reference  Liang et al., 2021, *R-Drop: Regularized Dropout for Neural Networks*: the two views of the classic R-Drop
Our number no gain measured: no table of ours has it; that of R-Drop between FGM's views is on R-Drop's card
Cost       a second forward and backward: twice a plain step
Traps      without dropout in encoder and head both views are the same: it is refused
"""

from dataclasses import dataclass

from torch import nn

from zhichun.core.errors import UserError
from zhichun.model.relevance_model import RelevanceModel
from zhichun.objective.views import FirstView, SecondView, View


@dataclass(frozen=True, kw_only=True)
class DropoutView(View):
    """Another draw of dropout."""

    def check(self, model: RelevanceModel) -> None:
        """Refuse a model without dropout."""
        if not any(isinstance(part, nn.Dropout) and part.p > 0 for part in model.modules()):
            remedy = "Use --set model.dropout=0.1, or --set objective.second_view=FGM."
            raise UserError("DropoutView has no effect on a model without dropout.", remedy=remedy)

    def second_view(self, first: FirstView) -> SecondView:
        """Run the model again."""
        return first.moved()
