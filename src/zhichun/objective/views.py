"""Two views of one batch: the plain pass, and what a method needs for a second pass.

Nothing here edits a weight: a perturbed batch has the same weights and perturbed token vectors.

Losses are of the pairs of a batch and, where a ranking loss is on, of its lists after them, ``[N]``; a divergence is of
the pairs alone.

Legend: ``B`` pairs, ``L`` lists, ``N`` pairs and lists, ``T`` tokens, ``D`` hidden size, ``C`` outputs, ``U`` distinct
tokens of a batch; of a packed batch (`model.attention`) token vectors are one row of all its tokens.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from zhichun.core.errors import UserError
from zhichun.core.settings import require_range
from zhichun.model.attention import tokens_of
from zhichun.model.relevance_model import RelevanceModel
from zhichun.objective.ranking import RankingLoss

At = Literal["table", "output"]
Batch = dict[str, Tensor]
PairLoss = Callable[[Tensor, Tensor], Tensor]
"""Logits and targets to the loss of each pair, ``[B]``."""

SMALLEST_NORM = 1e-12
OFF = "Switch it off with objective.second_view=null."


@dataclass(frozen=True)
class SecondView:
    """Result of a second pass: its logits ``[B, C]``, and the losses that the objective adds, ``[N]``."""

    logits_BC: Tensor
    loss_N: Tensor


@dataclass(frozen=True)
class FirstView:
    """The plain pass over a batch, and operations on it.

    Parameters
    ----------
    model
        The network.
    batch
        Its batch, with ``target``, ``weight`` and ``normaliser``; of lists also as `fit.batches.ListBatches` makes it.
    loss, ranking
        The loss of each pair, and of each list.
    vectors_BTD
        Token vectors that the encoder read; ``None`` if it looked them up itself, for views that do not perturb them.
    features_BF
        What the head read.
    logits_BC
        What it said.
    """

    model: RelevanceModel
    batch: Batch
    loss: PairLoss
    ranking: RankingLoss | None
    vectors_BTD: Tensor | None
    features_BF: Tensor
    logits_BC: Tensor

    @classmethod
    def of(
        cls, model: RelevanceModel, batch: Batch, loss: PairLoss, ranking: RankingLoss | None = None, *, moved: bool
    ) -> "FirstView":
        """Run the model; ``moved`` means that a second view will perturb the token vectors."""
        vectors_BTD = model.encoder.look_up(batch["input_ids"]) if moved else None
        if vectors_BTD is not None and not vectors_BTD.requires_grad:  # the table is frozen
            vectors_BTD.requires_grad_()
        features_BF = model.features(batch, vectors_BTD)
        return cls(model, batch, loss, ranking, vectors_BTD, features_BF, model.head(features_BF))

    @cached_property
    def loss_N(self) -> Tensor:
        """What the plain pass costs."""
        return self.losses(self.logits_BC)

    def losses(self, logits_BC: Tensor) -> Tensor:
        """Return the losses of the pairs and, with a ranking loss, of the lists."""
        loss_B = self.loss(logits_BC, self.target)
        if self.ranking is None:
            return loss_B
        return torch.cat([loss_B, self.ranking(logits_BC, self.batch["gain"], self.batch["list"])])

    @property
    def target(self) -> Tensor:
        """Targets of the pairs."""
        return self.batch["target"]

    def mean(self, loss_B: Tensor, weight_B: Tensor | None = None) -> Tensor:
        """Reduce losses of pairs by weight to this batch's share of the step's mean."""
        weight_B = self.batch["weight"] if weight_B is None else weight_B
        return (weight_B * loss_B).sum() / self.batch["normaliser"]

    def shares(self, loss_N: Tensor) -> list[Tensor]:
        """Reduce losses to this batch's share of the step's: that of the pairs and, where there are any, of lists."""
        pairs = len(self.batch["weight"])
        shares = [self.mean(loss_N[:pairs])]
        if self.ranking is not None and len(loss_N) > pairs:
            of_lists = (self.batch["list_weight"] * loss_N[pairs:]).sum() / self.batch["list_normaliser"]
            shares.append(self.ranking.weight * of_lists)
        return shares

    def total(self, loss_N: Tensor) -> Tensor:
        """Add up the shares of pairs and lists."""
        return torch.stack(self.shares(loss_N)).sum()

    def gradient(self, loss_N: Tensor, of: Tensor, *, again: bool = False) -> Tensor:
        """Take the gradient of this batch's share of a loss; ``again`` says that the pass has another one before it."""
        with torch.autocast(of.device.type, enabled=False):
            return torch.autograd.grad(self.total(loss_N), of, retain_graph=again)[0]

    def ascent(self, place: "Place") -> Tensor:
        """Return the direction in which this batch's loss rises fastest, as unit vectors of a place."""
        assert self.vectors_BTD is not None
        return place.unit(place.collect(self.gradient(self.loss_N, self.vectors_BTD, again=True)))

    def moved(self, shift_BTD: Tensor | None = None) -> SecondView:
        """Run the model again, with the token vectors shifted."""
        vectors_BTD = self.vectors_BTD
        if shift_BTD is not None:
            assert vectors_BTD is not None
            vectors_BTD = vectors_BTD + shift_BTD
        return self.second(self.model(self.batch, vectors_BTD))

    def second(self, logits_BC: Tensor) -> SecondView:
        """Measure a second pass as the first one."""
        return SecondView(logits_BC, self.losses(logits_BC))


