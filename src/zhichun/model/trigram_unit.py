"""The multi-granular semantic unit: three bags of character trigrams, each mean-pooled (the paper, 3.2 and Figure 2).

One bag of the query, one of title, brand, color and bullets, one of the description, over one shared table.

Legend: ``B`` pairs, ``N`` trigrams of a batch, ``V`` rows of the table, ``G`` size of a trigram's vector.
"""

from typing import Final

import torch
from torch import Tensor, nn

BAGS: Final = ("query_trigrams", "product_trigrams", "description_trigrams")


class NgramUnit(nn.Module):
    """An `EmbeddingBag` over trigrams; never padded.

    Parameters
    ----------
    trigrams
        Rows of the table; row 0 is padding.
    size
        Size of a trigram's vector, ``G``.
    frozen
        Whether the vectors stay as they are: no gradient reaches them.
    """

    def __init__(self, trigrams: int, size: int, *, frozen: bool = False) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(trigrams, size, mode="mean", padding_idx=0, include_last_offset=True)
        nn.init.normal_(self.bag.weight, std=size**-0.5)
        with torch.no_grad():
            self.bag.weight[0].zero_()
        self.bag.weight.requires_grad_(not frozen)
        self.size = len(BAGS) * size

    def start_from(self, table_VG: Tensor) -> None:
        """Take vectors over, one for each row of the table, ``[V, G]``; row 0 is padding and zeros."""
        assert table_VG.shape == self.bag.weight.shape
        with torch.no_grad():
            self.bag.weight.copy_(table_VG)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Pool the bags of each pair, ``[B, 3 G]``; an empty bag is zeros."""
        pooled = [self.bag(batch[name], batch[f"{name}_offsets"]) for name in BAGS]
        return torch.cat(pooled, dim=1)
