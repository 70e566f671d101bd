"""Fine-tuning on judged pairs: the loss of the pairs, and what the methods add to it.

Legend: ``B`` pairs of a batch.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from zhichun.core.errors import UserError
from zhichun.model.relevance_model import RelevanceModel
from zhichun.objective.losses import CrossEntropy, Loss
from zhichun.objective.methods import EMA, Mixup, RDrop
from zhichun.objective.views import FirstView, View


class Total(NamedTuple):
    """What an objective gives: the number to minimise, and its named parts for the log."""

    total: Tensor
    parts: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class FineTuningSettings:
    """How fine-tuning is scored.

    Parameters
    ----------
    loss
        The loss of each pair: one of the classifiers' (CrossEntropy, Poly1, Focal, GHMC), or SquaredError for the
        regressor.
    second_view
        A second pass over each batch whose loss is added: FGM, FGSM, PGD, FreeLB, SMART, AWP or DropoutView; null is
        off.
    rdrop
        RDrop, the divergence of the two views; null is off.
    mixup
        Mixup of pairs and labels, averaged with the loss of the first view; null is off.
    ema
        EMA, an average of the weights that is evaluated and kept in place of the trained ones; null is off.
    total
        How the losses of both views and their divergence make one: their `sum`, as the paper has it, or their `mean`,
        as its released code has it.
    """

    loss: Loss = field(default_factory=CrossEntropy)
    second_view: View | None = None
    rdrop: RDrop | None = None
    mixup: Mixup | None = None
    ema: EMA | None = None
    total: Literal["sum", "mean"] = "sum"

    def __post_init__(self) -> None:
        if self.second_view is None and self.rdrop is not None:
            raise UserError(
                "R-Drop compares two views, and objective.second_view is null.",
                remedy="Use --set objective.second_view=FGM, or DropoutView for the classic one.",
            )
        if self.second_view is None and self.total == "mean":
            raise UserError(
                "objective.total='mean' has no effect without a second view.",
                remedy="Use --set objective.total=sum, or --set objective.second_view=FGM.",
            )
        if self.second_view is not None and self.second_view.is_divergence and self.rdrop is not None:
            raise UserError(
                f"R-Drop beside {type(self.second_view).__name__} would count one divergence twice.",
                remedy="Use --set objective.rdrop=null, and objective.second_view.weight for more of it.",
            )
        if self.mixup is not None and self.loss.regresses:
            raise UserError(
                "mixup mixes the labels of classes, and a regressor has none.",
                remedy="Use --set objective.mixup=null.",
            )


class FineTuning(nn.Module):
    """Fine-tuning on judged pairs.

    ``total = loss + loss of the second view + R-Drop``, or their mean, where ``loss`` is averaged with mixup's. Each is
    ``Σ_i w_i loss_i / W`` where ``W`` is the weight of the whole step, not of this batch: whether a step is cut into
    micro-batches or spread over processes changes nothing, but for the methods whose card says so.

    Parameters
    ----------
    model
        The relevance model; owned by the objective.
    settings
        The loss and the methods.

    Raises
    ------
    UserError
        For a second view that this model gives nothing to.
    """

    steps: Tensor | None
    """Steps done, where a method begins later than the first."""

    def __init__(self, model: RelevanceModel, settings: FineTuningSettings) -> None:
        super().__init__()
        if settings.second_view is not None:
            settings.second_view.check(model)
        self.model = model
        self.loss = settings.loss
        self.settings = settings
        self.average = None if settings.ema is None else settings.ema.average_of(model)
        waits = settings.second_view is not None and settings.second_view.first_step is not None
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64) if waits else None)

    def forward(self, batch: dict[str, Tensor]) -> Total:
        """Compute this batch's share of the step's loss; the methods take part in training only.

        Parameters
        ----------
        batch
            Arrays of `Pairs.collate` with ``target`` and ``weight`` ``[B]`` and the scalar ``normaliser``: the step's
            weight divided by the number of processes, since gradients are averaged over them.
        """
        settings, view = self.settings, self._view()
        first = FirstView.of(self.model, batch, self.loss, moved=view is not None)
        parts = {"loss": first.mean(first.loss_B)}
        terms = [parts["loss"]]
        if settings.mixup is not None and self.training:
            parts["mixup"] = settings.mixup.loss(first)
            terms = [(parts["loss"] + parts["mixup"]) / 2]
        if view is not None:
            second = view.second_view(first)
            parts["second_view"] = first.mean(second.loss_B)
            terms.append(parts["second_view"])
            if settings.rdrop is not None:
                parts["rdrop"] = first.mean(settings.rdrop(first.logits_BC, second.logits_BC))
                terms.append(parts["rdrop"])
        total = torch.stack(terms).sum() if settings.total == "sum" else torch.stack(terms).mean()
        return Total(total, {name: part.detach() for name, part in parts.items()})

    @property
    def shipped(self) -> RelevanceModel:
        """The model that is evaluated and kept: the average, where there is one."""
        return self.model if self.average is None else self.average.module  # type: ignore[return-value]

    def after_step(self) -> None:
        """Follow the optimiser's step."""
        if self.average is not None:
            self.average.update_parameters(self.model)
        if self.steps is not None:
            self.steps += 1

    def _view(self) -> View | None:
        """Give the second view that this batch gets, if any."""
        view = self.settings.second_view
        if not self.training:
            return None
        waiting = self.steps is not None and view is not None and int(self.steps) + 1 < (view.first_step or 1)
        return None if waiting else view
