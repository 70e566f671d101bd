"""The layers of an encoder: only the tokens that are wanted, less memory, kernels, and where bf16 is faster.

What       A layer updates only some of the tokens, from all that they attend to. Of the last layer only [CLS] is used,
           so queries, attention and feed-forward of the other tokens are left out; a model that reads query and product
           apart (`model.interaction`) updates only the query's tokens. Dropout is the layer's own. The result is the
           same
Equation   the layer's own, at some places: ``softmax(q_1 Kᵀ) V``
Reference  our own
Our number no gain measured by itself: of the work of a six-layer MiniLM an eighth is left out
Cost       none
Traps      only for encoders whose layers are built like BERT's (XLM-R, RoBERTa, CamemBERT …), and not where other
           tokens are used: each call of the encoder chooses. Dropout draws fewer numbers than the whole
           layer would, so a seed gives other masks

Legend: ``B`` pairs, ``T`` tokens, ``M`` tokens that are updated, ``D`` hidden size, ``H`` heads, ``E`` size of a head;
of a packed batch (`model.attention`) all tokens are one row.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn
from torch._functorch import config as functorch
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface

from zhichun.core import device as cpu
from zhichun.core.errors import UserError
from zhichun.model.attention import Packed, attend_by_products

if TYPE_CHECKING:
    from zhichun.model.encoder import Encoder

ARCHITECTURES: Final = ("bert", "roberta", "xlm-roberta", "camembert")


def layers_of(encoder: "Encoder") -> nn.ModuleList:
    """Find an encoder's layers, from the first to the last, whatever its architecture calls them.

    Raises
    ------
    UserError
        For one that has none of its own, such as ALBERT, whose layers share their weights.
    """
    config = encoder.model.config
    for part in encoder.modules():
        if isinstance(part, nn.ModuleList) and len(part) == config.num_hidden_layers:
            return part
    remedy = "Use train.layer_decay=null, train.activation_checkpointing=null and train.compile=false."
    raise UserError(f"an encoder of the kind {config.model_type!r} has no layers to tell apart.", remedy=remedy)


def let_layers_update_some(encoder: "Encoder") -> bool:
    """Let an encoder's layers update only some tokens; returns whether its architecture can.

    The last one supports ``first_only``, all of them ``seen``. The layers keep their modules, so weights keep their
    names; without the two they are unchanged.
    """
    if encoder.model.config.model_type not in ARCHITECTURES:
        return False
    layers = layers_of(encoder)
    for layer in layers:
        vars(layer).pop("forward", None)  # of the encoder that this one is made of
        layer.forward = partial(_layer, layer, layer.forward, layer is layers[-1])
    return True


def _layer(
    layer: Any,
    whole: Callable[..., Any],
    is_last: bool,
    hidden_BTD: Tensor,
    attention_mask: Tensor | None = None,
    *others: Any,
    first_only: bool = False,
    seen_1ND: Tensor | None = None,
    at_K: Tensor | None = None,
    packed: Packed | None = None,
    asking: Packed | None = None,
    **named: Any,
) -> Any:
    """Return ``[B, 1, D]``, or ``[1, B, D]`` of a packed batch, where only the first tokens are wanted.

    With ``seen_1ND`` the given tokens, which ``asking`` lays out, are updated from those: from the ones at the places
    ``at_K``, which ``packed`` lays out; one that is there for several pairs has one key and value.
    """
    if seen_1ND is not None:
        return _updated(layer, hidden_BTD, seen_1ND, at_K=at_K, packed=packed, asking=asking)
    if not (is_last and first_only):
        return whole(hidden_BTD, attention_mask, *others, packed=packed, **named)
    if packed is not None:
        return _updated(layer, packed.first(hidden_BTD)[None], hidden_BTD, packed=packed, asking=packed.firsts)
    mask = None if attention_mask is None else attention_mask[:, :, :1]
    return _updated(layer, hidden_BTD[:, :1], hidden_BTD, mask)


def _updated(
    layer: Any, own_BMD: Tensor, seen_BTD: Tensor, mask: Tensor | None = None, at_K: Tensor | None = None, **named: Any
) -> Tensor:
    attention = layer.attention.self
    key_BTD, value_BTD = attention.key(seen_BTD), attention.value(seen_BTD)
    if at_K is not None:
        key_BTD, value_BTD = key_BTD[:, at_K], value_BTD[:, at_K]

    def heads(vectors_BTD: Tensor) -> Tensor:
        return vectors_BTD.reshape(*vectors_BTD.shape[:2], -1, attention.attention_head_size).transpose(1, 2)

    attend = AttentionInterface().get_interface(attention.config._attn_implementation, _plain_attention)
    context_BMHE, _ = attend(
        attention,
        heads(attention.query(own_BMD)),
        heads(key_BTD),
        heads(value_BTD),
        mask,
        dropout=attention.dropout.p if layer.training else 0.0,
        scaling=attention.scaling,
        **named,
    )
    updated_BMD: Tensor = layer.feed_forward_chunk(layer.attention.output(context_BMHE.flatten(2), own_BMD))
    return updated_BMD


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


def recompute_activations(encoder: "Encoder") -> None:
    """Keep only what goes into each layer in training, and compute the rest again in the backward pass.

    Chen et al., 2016, *Training Deep Nets with Sublinear Memory Cost*. Dropout is drawn the same again, so that losses
    and gradients are those without.
    """
    for layer in layers_of(encoder):
        layer.forward = partial(_recomputed, layer, layer.forward)


def compile_layers(encoder: "Encoder") -> None:
    """Let `torch.compile` make kernels for an encoder's layers; those of one serve all that are like it.

    Weights keep their names. What is outside of the layers is little work, and stays as it is.
    """
    functorch.donated_buffer = False  # or a backward pass may not keep its graph, as a second view's does
    for layer in layers_of(encoder):
        layer.compile(dynamic=True)


def _recomputed(layer: nn.Module, forward: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    if not layer.training:
        return forward(*arguments, **named)
    # The reentrant kind fails under autograd.grad, which methods with a second view call.
    return checkpoint(forward, *arguments, use_reentrant=False, **named)


def has_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies bf16 matrices in hardware; emulated, it is slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and cpu.has_bf16()
