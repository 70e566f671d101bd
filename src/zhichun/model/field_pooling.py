"""Field-token pooling: beside [CLS], the mean over the tokens of the query and over those of each field of the product.

The separators that a pair is put together with tell which token belongs to what, so a batch needs nothing more. A field
that is empty or was cut off is zeros; special tokens and padding belong to none.

Legend: ``B`` pairs, ``T`` tokens, ``N`` tokens of all pairs of a packed batch, ``D`` hidden size, ``S`` parts: the
query and the fields.
"""

import torch
from torch import Tensor, nn

from zhichun.core.errors import UserError
from zhichun.model.attention.packing import Packed, Tokens
from zhichun.text.pair_layout import PairLayout


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
        When nothing stands between the parts.
    """

    separators: Tensor
    specials: Tensor

    def __init__(self, layout: PairLayout, fields: int, hidden: int) -> None:
        super().__init__()
        if not layout.middle:
            raise UserError(
                "the encoder's tokenizer puts no separator between query and product, which pooling by fields needs.",
                remedy="Use --set model.pooling=first.",
            )
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
        """Tell which part each token belongs to, ``[B, T, S]``."""
        text_BT = attention_mask_BT.bool() & ~_is_any(input_ids_BT, self.specials)
        separator_BT = _is_any(input_ids_BT, self.separators)
        separator_BT[:, : self.prefix] = False  # where a pair begins with the token that also separates
        part_BT = separator_BT.cumsum(dim=1) // self.width
        parts_S = torch.arange(self.parts, device=input_ids_BT.device)
        return (part_BT[..., None] == parts_S) & text_BT[..., None]

    def _packed(self, hidden_ND: Tensor, input_ids_N: Tensor, packed: Packed) -> Tensor:
        """Add each token to the sum of its pair's part; what belongs to none goes to one more, which is left out."""
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
