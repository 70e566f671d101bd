"""The layout of a batch's tokens: padded to the longest pair, or packed in one row without padding.

Readers of token vectors use one interface for both layouts.

Legend: ``B`` pairs, ``T`` tokens of a row, ``N`` tokens of all pairs, ``D`` size of a token's vector. A packed batch is
one row, so what is ``[B, T, D]`` elsewhere is ``[1, N, D]`` then.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

BOUNDS: Final = "bounds"
LONGEST: Final = "longest"


@dataclass(frozen=True)
class Padded:
    """One row per pair, padded to the longest.

    Parameters
    ----------
    mask_BT
        1 for a token, 0 for padding.
    """

    mask_BT: Tensor

    @property
    def attention(self) -> Tensor:
        """The encoder's attention mask, or the packed layout."""
        return self.mask_BT

    @property
    def start_B(self) -> Tensor:
        """Where each pair begins, counted over all rows."""
        pairs, longest = self.mask_BT.shape
        return torch.arange(0, pairs * longest, longest, device=self.mask_BT.device)

    @property
    def length_B(self) -> Tensor:
        """Tokens of each pair."""
        return self.mask_BT.sum(dim=1)

    @property
    def lengths_B11(self) -> Tensor:
        """Tokens of each pair, in a shape that token vectors can be divided by."""
        return self.length_B[:, None, None]

    def first(self, vectors_BTD: Tensor) -> Tensor:
        """Take the first token of each pair, ``[B, D]``."""
        return vectors_BTD[:, 0]

    def without_padding(self, vectors_BTD: Tensor) -> Tensor:
        """Set the vectors of padding to zero."""
        return vectors_BTD * self.mask_BT[..., None]

    def norms(self, vectors_BTD: Tensor) -> Tensor:
        """Euclidean norm over all tokens of each pair, in a shape that the vectors can be divided by."""
        return vectors_BTD.flatten(1).norm(dim=1)[:, None, None]


@dataclass(frozen=True)
class Packed:
    """All pairs in one row.

    Parameters
    ----------
    bounds
        Where each pair begins, and the last one ends, ``[B + 1]``, int32.
    longest
        Tokens of the longest pair; a number on the host, so that reading it does not synchronise with the GPU.
    total
        Tokens of all pairs, ``N``.
    """

    bounds: Tensor
    longest: int
    total: int

    @property
    def attention(self) -> "Packed":
        """The encoder's attention mask, or the packed layout."""
        return self

    @classmethod
    def of(cls, length_B: Tensor) -> "Packed":
        """Lay out pairs of these lengths; on a GPU this waits for them."""
        bounds = functional.pad(length_B.cumsum(0), (1, 0)).int()
        return cls(bounds, int(length_B.max()), int(bounds[-1]))

    @property
    def pairs(self) -> int:
        """Pairs, ``B``."""
        return len(self.bounds) - 1

    @property
    def start_B(self) -> Tensor:
        """Where each pair begins."""
        return self.bounds[:-1]

    @property
    def length_B(self) -> Tensor:
        """Tokens of each pair."""
        return self.bounds.diff()

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each pair, as numbers on the host: this synchronises with a GPU."""
        lengths: list[int] = self.length_B.tolist()
        return lengths

    @cached_property
    def firsts(self) -> "Packed":
        """The layout of only the first tokens, concatenated."""
        return Packed(torch.arange(self.pairs + 1, dtype=torch.int32, device=self.bounds.device), 1, self.pairs)

    @cached_property
    def pair_N(self) -> Tensor:
        """Which pair each token belongs to."""
        pairs_B = torch.arange(self.pairs, device=self.bounds.device)
        return torch.repeat_interleave(pairs_B, self.length_B, output_size=self.total)

    @cached_property
    def place_N(self) -> Tensor:
        """Which place each token has within its pair, from 0."""
        return torch.arange(self.total, device=self.bounds.device) - self.bounds[self.pair_N]

    @property
    def lengths_B11(self) -> Tensor:
        """Tokens of each token's pair, ``[1, N, 1]``: in a shape that token vectors can be divided by."""
        return self.length_B[self.pair_N][None, :, None]

    def first(self, vectors_1ND: Tensor) -> Tensor:
        """Take the first token of each pair, ``[B, D]``."""
        return vectors_1ND[0, self.bounds[:-1]]

    def without_padding(self, vectors_1ND: Tensor) -> Tensor:
        """Return them unchanged: there is no padding."""
        return vectors_1ND

    def norms(self, vectors_1ND: Tensor) -> Tensor:
        """Euclidean norm over all tokens of each token's pair, in a shape that the vectors can be divided by."""
        squares_N = vectors_1ND[0].square().sum(dim=1)
        squares_B = squares_N.new_zeros(self.pairs).index_add(0, self.pair_N, squares_N)
        return squares_B.sqrt()[self.pair_N][None, :, None]


Tokens = Padded | Packed


def tokens_of(batch: dict[str, Tensor]) -> Tokens:
    """Return the layout of a batch of `Pairs.collate`."""
    if BOUNDS not in batch:
        return Padded(batch["attention_mask"])
    return Packed(batch[BOUNDS], int(batch[LONGEST]), batch["input_ids"].shape[1])
