"""AWP: a second view with the model's weights perturbed along the gradient of the loss.

Equation   ``W' = W + γ |W| g / |g|`` for the matrix of each linear layer, ``g`` the gradient of this batch's loss
Reference  Wu et al., 2020, *Adversarial Weight Perturbation Helps Robust Generalization*, eq. 9; the winner of the
           contest's task 1 used it instead of FGM
Our number harms on the extract of ESCI, micro-F1 -0.049 (95 % -0.088 to -0.012); no gain measured on the sample
           shop, +0.001: `benchmarks/results/tables/adversarial-esci.md`
Cost       one forward, a backward to the weights, one forward and backward: 2.7 times a plain step
Traps      the perturbation is that of the batch computed at once, so a step's gradient depends on its micro-batches. A
           copy of all matrices is held. With ``train.activation_checkpointing`` activations would be recomputed with
           the original weights: the two are refused together

Differences: embedding tables, norms and biases stay; moving a table of 250,002 rows would copy it.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from zhichun.core.settings import require_range
from zhichun.model.relevance_model import RelevanceModel
from zhichun.objective.views import FirstView, SecondView, View


@dataclass(frozen=True, kw_only=True)
class AWP(View):
    """Adversarial weight perturbation.

    Parameters
    ----------
    gamma
        Norm of a matrix's perturbation, as a share of the matrix's norm.
    first_step
        The step of the optimiser, counted from 1, from which it is active; before it there is no second view. null is
        from the start.
    """

    moves_weights: ClassVar[bool] = True

    gamma: float = 0.005
    first_step: int | None = None

    def __post_init__(self) -> None:
        require_range(self, "gamma", above=0, remedy="Switch it off with objective.second_view=null.")
        require_range(self, "first_step", above=0, remedy="Begin at once with objective.second_view.first_step=null.")

    def second_view(self, first: FirstView) -> SecondView:
        """Run the perturbed model on the batch."""
        weights = matrices(first.model)
        with torch.autocast(first.logits_BC.device.type, enabled=False):
            gradients = torch.autograd.grad(first.total(first.loss_N), list(weights.values()), retain_graph=True)
        moved = {
            name: weight + self.gamma * weight.detach().norm() * gradient / gradient.norm().clamp_min(1e-12)
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
        }
        logits_BC: Tensor = functional_call(first.model, moved, (first.batch,))
        return first.second(logits_BC)


def matrices(model: RelevanceModel) -> dict[str, Tensor]:
    """Name the trained weights of all linear layers."""
    linear = [(name, part.weight) for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    return {f"{name}.weight": weight for name, weight in linear if weight.requires_grad}
