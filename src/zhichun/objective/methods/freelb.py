"""FreeLB: several ascent steps whose losses all count, so that no pass is used only for the perturbation.

Equation   ``1/K Σ_k loss(δ_k)`` with ``δ_1`` drawn, ``δ_{k+1} = Π(δ_k + α g_k / |g_k|)``, ``Π`` onto ``|δ| ≤ ε``;
           the logits of the view are the last ones
Reference  Zhu et al., 2020, *FreeLB: Enhanced Adversarial Training for Natural Language Understanding*, Algorithm 1;
           one of the paper's comparisons
Our number no gain measured: micro-F1 -0.004 (95 % -0.027 to +0.022) on the extract of ESCI, +0.006 on the sample
           shop; `benchmarks/results/tables/adversarial-esci.md`
Cost       each of the K passes a forward and backward, all but the last a second one to the embeddings: 4.7 times a
           plain step with K = 3
Traps      the graphs of all K passes are held until the one backward: K + 1 times the memory of a plain step. The start
           is drawn again for each micro-batch; with ``start=null`` it is zero

Differences: there the clean pass does not count by itself; here it does, as for every second view. It moves the token
vectors of each pair, never the table.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from zhichun.core.settings import require_range
from zhichun.objective.views import FirstView, PairVectors, SecondView, View


@dataclass(frozen=True, kw_only=True)
class FreeLB(View):
    """Free large-batch adversarial training.

    Parameters
    ----------
    epsilon
        Largest norm of a pair's perturbation.
    alpha
        Norm of one step.
    steps
        Passes, K.
    start
        Maximum norm of the random start; null starts from zero.
    """

    epsilon: float = 0.6
    alpha: float = 0.3
    steps: int = 3
    start: float | None = 0.3

    def __post_init__(self) -> None:
        off = "Switch it off with objective.second_view=null."
        require_range(self, "epsilon", "alpha", "steps", above=0, remedy=off)
        require_range(self, "start", above=0, remedy="Start from zero with objective.second_view.start=null.")

    def second_view(self, first: FirstView) -> SecondView:
        """Run the model K times and return the mean of its losses."""
        assert first.vectors_BTD is not None
        pairs = PairVectors(first.batch)
        shift_BTD = self._start(first.vectors_BTD, pairs)
        losses: list[Tensor] = []
        for step in range(self.steps):
            shift_BTD.requires_grad_()
            view = first.moved(shift_BTD)
            losses.append(view.loss_N)
            if step + 1 < self.steps:
                gradient_BTD = pairs.collect(first.gradient(view.loss_N, shift_BTD, again=True))
                shift_BTD = pairs.cut(shift_BTD.detach() + self.alpha * pairs.unit(gradient_BTD), self.epsilon)
        return SecondView(view.logits_BC, torch.stack(losses).mean(dim=0))

    def _start(self, vectors_BTD: Tensor, pairs: PairVectors) -> Tensor:
        if self.start is None:
            return torch.zeros_like(vectors_BTD)
        # Uniform within a cube that the ball of that norm just holds, whatever the pair's length.
        drawn_BTD = pairs.collect(2 * torch.rand_like(vectors_BTD) - 1)
        coordinates_B11 = pairs.tokens.lengths_B11 * vectors_BTD.shape[-1]
        return self.start * drawn_BTD / coordinates_B11.sqrt()
