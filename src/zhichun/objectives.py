"""What is minimised: how losses and methods add up to one number.

The training loop wraps the objective, not the model, and knows nothing of what is inside. The loop uses three things of
it: ``forward(batch)``, ``after_step()`` and, through ``model``, the weights that are evaluated and kept.

Legend: ``B`` pairs of a batch.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor, nn

from zhichun.losses import CrossEntropy, Loss
from zhichun.nn.relevance_model import RelevanceModel


@dataclass(frozen=True, kw_only=True)
class FineTuningSettings:
    """How fine-tuning is scored.

    Parameters
    ----------
    loss
        The loss of each pair: CrossEntropy for the classifiers, SquaredError for the regressor.
    """

    loss: Loss = field(default_factory=CrossEntropy)


class Total(NamedTuple):
    """What an objective gives: the number to minimise, and its named parts for the log."""

    total: Tensor
    parts: dict[str, Tensor]


class FineTuning(nn.Module):
    """Fine-tuning on judged pairs.

    ``total = Σ_i w_i loss_i / W`` where ``W`` is the weight of the whole step, not of this batch: whether a step is cut
    into micro-batches or spread over processes changes nothing.

    Parameters
    ----------
    model
        The relevance model; owned by the objective.
    settings
        The loss.
    """

    def __init__(self, model: RelevanceModel, settings: FineTuningSettings) -> None:
        super().__init__()
        self.model = model
        self.loss = settings.loss

    def forward(self, batch: dict[str, Tensor]) -> Total:
        """Compute this batch's share of the step's loss.

        Parameters
        ----------
        batch
            Arrays of `Pairs.collate` with ``target`` and ``weight`` ``[B]`` and the scalar ``normaliser``: the step's
            weight divided by the number of processes, since gradients are averaged over them.
        """
        loss_B = self.loss(self.model(batch), batch["target"])
        total = (batch["weight"] * loss_B).sum() / batch["normaliser"]
        return Total(total, {"loss": total.detach()})

    def after_step(self) -> None:
        """Follow the optimiser's step; nothing here needs to."""
