"""List head: a pair's vector reads the other candidates of its query.

Equation   ``h_i + γ ⊙ W Σ_j softmax_j(q_i · k_j / √E) v_j`` over the other pairs ``j`` of the list of ``i``; ``γ`` is 0
           at the start
Reference  Pobrotyn et al., 2020, *Context-Aware Learning to Rank with Self-Attention*, for attention over a list; the
           gate as in Bachlechner et al., 2020, *ReZero is All You Need*
Our number no gain measured: no table of ours has it yet
Cost       four products of a pair's vector with narrow matrices, beside an encoder next to nothing
Traps      a score depends on the other candidates: score a query's candidates together, as many and of the sort that
           were trained on. The pair's own path has no norm and no feed-forward, and attention over no pair is zero, so
           a list of one is the model without lists, to the bit. Order and number of candidates are not read

Legend: ``B`` pairs of a batch, ``F`` features of a pair, ``H`` heads, ``E`` size of a head.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zhichun.core.errors import UserError
from zhichun.core.settings import require_range


@dataclass(frozen=True, kw_only=True)
class ListHead:
    """Attention over the other candidates of a query.

    Parameters
    ----------
    size
        Size of queries, keys and values, over all heads.
    heads
        Attention heads.
    """

    size: int = 64
    heads: int = 4

    def __post_init__(self) -> None:
        off = "Switch it off with model.lists=null."
        require_range(self, "size", "heads", least=1, prefix="model.lists.", remedy=off)
        if self.size % self.heads:
            raise UserError(
                f"model.lists.size={self.size} cannot be shared out to {self.heads} heads.",
                remedy=f"Give a multiple of {self.heads}.",
            )


class ListAttention(nn.Module):
    """The list head's weights; computed in float32, as the head that reads what it gives.

    Parameters
    ----------
    settings
        Sizes.
    features
        Size of a pair's vector, ``F``.
    """

    def __init__(self, settings: ListHead, features: int) -> None:
        super().__init__()
        self.heads = settings.heads
        self.query, self.key, self.value = (nn.Linear(features, settings.size) for _ in range(3))
        self.out = nn.Linear(settings.size, features, bias=False)
        self.gate = nn.Parameter(torch.zeros(features))

    def forward(self, vectors_BF: Tensor, list_B: Tensor) -> Tensor:
        """Add to each pair's vector what the others of its list say, ``[B, F]``."""
        with torch.autocast(vectors_BF.device.type, enabled=False):
            vectors_BF = vectors_BF.float()

            def split(of: nn.Module) -> Tensor:
                heads_HBE: Tensor = of(vectors_BF).unflatten(1, (self.heads, -1)).transpose(0, 1)
                return heads_HBE

            query_HBE, key_HBE, value_HBE = split(self.query), split(self.key), split(self.value)
            place_B = torch.arange(list_B.shape[0], device=list_B.device)  # len would be a constant of the graph
            others_BB = (list_B[:, None] == list_B) & (place_B[:, None] != place_B)
            scores_HBB = query_HBE @ key_HBE.transpose(1, 2) * query_HBE.shape[-1] ** -0.5
            lowest = torch.finfo(torch.float32).min
            share_HBB = scores_HBB.masked_fill(~others_BB, lowest).softmax(dim=-1) * others_BB
            read_BE = (share_HBB @ value_HBE).transpose(0, 1).flatten(1)
            return vectors_BF + self.gate * self.out(read_BE)