class View(ABC):
    """A method that runs the model again on each batch: one more kind of ``objective.second_view``."""

    first_step: int | None = None
    """The step of the optimiser, from 1, that it begins with; ``None`` is from the start."""
    moves_weights: ClassVar[bool] = False
    """Whether the second pass has other weights, so that nothing of it may be computed again later."""
    is_divergence: ClassVar[bool] = False
    """Whether its loss is the divergence of the two views, as R-Drop's is."""

    def check(self, model: RelevanceModel) -> None:  # noqa: B027
        """Refuse a model on which the view has no effect.

        Raises
        ------
        UserError
            With what to change.
        """

    @abstractmethod
    def second_view(self, first: FirstView) -> SecondView:
        """Run the model again."""


@dataclass(frozen=True, kw_only=True)
class PlacedView(View):
    """A second view that perturbs token vectors along their gradient.

    Parameters
    ----------
    epsilon
        Size of the perturbation.
    at
        What is perturbed: `table`, the word embeddings, one norm over the batch; or `output`, the token vectors of each
        pair, a norm for each.
    """

    epsilon: float = 1.0
    at: At = "table"

    def __post_init__(self) -> None:
        require_range(self, "epsilon", above=0, remedy=OFF)

    def check(self, model: RelevanceModel) -> None:
        """Refuse word embeddings that are frozen."""
        if self.at == "table" and not model.encoder.table.requires_grad:
            remedy = "Train them, or perturb their output: --set objective.second_view.at=output."
            raise UserError(f"{type(self).__name__} perturbs the word embeddings, but they are frozen.", remedy=remedy)

    def place(self, first: FirstView) -> "Place":
        """Return the space of the perturbation."""
        return PLACES[self.at](first.batch)


class Place(Protocol):
    """The space of a perturbation, and the range of its norm."""

    def collect(self, gradient_BTD: Tensor) -> Tensor:
        """Turn a gradient with respect to the token vectors into one with respect to the place."""

    def spread(self, shift: Tensor) -> Tensor:
        """Turn a shift of the place into one of the token vectors, ``[B, T, D]``."""

    def norm(self, shift: Tensor) -> Tensor:
        """Euclidean norm, such that a shift can be divided by it."""

    def unit(self, shift: Tensor) -> Tensor:
        """Scale to norm 1; a shift of zero stays zero."""
        return shift / self.norm(shift).clamp_min(SMALLEST_NORM)

    def cut(self, shift: Tensor, radius: float) -> Tensor:
        """Scale down to a maximum norm."""
        return shift * (radius / self.norm(shift).clamp_min(SMALLEST_NORM)).clamp(max=1.0)


class TableRows(Place):
    """The rows of the embedding table that a batch reads, each once, ``[U, D]``; one norm over all of them.

    Rows that are not read have no gradient, so this is the perturbation of the whole table without its size.
    """

    def __init__(self, batch: Batch) -> None:
        self.tokens = tokens_of(batch)
        rows_U, self.row_BT = torch.unique(batch["input_ids"], return_inverse=True)
        self.rows = len(rows_U)

    def collect(self, gradient_BTD: Tensor) -> Tensor:
        """Add up the gradients of the places that read the same row, ``[U, D]``."""
        gradient_UD = gradient_BTD.new_zeros(self.rows, gradient_BTD.shape[-1])
        return gradient_UD.index_add(0, self.row_BT.flatten(), self.tokens.without_padding(gradient_BTD).flatten(0, 1))

    def spread(self, shift: Tensor) -> Tensor:
        """Return for each token the shift of its row."""
        return self.tokens.without_padding(shift[self.row_BT])

    def norm(self, shift: Tensor) -> Tensor:
        """Take the norm over all rows."""
        return shift.norm()


class PairVectors(Place):
    """The token vectors of each pair, ``[B, T, D]``, a norm for each pair; the others of the batch change nothing."""

    def __init__(self, batch: Batch) -> None:
        self.tokens = tokens_of(batch)

    def collect(self, gradient_BTD: Tensor) -> Tensor:
        """Set padding to zero."""
        return self.tokens.without_padding(gradient_BTD)

    def spread(self, shift: Tensor) -> Tensor:
        """Return it unchanged."""
        return shift

    def norm(self, shift: Tensor) -> Tensor:
        """Take the norm over all tokens of each pair, ``[B, 1, 1]``, or packed ``[1, N, 1]``."""
        return self.tokens.norms(shift)


PLACES: dict[At, Callable[[Batch], Place]] = {"table": TableRows, "output": PairVectors}
