"""Pre-training on the catalogue: the pretext tasks added up, every task in every step (the paper, Algorithm 1).

Legend: ``N`` the things that a task scores in a batch, ``K`` tasks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn

from zhichun.core.errors import UserError
from zhichun.core.settings import kinds_of
from zhichun.model.encoder import Encoder
from zhichun.objective.fine_tuning import Objective, Total
from zhichun.objective.methods import EMA
from zhichun.objective.pretext import Pretext
from zhichun.objective.pretext.task import ITEMS, Outcome, PretextHead, Sizes

STEP_ITEMS = "step_items"
SEPARATOR = "."


def _slots() -> type[Any]:
    """Build a dataclass with a field for each registered pretext task."""
    tasks = kinds_of(Pretext).values()
    made = [(task.name, task | None, field(default=task() if task.is_on else None)) for task in tasks]
    return make_dataclass("PretextSettings", made, frozen=True, kw_only=True)


@dataclass(frozen=True, kw_only=True)
class PretrainingSettings(_slots()):  # type: ignore[misc]
    """The pretext tasks with their weights; null is off.

    Parameters
    ----------
    ema
        EMA, a moving average of the weights that is evaluated and saved instead of the trained ones; null is off.
    """

    ema: EMA | None = None

    if TYPE_CHECKING:  # the tasks are not known to a reader of types

        def __init__(self, *, ema: EMA | None = None, **tasks: Pretext | None) -> None: ...

    def __post_init__(self) -> None:
        if not self.tasks:
            raise UserError("every pretext task is off.", remedy="Use --set objective.mlm=MLM.")

    @property
    def tasks(self) -> tuple[Pretext, ...]:
        """The tasks that are on."""
        return tuple(task for item in fields(self) if isinstance(task := getattr(self, item.name), Pretext))


class PretextModel(nn.Module):
    """The encoder and the heads of all tasks, which are averaged, evaluated and saved.

    Parameters
    ----------
    encoder
        The text encoder.
    heads
        The head of each task by its name.
    """

    def __init__(self, encoder: Encoder, heads: dict[str, PretextHead]) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict(heads)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Outcome]:
        """Score a batch.

        Parameters
        ----------
        batch
            The arrays of each task with its name and a dot before them.

        Returns
        -------
        dict
            The results of the tasks that score something in this batch.
        """
        outcomes = {}
        for name, head in self.heads.items():
            assert isinstance(head, PretextHead)
            prefix = name + SEPARATOR
            own = {key.removeprefix(prefix): tensor for key, tensor in batch.items() if key.startswith(prefix)}
            if ITEMS in own:
                outcomes[name] = head(self.encoder, own)
        return outcomes

    def tables(self) -> dict[str, Tensor]:
        """Return the tables that fine-tuning takes over, by id embedding."""
        found: dict[str, Tensor] = {}
        for head in self.heads.values():
            assert isinstance(head, PretextHead)
            found |= head.tables()
        return found


class Pretraining(Objective[PretextModel]):
    """Pre-training on the catalogue.

    ``total = Σ_task weight · Σ_N loss_N / items``, where ``items`` counts what the task scores in the whole step, over
    micro-batches and processes: how a step is split changes only which products share a micro-batch.

    Parameters
    ----------
    encoder
        With its initial weights.
    tasks
        The pretext tasks.
    sizes
        Rows of the catalogue's tables.
    ema
        Average the weights; the average is evaluated and saved.
    """

    def __init__(self, encoder: Encoder, tasks: Sequence[Pretext], sizes: Sizes, ema: EMA | None = None) -> None:
        super().__init__(PretextModel(encoder, {task.name: task.head(encoder, sizes) for task in tasks}), ema)
        self.weights = {task.name: task.weight for task in tasks}

    def forward(self, batch: dict[str, Tensor]) -> Total:
        """Compute this batch's share of the step's loss.

        Parameters
        ----------
        batch
            Of `train.product_batches`: the arrays of each task with its name before them, and ``step_items`` ``[K]``,
            what each task scores in this process's micro-batches of the step.

        Returns
        -------
        Total
            Its parts are loss and accuracy of each task; NaN where a task scores nothing in the whole step.
        """
        outcomes = self.model(batch)
        share_K = _share_of_step(batch[STEP_ITEMS])
        total, parts = torch.zeros((), device=share_K.device), {}
        for place, (name, weight) in enumerate(self.weights.items()):
            if name not in outcomes:
                # Gradients of all weights are waited for, also of those that this batch has no use for.
                total = total + 0.0 * _sum_of_weights(self.model.heads[name])
                loss = right = torch.zeros((), device=share_K.device)
            else:
                loss, right = outcomes[name].loss_N.float().sum(), outcomes[name].right_N.float().sum()
                total = total + weight * loss * share_K[place]
            parts[f"{name}.loss"] = loss.detach() * share_K[place]
            parts[f"{name}.accuracy"] = right * share_K[place]
        if not outcomes:
            total = total + 0.0 * _sum_of_weights(self.model.encoder)
        return Total(total, parts)

    def after_step(self) -> None:
        """Update the heads, then the average."""
        for head in self.model.heads.values():
            assert isinstance(head, PretextHead)
            head.after_step(self.model.encoder)
        super().after_step()


def _share_of_step(own_K: Tensor) -> Tensor:
    """Return the weight of one item of each task, ``[K]``; infinite where there is none in the step."""
    items_K, processes = own_K.float(), 1
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(items_K)
        processes = distributed.get_world_size()
    return processes / items_K


def _sum_of_weights(module: nn.Module) -> Tensor:
    sums = [weight.sum() for weight in module.parameters() if weight.requires_grad]
    return torch.stack(sums).sum() if sums else torch.zeros(())
