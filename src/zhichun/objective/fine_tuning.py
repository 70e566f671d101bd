"""Fine-tuning on judged pairs: the loss of the pairs, and the methods' terms.

Legend: ``B`` pairs of a batch.
"""

from dataclasses import dataclass, field
from typing import Generic, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from zhichun.core.errors import UserError
from zhichun.model.relevance_model import RelevanceModel
from zhichun.objective.losses import CrossEntropy, Loss
from zhichun.objective.methods import EMA, Mixup, RDrop
from zhichun.objective.ranking import RankingLoss
from zhichun.objective.views import FirstView, View

M = TypeVar("M", bound=nn.Module)


class Total(NamedTuple):
    """Result of an objective: the number to minimise, and its named parts for the log."""

    total: Tensor
    parts: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class FineTuningSettings:
    """Loss and methods of fine-tuning.

    Parameters
    ----------
    loss
        The loss of each pair: one of the classifiers' (CrossEntropy, Poly1, Focal, GHMC, Ordinal), or SquaredError for
        the regressor.
    ranking
        A loss of each list that is added, by its weight, where `train.lists` is on: RankNet, LambdaLoss, ListNet,
        PairwiseLogSumExp or MarginMSE; null is off.
    second_view
        A second pass over each batch whose loss is added: FGM, FGSM, PGD, FreeLB, SMART, AWP or DropoutView; null is
        off.
    rdrop
        RDrop, the divergence of the two views; null is off.
    mixup
        Mixup of pairs and labels, averaged with the loss of the first view; null is off.
    ema
        EMA, a moving average of the weights that is evaluated and saved instead of the trained ones; null is off.
    total
        How to combine the losses of both views and their divergence: their `sum`, as in the paper, or their `mean`,
        as in its released code.
    """

    loss: Loss = field(default_factory=CrossEntropy)
    ranking: RankingLoss | None = None
    second_view: View | None = None
    rdrop: RDrop | None = None
    mixup: Mixup | None = None
    ema: EMA | None = None
    total: Literal["sum", "mean"] = "sum"

    def __post_init__(self) -> None:
        if self.second_view is None and self.rdrop is not None:
            remedy = "Use --set objective.second_view=FGM, or DropoutView for the classic one."
            raise UserError("R-Drop needs a second view, and objective.second_view is null.", remedy=remedy)
        if self.second_view is None and self.total == "mean":
            remedy = "Use --set objective.total=sum, or --set objective.second_view=FGM."
            raise UserError("objective.total='mean' has no effect without a second view.", remedy=remedy)
        if self.second_view is not None and self.second_view.is_divergence and self.rdrop is not None:
            problem = f"R-Drop beside {type(self.second_view).__name__} would add the same divergence twice."
            remedy = "Use --set objective.rdrop=null, and objective.second_view.weight for more of it."
            raise UserError(problem, remedy=remedy)
        if self.mixup is not None and self.loss.regresses:
            remedy = "Use --set objective.mixup=null."
            raise UserError("mixup needs class labels, and a regressor has none.", remedy=remedy)


class Objective(nn.Module, Generic[M]):
    """What the loop trains: a network, and the average of its weights where there is one.

    Parameters
    ----------
    model
        The network; owned by the objective.
    ema
        How its weights are averaged.
    """

    def __init__(self, model: M, ema: EMA | None) -> None:
        super().__init__()
        self.model: M = model
        self.average = None if ema is None else ema.average_of(model)

    @property
    def shipped(self) -> M:
        """The network that is evaluated and saved: the average, if there is one."""
        return self.model if self.average is None else self.average.module  # type: ignore[return-value]

    def after_step(self) -> None:
        """Run after each step of the optimiser."""
        if self.average is not None:
            self.average.update_parameters(self.model)


class FineTuning(Objective[RelevanceModel]):
    """Fine-tuning on judged pairs.

    ``total = loss + ranking + both of the second view + R-Drop``, or the mean of these three terms, where ``loss`` is
    averaged with mixup's. Each is ``Σ_i w_i loss_i / W`` over pairs or lists, where ``W`` is the weight of the whole
    step, not of this batch: whether a step is cut into micro-batches or spread over processes changes nothing, except
    for the methods whose card says so.

    Parameters
    ----------
    model
        The relevance model; owned by the objective.
    settings
        The loss and the methods.

    Raises
    ------
    UserError
        For a second view without effect on this model.
    """

    steps: Tensor | None
    """Number of steps so far, for methods that begin later."""

    def __init__(self, model: RelevanceModel, settings: FineTuningSettings) -> None:
        if settings.second_view is not None:
            settings.second_view.check(model)
        super().__init__(model, settings.ema)
        self.loss = settings.loss
        self.settings = settings
        waits = settings.second_view is not None and settings.second_view.first_step is not None
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64) if waits else None)

    def forward(self, batch: dict[str, Tensor]) -> Total:
        """Compute this batch's share of the step's loss; the methods take part in training only.

        Parameters
        ----------
        batch
            Arrays of `Pairs.collate` with ``target`` and ``weight`` ``[B]`` and the scalar ``normaliser``: the step's
            weight divided by the number of processes, since gradients are averaged over them. With a ranking loss also
            ``list`` and ``gain`` ``[B]``, ``list_weight`` ``[L]`` and the scalar ``list_normaliser``.
        """
        settings, view = self.settings, self._view()
        first = FirstView.of(self.model, batch, self.loss, settings.ranking, moved=view is not None)
        parts = dict(zip(("loss", "ranking"), first.shares(first.loss_N), strict=False))
        terms = [parts["loss"]]
        if settings.mixup is not None and self.training:
            parts["mixup"] = settings.mixup.loss(first)
            terms = [(parts["loss"] + parts["mixup"]) / 2]
        if "ranking" in parts:
            terms = [terms[0] + parts["ranking"]]
        if view is not None:
            second = view.second_view(first)
            parts["second_view"] = first.total(second.loss_N)
            terms.append(parts["second_view"])
            if settings.rdrop is not None:
                parts["rdrop"] = first.mean(settings.rdrop(first.logits_BC, second.logits_BC))
                terms.append(parts["rdrop"])
        total = torch.stack(terms).sum() if settings.total == "sum" else torch.stack(terms).mean()
        return Total(total, {name: part.detach() for name, part in parts.items()})

    def after_step(self) -> None:
        """Count the step, for methods that begin later."""
        super().after_step()
        if self.steps is not None:
            self.steps += 1

    def _view(self) -> View | None:
        """Return the second view of this batch, if any."""
        view = self.settings.second_view
        if not self.training:
            return None
        waiting = self.steps is not None and view is not None and int(self.steps) + 1 < (view.first_step or 1)
        return None if waiting else view
