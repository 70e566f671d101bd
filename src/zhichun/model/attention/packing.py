"""How the tokens of a batch lie: padded to the longest pair, or packed end to end in one row without any padding.

What reads token vectors asks here for what belongs to a pair, and need not know which of the two it has.

Legend: ``B`` pairs, ``T`` tokens of a row, ``N`` tokens of all pairs, ``D`` size of a token's vector. A packed batch is
one row, so what is ``[B, T, D]`` elsewhere is ``[1, N, D]`` then.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

BOUNDS: Final = "bounds"
LONGEST: Final = "longest"


@dataclass(frozen=True)
class Padded:
    """A row for each pair, filled up to the longest.

    Parameters
    ----------
    mask_BT
        1 for a token, 0 for padding.
    """

    mask_BT: Tensor

    @property
    def attention(self) -> Tensor:
        """What tells the encoder which tokens see each other."""
        return self.mask_BT

    @property
    def lengths_B11(self) -> Tensor:
        """Tokens of each pair, in a shape that token vectors can be divided by."""
        return self.mask_BT.sum(dim=1)[:, None, None]

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
        Tokens of the longest pair; a number of the host's, so that nobody has to wait for the GPU to learn it.
    total
        Tokens of all pairs, ``N``.
    """

    bounds: Tensor
    longest: int
    total: int

    @property
    def attention(self) -> "Packed":
        """What tells the encoder which tokens see each other."""
        return self

    @property
    def pairs(self) -> int:
        """Pairs, ``B``."""
        return len(self.bounds) - 1

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each pair, as numbers of the host's: on a GPU, this waits for it."""
        lengths: list[int] = self.bounds.diff().tolist()
        return lengths

    @cached_property
    def firsts(self) -> "Packed":
        """How the first tokens lie where they stand end to end, without the others."""
        return Packed(torch.arange(self.pairs + 1, dtype=torch.int32, device=self.bounds.device), 1, self.pairs)

    @cached_property
    def pair_N(self) -> Tensor:
        """Which pair each token belongs to."""
        pairs_B = torch.arange(self.pairs, device=self.bounds.device)
        return torch.repeat_interleave(pairs_B, self.bounds.diff(), output_size=self.total)

    @cached_property
    def place_N(self) -> Tensor:
        """Which place each token has within its pair, from 0."""
        return torch.arange(self.total, device=self.bounds.device) - self.bounds[self.pair_N]

    @property
    def lengths_B11(self) -> Tensor:
        """Tokens of each token's pair, ``[1, N, 1]``: in a shape that token vectors can be divided by."""
        return self.bounds.diff()[self.pair_N][None, :, None]

    def first(self, vectors_1ND: Tensor) -> Tensor:
        """Take the first token of each pair, ``[B, D]``."""
        return vectors_1ND[0, self.bounds[:-1]]

    def without_padding(self, vectors_1ND: Tensor) -> Tensor:
        """Give them as they are: there is none."""
        return vectors_1ND

    def norms(self, vectors_1ND: Tensor) -> Tensor:
        """Euclidean norm over all tokens of each token's pair, in a shape that the vectors can be divided by."""
        squares_N = vectors_1ND[0].square().sum(dim=1)
        squares_B = squares_N.new_zeros(self.pairs).index_add(0, self.pair_N, squares_N)
        return squares_B.sqrt()[self.pair_N][None, :, None]


Tokens = Padded | Packed


def tokens_of(batch: dict[str, Tensor]) -> Tokens:
    """Tell how the tokens of a batch of `Pairs.collate` lie."""
    if BOUNDS not in batch:
        return Padded(batch["attention_mask"])
    return Packed(batch[BOUNDS], int(batch[LONGEST]), batch["input_ids"].shape[1])
