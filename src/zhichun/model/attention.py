"""The layout of a batch's tokens, padded or packed in one row without padding; packed attention, and dropout.

Readers of token vectors use one interface for both layouts. A packed batch is one row, so what is ``[B, T, D]``
elsewhere is ``[1, N, D]`` then.

Attention within each pair of a packed batch is registered as a transformers attention function. One function handles
packed and padded batches: a call with ``packed`` is packed, any other uses `scaled_dot_product_attention`. A packed one
is computed in one of two equivalent ways, without padding and mask:

* on a GPU all pairs in one call, by the kernels behind `scaled_dot_product_attention`, which take bounds: in half
  precision FlashAttention, else, without gradients, the memory-efficient one. `torch.nn.attention.varlen` would be the
  public way, but it has no dropout; and padded copies with a mask go to cuDNN, which makes a plan for every shape of
  batch that it meets;
* else the pairs of each length together; on a CPU with dropout as explicit products, as torch would, but with a
  cheaper mask (`Dropout`).

Legend: ``B`` pairs, ``T`` tokens of a row, ``N`` tokens of all pairs, ``D`` size of a token's vector; ``H`` heads,
``E`` size of a head, ``L`` tokens of the longest pair, ``R`` neighbours of one length.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

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

    @property
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
        return vectors_1ND[0].index_select(0, self.start_B)

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


BITS: Final = 16
PER_DRAW: Final = 64 // BITS


def drop(values: Tensor, p: float) -> Tensor:
    """Set a share of the numbers to zero, and scale the others to keep the mean.

    Parameters
    ----------
    values
        Of any shape.
    p
        The share, from 0 to 1.
    """
    threshold = round(p * 2**BITS)
    if values.device.type != "cpu" or not 0 < threshold < 2**BITS:
        return nn.functional.dropout(values, p)
    draws = torch.empty(-(-values.numel() // PER_DRAW), dtype=torch.int64)
    bits = draws.random_(-(2**63), None).view(torch.int16)[: values.numel()].view(values.shape)
    stays = bits >= threshold - 2 ** (BITS - 1)  # the bits are read as numbers with a sign
    return values * stays * (2**BITS / (2**BITS - threshold))


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` with a mask that is cheap on a CPU: a number is kept when 16 random bits reach a threshold.

    torch's own mask takes one draw of its generator for each number, on one core while the others wait; here one draw
    of 64 bits serves four numbers, and everything else runs on all cores. A GPU uses torch's own. With ``b`` even on
    0 … 2^16 - 1 and ``t = round(2^16 · p)``, ``x`` becomes ``x · 1[b ≥ t] · 2^16 / (2^16 - t)``: the dropped share is
    rounded to a multiple of 1/65,536, and a seed draws other masks than in torch, and others on a CPU than on a GPU.
    Fine-tuning all-MiniLM-L6-v2 at 256 tokens takes 1.06 times as many pairs a second as with torch's own, on two cores
    (`benchmarks/train_cpu.py`).
    """

    def forward(self, values: Tensor) -> Tensor:
        """Drop in training; the identity in evaluation."""
        return drop(values, self.p) if self.training else values


def exchange_dropout(model: nn.Module) -> None:
    """Replace every dropout in a model by `drop`."""
    for module in list(model.modules()):
        for name, part in module.named_children():
            if type(part) is nn.Dropout:
                setattr(module, name, Dropout(part.p).train(part.training))


