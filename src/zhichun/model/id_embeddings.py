"""Embeddings of country, brand and color (the paper, Figure 2): tables of 8, 128 and 128 dimensions there.

Legend: ``B`` pairs, ``N`` rows taken over, ``S`` size of a row.
"""

import torch
from torch import Tensor, nn


class IdEmbeddings(nn.Module):
    """One table for each id that the model has, side by side.

    Parameters
    ----------
    tables
        For each of ``country``, ``brand``, ``color`` that is on: rows and size. Row 0 of brand and color stands for
        everything unknown or empty.
    """

    def __init__(self, tables: dict[str, tuple[int, int]]) -> None:
        super().__init__()
        self.tables = nn.ModuleDict({name: nn.Embedding(rows, size) for name, (rows, size) in tables.items()})
        for table in self.tables.values():
            assert isinstance(table, nn.Embedding)
            nn.init.normal_(table.weight, std=0.02)
        self.size = sum(size for _, size in tables.values())

    def size_of(self, name: str) -> int:
        """Size of a table's rows."""
        table = self.tables[name]
        assert isinstance(table, nn.Embedding)
        return table.embedding_dim

    def start_from(self, name: str, rows_N: Tensor, vectors_NS: Tensor) -> None:
        """Take vectors over into some rows of a table; the others keep their start."""
        table = self.tables[name]
        assert isinstance(table, nn.Embedding)
        with torch.no_grad():
            table.weight[rows_N] = vectors_NS

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Look up every table, ``[B, size]``."""
        return torch.cat([table(batch[name]) for name, table in self.tables.items()], dim=1)
