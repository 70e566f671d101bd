"""SMART's smoothness: predictions must be stable under the worst small perturbation.

Equation   ``λ D(p, p(δ))`` with ``D(p, q) = KL(p | q) + KL(q | p)`` and ``δ = ε g / |g|``, ``g`` the gradient of
           ``D(p, p(ξ))`` at a small noise ``ξ``: one power iteration
Reference  Jiang et al., 2020, *SMART: Robust and Efficient Fine-Tuning for Pre-trained Natural Language Models*, eq. 2;
           the iteration as in Miyato et al., 2019, *Virtual Adversarial Training*; one of the paper's comparisons
Our number no gain measured: micro-F1 -0.004 (95 % -0.029 to +0.022) on the extract of ESCI, +0.004 on the sample
           shop; `benchmarks/results/tables/adversarial-esci.md`
Cost       two more forwards, a backward to the embeddings, a backward: 2.7 times a plain step
Traps      uses no labels, so wrong ones do no harm. With dropout the divergence at the noise is dropout's as well.
           The noise is drawn again for each micro-batch. R-Drop beside it would count the same divergence twice

Differences: the ball is Euclidean, one for each pair, and the proximal term (eq. 3 there) is left out.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from zhichun.core.settings import require_range
from zhichun.objective.methods.rdrop import divergence
from zhichun.objective.views import FirstView, PairVectors, SecondView, View


@dataclass(frozen=True, kw_only=True)
class SMART(View):
    """Smoothness-inducing regularisation.

    Parameters
    ----------
    weight
        Share of the divergence in the loss, λ.
    epsilon
        Norm of a pair's perturbation.
    noise
        Standard deviation of the noise that the iteration starts from.
    """

    is_divergence: ClassVar[bool] = True

    weight: float = 1.0
    epsilon: float = 1.0
    noise: float = 1e-3

    def __post_init__(self) -> None:
        remedy = "Switch it off with objective.second_view=null."
        require_range(self, "weight", "epsilon", "noise", above=0, remedy=remedy)

    def second_view(self, first: FirstView) -> SecondView:
        """Run the model at the perturbation that changes its prediction most; the loss is the divergence."""
        assert first.vectors_BTD is not None
        pairs = PairVectors(first.batch)
        noise_BTD = (self.noise * torch.randn_like(first.vectors_BTD)).requires_grad_()
        changed_B = divergence(first.logits_BC.detach(), first.moved(noise_BTD).logits_BC)
        view = first.moved(self.epsilon * pairs.unit(pairs.collect(first.gradient(changed_B, noise_BTD))))
        return SecondView(view.logits_BC, self.weight * divergence(first.logits_BC, view.logits_BC))