def attend_by_products(
    query_BHTE: Tensor,
    key_BHTE: Tensor,
    value_BHTE: Tensor,
    mask: Tensor | None = None,
    *,
    dropout_p: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """Attend as `scaled_dot_product_attention` does with dropout on a CPU."""
    scale = query_BHTE.shape[-1] ** -0.5 if scale is None else scale
    scores_BHTT = (query_BHTE * scale) @ key_BHTE.transpose(-1, -2)
    if mask is not None:
        scores_BHTT = scores_BHTT.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores_BHTT + mask
    return drop(torch.softmax(scores_BHTT, dim=-1), dropout_p) @ value_BHTE


NAME: Final = "zhichun_packed"
ARCHITECTURES: Final = ("bert", "roberta", "xlm-roberta", "camembert", "modernbert")
HALF: Final = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class _How:
    """Options of the attention."""

    asking: Packed
    asked: Packed
    dropout: float = 0.0
    scaling: float | None = None
    window: int | None = None


def packed_attention(
    module: nn.Module,
    query_BHTE: Tensor,
    key_BHTE: Tensor,
    value_BHTE: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    packed: Packed | None = None,
    asking: Packed | None = None,
    **named: Any,
) -> tuple[Tensor, None]:
    """Attend as transformers' attention functions do, ``[B, T, H, E]``."""
    given = (query_BHTE, key_BHTE, value_BHTE)
    if packed is None:
        plain: tuple[Tensor, None] = sdpa_attention_forward(
            module, *given, attention_mask, dropout=dropout, scaling=scaling, sliding_window=sliding_window, **named
        )
        return plain
    query_HNE, key_HNE, value_HNE = (tensor.squeeze(0) for tensor in given)
    how = _How(asking or packed, packed, dropout, scaling, sliding_window)
    attend = _in_one_call if query_HNE.is_cuda and _has_kernel(query_HNE, how) else _by_length
    return attend(query_HNE, key_HNE, value_HNE, how)[None], None


def _has_kernel(query_HNE: Tensor, how: _How) -> bool:
    if query_HNE.dtype in HALF:
        return query_HNE.shape[-1] % 8 == 0
    # The kernel for float32 has no window; its backward pass drops other weights than its forward pass, and cannot be
    # compiled with a scale, which torch gives twice to the function that infers its shapes.
    return query_HNE.dtype == torch.float32 and how.window is None and not torch.is_grad_enabled()


def _in_one_call(query_HNE: Tensor, key_HNE: Tensor, value_HNE: Tensor, how: _How) -> Tensor:
    vectors = [tensor.transpose(0, 1) for tensor in (query_HNE, key_HNE, value_HNE)]
    lie = (how.asking.bounds, how.asked.bounds, how.asking.longest, how.asked.longest, how.dropout)
    if query_HNE.dtype in HALF:
        reach = None if how.window is None else how.window - 1  # the farthest place that is seen
        context_NHE: Tensor = torch.ops.aten._flash_attention_forward(
            *vectors, *lie, False, False, scale=how.scaling, window_size_left=reach, window_size_right=reach
        )[0]
        return context_NHE
    of_one_row = (tensor_NHE[None] for tensor_NHE in vectors)
    context_1NHE: Tensor = torch.ops.aten._efficient_attention_forward(
        *of_one_row, None, *lie, 0, True, scale=how.scaling
    )[0]
    return context_1NHE[0]


def _by_length(query_HNE: Tensor, key_HNE: Tensor, value_HNE: Tensor, how: _How) -> Tensor:
    groups = [
        (*lengths, len(list(group)))
        for lengths, group in groupby(zip(how.asking.lengths, how.asked.lengths, strict=True))
    ]
    queries = torch.split(query_HNE, [asking_length * pairs for asking_length, _, pairs in groups], dim=1)
    keys, values = (
        torch.split(vectors_HNE, [asked_length * pairs for _, asked_length, pairs in groups], dim=1)
        for vectors_HNE in (key_HNE, value_HNE)
    )
    contexts = []
    for (_, length, pairs), *parts in zip(groups, queries, keys, values, strict=True):
        mask = _within(how.window, length, query_HNE.device) if how.window is not None and how.window < length else None
        query_HRTE, key_HRTE, value_HRTE = (
            part_HNE.reshape(len(part_HNE), pairs, -1, part_HNE.shape[-1]) for part_HNE in parts
        )
        attend = attend_by_products if how.dropout else scaled_dot_product_attention
        context_HRTE = attend(query_HRTE, key_HRTE, value_HRTE, mask, dropout_p=how.dropout, scale=how.scaling)
        contexts.append(context_HRTE.flatten(1, 2))
    return torch.cat(contexts, dim=1).transpose(0, 1)


def _within(window: int, length: int, device: torch.device) -> Tensor:
    """Return which positions are fewer than ``window`` apart, ``[length, length]``."""
    place = torch.arange(length, device=device)
    return (place[:, None] - place).abs() < window


def _mask(*, attention_mask: Tensor | None = None, **named: Any) -> Tensor | None:
    """Return no mask if none is given: a packed batch needs none, and one over all its tokens would not fit."""
    return None if attention_mask is None else sdpa_mask(attention_mask=attention_mask, **named)


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, _mask)
