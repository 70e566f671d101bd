"""Dropout with a cheap mask on a CPU.

What       A number is kept when 16 random bits are at or above a threshold. torch's own mask takes one draw of its
           generator for each number, on one core while the others wait; here one draw of 64 bits serves four numbers,
           and everything else runs on all cores. A GPU uses torch's own
Equation   ``x · 1[b ≥ t] · 2^16 / (2^16 - t)`` with ``b`` even on 0 … 2^16 - 1 and ``t = round(2^16 · p)``
Reference  Srivastava et al. (2014), "Dropout: A Simple Way to Prevent Neural Networks from Overfitting"
Our number fine-tuning all-MiniLM-L6-v2 at 256 tokens takes 1.06 times as many pairs a second as with torch's own, on
           two cores (`benchmarks/train_cpu.py`)
Cost       none
Traps      the dropped share is rounded to a multiple of 1/65,536. A seed draws other masks than in torch, and others
           on a CPU than on a GPU

Attention as explicit matrix products is here too: for when torch has no faster way, and for dropout on a CPU.

Legend: ``B`` pairs, ``H`` heads, ``T`` tokens, ``E`` size of a head.
"""

from typing import Final

import torch
from torch import Tensor, nn

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
    """`torch.nn.Dropout` by `drop`."""

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
