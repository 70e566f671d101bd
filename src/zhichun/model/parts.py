"""The side features of the network (the paper, Figure 2), and the head on top.

* **ID embeddings** of country, brand and color: tables of 8, 128 and 128 dimensions in the paper.
* **The multi-granular semantic unit** (3.2): three bags of character trigrams, each mean-pooled: of the query, of
  title, brand, color and bullets, and of the description, over one shared table.
* **Field-token pooling**: in addition to [CLS], the mean over the tokens of the query and over those of each field of
  the product. The separators of a pair delimit the fields, so a batch needs nothing more. An empty or truncated field
  is zeros; special tokens and padding belong to none.
* **The head**: dropout, linear, tanh, dropout, classes. It is computed in float32 whatever the encoder is: in bf16,
  which keeps 8 bits, two thirds of the logits of a test set tie with others.

Legend: ``B`` pairs, ``T`` tokens, ``D`` hidden size, ``F`` features, ``C`` outputs, ``K`` dropout samples; ``N`` rows
taken over, trigrams of a batch, or tokens of all pairs of a packed one; ``S`` size of a row, or parts of a pair (the
query and the fields); ``V`` rows of the trigrams' table, ``G`` size of a trigram's vector.
"""

from typing import Final

import torch
from torch import Tensor, nn

from zhichun.core.errors import UserError
from zhichun.model.attention import Packed, Tokens
from zhichun.text.tokenizer import PairLayout


class IdEmbeddings(nn.Module):
    """One table for each id of the model, concatenated.

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
        """Copy vectors into some rows of a table; the others keep their initialisation."""
        table = self.tables[name]
        assert isinstance(table, nn.Embedding)
        with torch.no_grad():
            table.weight[rows_N] = vectors_NS

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Look up every table, ``[B, size]``."""
        return torch.cat([table(batch[name]) for name, table in self.tables.items()], dim=1)


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
        Whether the vectors are frozen: they get no gradient.
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
        """Copy vectors, one for each row of the table, ``[V, G]``; row 0 is padding and zeros."""
        assert table_VG.shape == self.bag.weight.shape
        with torch.no_grad():
            self.bag.weight.copy_(table_VG)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Pool the bags of each pair, ``[B, 3 G]``; an empty bag is zeros."""
        return torch.cat([self.bag(batch[name], batch[f"{name}_offsets"]) for name in BAGS], dim=1)


class FieldPooling(nn.Module):
    """Means over the tokens of each part of a pair; it has no weights.

    Parameters
    ----------
    layout
        Special tokens of a pair.
    fields
        Fields of a product.
    hidden
        Size of a token's vector, ``D``.

    Raises
    ------
    UserError
        When the layout has no separators.
    """

    separators: Tensor
    specials: Tensor

    def __init__(self, layout: PairLayout, fields: int, hidden: int) -> None:
        super().__init__()
        if not layout.middle:
            problem = "the encoder's tokenizer puts no separator between query and product, which field pooling needs."
            raise UserError(problem, remedy="Use --set model.pooling=first.")
        self.parts = 1 + fields
        self.size = self.parts * hidden
        self.prefix, self.width = len(layout.prefix), len(layout.middle)
        specials = (*layout.prefix, *layout.middle, *layout.suffix)
        self.register_buffer("separators", torch.tensor(sorted(set(layout.middle))), persistent=False)
        self.register_buffer("specials", torch.tensor(sorted(set(specials))), persistent=False)

    def forward(self, hidden_BTD: Tensor, input_ids_BT: Tensor, tokens: Tokens) -> Tensor:
        """Pool the tokens of each part, ``[B, S D]``: the query first, then the fields in the template's order."""
        if isinstance(tokens, Packed):
            return self._packed(hidden_BTD[0], input_ids_BT[0], tokens)
        own_BTS = self.owned(input_ids_BT, tokens.mask_BT)
        total_BSD = torch.einsum("bts,btd->bsd", own_BTS.to(hidden_BTD.dtype), hidden_BTD)
        return (total_BSD / own_BTS.sum(dim=1).clamp(min=1)[..., None]).flatten(1)

    def owned(self, input_ids_BT: Tensor, attention_mask_BT: Tensor) -> Tensor:
        """Return which part each token belongs to, ``[B, T, S]``."""
        text_BT = attention_mask_BT.bool() & ~_is_any(input_ids_BT, self.specials)
        separator_BT = _is_any(input_ids_BT, self.separators)
        separator_BT[:, : self.prefix] = False  # where a pair begins with the token that also separates
        part_BT = separator_BT.cumsum(dim=1) // self.width
        return (part_BT[..., None] == torch.arange(self.parts, device=input_ids_BT.device)) & text_BT[..., None]

    def _packed(self, hidden_ND: Tensor, input_ids_N: Tensor, packed: Packed) -> Tensor:
        """Sum the tokens of each part; tokens of no part go to an extra row, which is dropped."""
        separator_N = _is_any(input_ids_N, self.separators) & (packed.place_N >= self.prefix)
        counted_N = separator_N.cumsum(dim=0)
        before_pair_B = (counted_N - separator_N.long())[packed.bounds[:-1]]
        part_N = (counted_N - before_pair_B[packed.pair_N]) // self.width
        own_N = ~_is_any(input_ids_N, self.specials) & (part_N < self.parts)
        sums = packed.pairs * self.parts
        sum_N = torch.where(own_N, packed.pair_N * self.parts + part_N, sums)
        total_SD = hidden_ND.new_zeros(sums + 1, hidden_ND.shape[1]).index_add(0, sum_N, hidden_ND)
        count_S = hidden_ND.new_zeros(sums + 1).index_add(0, sum_N, own_N.to(hidden_ND.dtype))
        return (total_SD / count_S.clamp(min=1)[:, None])[:-1].reshape(-1, self.size)


def _is_any(ids: Tensor, wanted: Tensor) -> Tensor:
    return (ids[..., None] == wanted).any(dim=-1)


class Head(nn.Sequential):
    """An MLP on the concatenated features.

    Parameters
    ----------
    features
        Size of the input, ``F``.
    hidden
        Size of the layer between; the encoder's, as in the paper.
    outputs
        Classes, or 1 for a regressor.
    dropout
        Dropout before each linear layer.
    samples
        In training, passes with different masks, ``K``: multi-sample dropout (Inoue, 2019). A pair's loss is the
        mean over its samples, as there, not the loss of their mean: through the last layer that would be one mask with
        less noise. ``None`` is one pass.
    """

    def __init__(self, features: int, hidden: int, outputs: int, dropout: float, samples: int | None = None) -> None:
        super().__init__(
            nn.Dropout(dropout), nn.Linear(features, hidden), nn.Tanh(), nn.Dropout(dropout), nn.Linear(hidden, outputs)
        )
        self.samples = samples

    def forward(self, features_BF: Tensor) -> Tensor:
        """Logits in float32, ``[B, C]``; in training with several samples ``[K, B, C]``."""
        with torch.autocast(features_BF.device.type, enabled=False):
            features_BF = features_BF.float()
            if self.samples is not None and self.training:
                return torch.stack([self._once(features_BF) for _ in range(self.samples)])
            return self._once(features_BF)

    def _once(self, features_BF: Tensor) -> Tensor:
        logits_BC: Tensor = super().forward(features_BF)  # type: ignore[no-untyped-call]
        return logits_BC
