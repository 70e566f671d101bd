"""Computes the last layer only for the first token of each pair.

What       only [CLS] of the last layer is used, so queries, attention and feed-forward of the other tokens are
           left out; keys and values are computed as before. Dropout is the layer's own. The result is the same
Equation   the layer's own, at one place: ``softmax(q_1 Kᵀ) V``
Reference  our own
Our number two thirds to five sixths of one layer; of a six-layer MiniLM an eighth of all work
Cost       none
Traps      only for encoders whose layers are built like BERT's (XLM-R, RoBERTa, CamemBERT …), and not where other
           tokens are used: each call of the encoder chooses. Dropout draws fewer numbers than the whole
           layer would, so a seed gives other masks

Legend: ``B`` pairs, ``T`` tokens, ``D`` hidden size, ``H`` heads, ``E`` size of a head; of a packed batch
(`model.attention.packing`) all tokens are one row.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from torch import Tensor, nn
from transformers import AttentionInterface

from zhichun.model.attention.dropout import attend_by_products
from zhichun.model.attention.packing import Packed

ARCHITECTURES: Final = ("bert", "roberta", "xlm-roberta", "camembert")


def make_last_layer_heed_first_only(model: Any) -> bool:
    """Make the last layer of a transformers encoder support ``first_only``; returns whether its architecture can.

    The layer keeps its module, so weights keep their names. Without ``first_only`` it is unchanged.
    """
    if model.config.model_type not in ARCHITECTURES:
        return False
    layer = model.encoder.layer[-1]
    layer.forward = partial(_last_layer, layer, layer.forward)
    return True


def _last_layer(
    layer: Any,
    whole: Callable[..., Any],
    hidden_BTD: Tensor,
    attention_mask: Tensor | None = None,
    *others: Any,
    first_only: bool = False,
    packed: Packed | None = None,
    **named: Any,
) -> Any:
    """Return ``[B, 1, D]``, or ``[1, B, D]`` of a packed batch, where only that is wanted."""
    if not first_only:
        return whole(hidden_BTD, attention_mask, *others, packed=packed, **named)
    attention = layer.attention.self

    def heads(vectors_BTD: Tensor) -> Tensor:
        return vectors_BTD.reshape(*vectors_BTD.shape[:2], -1, attention.attention_head_size).transpose(1, 2)

    first_B1D = hidden_BTD[:, :1] if packed is None else packed.first(hidden_BTD)[None]
    attend = AttentionInterface().get_interface(attention.config._attn_implementation, _plain_attention)
    context_B1HE, _ = attend(
        attention,
        heads(attention.query(first_B1D)),
        heads(attention.key(hidden_BTD)),
        heads(attention.value(hidden_BTD)),
        None if attention_mask is None else attention_mask[:, :, :1],
        dropout=attention.dropout.p if layer.training else 0.0,
        scaling=attention.scaling,
        packed=packed,
        asking=None if packed is None else packed.firsts,
    )
    return layer.feed_forward_chunk(layer.attention.output(context_B1HE.flatten(2), first_B1D))


def _plain_attention(
    module: nn.Module,
    query_BHTE: Tensor,
    key_BHTE: Tensor,
    value_BHTE: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float = 1.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention as explicit matrix products, like transformers' `eager`."""
    context_BHTE = attend_by_products(
        query_BHTE, key_BHTE, value_BHTE, attention_mask, dropout_p=dropout, scale=scaling
    )
    return context_BHTE.transpose(1, 2), None
