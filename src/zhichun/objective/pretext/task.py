"""The interface of pretext tasks, and their inputs.

A task is a frozen dataclass of settings. It makes the examples of some products as arrays, in the background and
without torch, as a pure function of (seed, task, epoch, product); and it makes the head that learns from them.

Legend: ``N`` the items that a task scores in a batch: masked tokens, pairs, products.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple
from zlib import crc32

import numpy as np
from torch import Tensor, nn

from zhichun.data.feature_store import CatalogueTexts
from zhichun.model.encoder import Encoder, LMHead
from zhichun.text.pairs import Arrays, ProductTexts, TextReader

ITEMS = "items"


class Outcome(NamedTuple):
    """Result of a head for a batch.

    Parameters
    ----------
    loss_N
        Loss of each item, float32; only the objective reduces.
    right_N
        Whether it was told right.
    """

    loss_N: Tensor
    right_N: Tensor


class PretextHead(nn.Module):
    """The trained part of a task besides the encoder."""

    def forward(self, encoder: Encoder, batch: dict[str, Tensor]) -> Outcome:
        """Score a batch of the task's own arrays."""
        raise NotImplementedError

    def after_step(self, encoder: Encoder) -> None:
        """Run after each step of the optimiser; most heads do nothing."""

    def tables(self) -> dict[str, Tensor]:
        """Return the tables for fine-tuning by id embedding (``brand``, ``color``): a row per entry."""
        return {}


@dataclass(frozen=True)
class Draw:
    """The random numbers of an epoch.

    Parameters
    ----------
    seed
        Of the run.
    epoch
        Counted from 0.
    """

    seed: int
    epoch: int

    def generator(self, task: str, row: int) -> np.random.Generator:
        """Return the generator of one product's examples in one task, the same in every batch and process."""
        return np.random.Generator(np.random.PCG64([self.seed, crc32(task.encode()), self.epoch, row]))


@dataclass(frozen=True)
class Sizes:
    """Rows of the catalogue's tables, and the head of the encoder's checkpoint, if any."""

    brands: int
    colors: int
    lm_head: LMHead | None = None


class Pretext(ABC):
    """A pretext task's settings: a frozen dataclass, for which `PretrainingSettings` has a field of its name."""

    name: ClassVar[str]
    """As in ``objective.mlm``; also the prefix of its figures."""
    is_on: ClassVar[bool] = False
    """Whether it is on by default."""
    weight: float
    """Weight in the objective."""

    @abstractmethod
    def examples(self, texts: ProductTexts, catalogue: CatalogueTexts, reader: TextReader, draw: Draw) -> Arrays:
        """Make the arrays of one micro-batch.

        ``items`` (0-d, int64) says how many things are scored. Where no product has the field it is 0, the arrays have
        no rows, and the head is not called.
        """

    @abstractmethod
    def head(self, encoder: Encoder, sizes: Sizes) -> PretextHead:
        """Make the head with its starting weights."""
