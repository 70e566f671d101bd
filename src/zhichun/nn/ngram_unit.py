"""The multi-granular semantic unit: three bags of character trigrams, each mean-pooled (the paper, 3.2 and Figure 2).

One bag of the query, one of title, brand, color and bullets, one of the description, over one shared table.

Legend: ``B`` pairs, ``N`` trigrams of a batch, ``G`` size of a trigram's vector.
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
    """

    def __init__(self, trigrams: int, size: int) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(trigrams, size, mode="mean", padding_idx=0, include_last_offset=True)
        nn.init.normal_(self.bag.weight, std=size**-0.5)
        with torch.no_grad():
            self.bag.weight[0].zero_()
        self.size = len(BAGS) * size

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Pool the bags of each pair, ``[B, 3 G]``; an empty bag is zeros."""
        pooled = [self.bag(batch[name], batch[f"{name}_offsets"]) for name in BAGS]
        return torch.cat(pooled, dim=1)
