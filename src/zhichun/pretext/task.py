"""What every pretext task is made of, and what it is given.

A task is a frozen dataclass of settings. It makes the examples of some products as arrays, in the background and
without torch, as a pure function of (seed, task, epoch, product); and it makes the head that learns from them.

Legend: ``N`` the things that a task scores in a batch: masked tokens, pairs, products.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from zlib import crc32

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from zhichun.nn.encoder import Encoder

Arrays = dict[str, npt.NDArray[Any]]
Rows = npt.NDArray[np.int64]

ITEMS = "items"


class Outcome(NamedTuple):
    """What a head gives for a batch.

    Parameters
    ----------
    loss_N
        Loss of each thing scored, float32; only the objective reduces.
    right_N
        Whether it was told right.
    """

    loss_N: Tensor
    right_N: Tensor


class PretextHead(nn.Module):
    """The trained part of a task that is not the encoder."""

    def forward(self, encoder: Encoder, batch: dict[str, Tensor]) -> Outcome:
        """Score a batch of the task's own arrays."""
        raise NotImplementedError

    def after_step(self, encoder: Encoder) -> None:
        """Follow the optimiser's step; most heads need not."""


@dataclass(frozen=True)
class ProductTexts:
    """Texts of some products, by column name of the catalogue; cleaned, an absent field is empty.

    Parameters
    ----------
    rows
        Their rows in the catalogue, which the random numbers of their examples are drawn by.
    locales
        `us`, `es`, `jp`, or another.
    columns
        Texts by column name (`schema.TEXT_COLUMNS`).
    brands, colors
        Rows in the vocabularies of `data.vocabularies`; 0 is unknown or absent.
    """

    rows: Rows
    locales: list[str]
    columns: dict[str, list[str]]
    brands: Rows
    colors: Rows

    def __len__(self) -> int:
        return len(self.rows)


class Catalogue(Protocol):
    """The whole catalogue, read by row."""

    def take(self, rows: Rows) -> ProductTexts:
        """Read some products."""

    def of_locale(self, locale: str) -> Rows:
        """Rows of all products of a locale."""


class Reader(Protocol):
    """Turns texts into the arrays that the encoder reads, as fine-tuning does."""

    max_length: int
    mask_id: int
    """The tokenizer's mask."""
    special_ids: Rows
    """Ids that are never masked."""
    word_starts_V: npt.NDArray[np.bool_]
    """For each piece of the vocabulary whether a word begins with it."""
    pieces: int
    """Size of the vocabulary."""

    def tokens(self, texts: list[str]) -> list[npt.NDArray[np.int32]]:
        """Tokenise texts without special tokens."""

    def documents(self, texts: ProductTexts) -> list[npt.NDArray[np.int32]]:
        """Tokenise products as fine-tuning does: the fields joined by separators, not cut."""

    def singles(self, tokens: list[npt.NDArray[np.int32]]) -> Arrays:
        """Make ``input_ids``, ``attention_mask`` and, where used, ``token_type_ids`` ``[B, T]`` of one text each."""

    def pairs(self, first: list[npt.NDArray[np.int32]], second: list[npt.NDArray[np.int32]]) -> Arrays:
        """Make the same of pairs, cut to ``max_length``, the longer side first."""


@dataclass(frozen=True)
class Draw:
    """Where the random numbers of an epoch come from.

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
        """Make the generator of one product's examples in one task, the same in whatever batch and process."""
        return np.random.Generator(np.random.PCG64([self.seed, crc32(task.encode()), self.epoch, row]))


@dataclass(frozen=True)
class Sizes:
    """Rows of the tables that the catalogue decides."""

    brands: int
    colors: int
    pieces: int


class Pretext(Protocol):
    """A pretext task's settings."""

    name: str
    """A class variable; also the prefix of its figures: `mlm`, `product2query`, …"""
    weight: float

    def examples(self, texts: ProductTexts, catalogue: Catalogue, reader: Reader, draw: Draw) -> Arrays:
        """Make the arrays of one micro-batch.

        ``items`` (0-d, int64) says how many things are scored; it may be 0 where no product has the field, and the head
        still takes part in the graph then.
        """

    def head(self, encoder: Encoder, sizes: Sizes) -> PretextHead:
        """Make the head with new weights."""
