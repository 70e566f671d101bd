"""FGSM: a second view with every coordinate of the word embeddings perturbed by the same amount.

Equation   ``δ = ε sign(g)`` with ``g`` the gradient of this batch's loss
Reference  Goodfellow et al., 2015, *Explaining and Harnessing Adversarial Examples*; one of the paper's comparisons
Our number no gain measured: micro-F1 +0.000 (95 % -0.014 to +0.014) on the extract of ESCI, -0.014 on the sample
           shop; `benchmarks/results/tables/adversarial-esci.md`
Cost       as FGM: 2.3 times a plain step
Traps      the norm is ε times the root of the number of coordinates, so that the same ε is far more than FGM's; the
           sign of a gradient of nearly zero is rounding. At the table a step's gradient depends on its
           micro-batches, as FGM's does
"""

from dataclasses import dataclass

from zhichun.objective.views import FirstView, PlacedView, SecondView


@dataclass(frozen=True, kw_only=True)
class FGSM(PlacedView):
    """The fast gradient sign method.

    Parameters
    ----------
    epsilon
        Perturbation of each coordinate.
    """

    epsilon: float = 1e-3

    def second_view(self, first: FirstView) -> SecondView:
        """Run the model on the perturbed batch."""
        place = self.place(first)
        return first.moved(place.spread(self.epsilon * first.ascent(place).sign()))
