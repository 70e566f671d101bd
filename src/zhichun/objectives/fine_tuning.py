"""Fine-tuning on judged pairs: the loss of the pairs, and what the methods add to it.

Legend: ``B`` pairs of a batch.
"""

from dataclasses import dataclass, field

from torch import Tensor, nn

from zhichun.losses import CrossEntropy, Loss
from zhichun.nn.relevance_model import RelevanceModel
from zhichun.objectives.total import Total


@dataclass(frozen=True, kw_only=True)
class FineTuningSettings:
    """How fine-tuning is scored.

    Parameters
    ----------
    loss
        The loss of each pair: CrossEntropy for the classifiers, SquaredError for the regressor.
    """

    loss: Loss = field(default_factory=CrossEntropy)


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

    @property
    def shipped(self) -> RelevanceModel:
        """The model that is evaluated and kept."""
        return self.model

    def after_step(self) -> None:
        """Follow the optimiser's step; nothing here needs to."""
