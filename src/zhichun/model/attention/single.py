"""Attention in single products, where torch has no faster way.

Legend: ``B`` pairs, ``H`` heads, ``T`` tokens, ``E`` size of a head.
"""

import torch
from torch import Tensor

from zhichun.model.attention.dropout import drop


def attend_by_products(
    query_BHTE: Tensor,
    key_BHTE: Tensor,
    value_BHTE: Tensor,
    mask: Tensor | None = None,
    *,
    dropout_p: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """Attend as `scaled_dot_product_attention` does, which takes the same steps where it drops weights on a processor.

    Parameters
    ----------
    query_BHTE, key_BHTE, value_BHTE
        Queries may be fewer than keys and values.
    mask
        What is seen, or what is added to the products; it is broadcast to them.
    dropout_p
        Of the attention's weights.
    scale
        What the products are multiplied with; ``None`` is ``E^-1/2``.
    """
    scale = query_BHTE.shape[-1] ** -0.5 if scale is None else scale
    scores_BHTT = (query_BHTE * scale) @ key_BHTE.transpose(-1, -2)
    if mask is not None:
        scores_BHTT = scores_BHTT.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores_BHTT + mask
    return drop(torch.softmax(scores_BHTT, dim=-1), dropout_p) @ value_BHTE
