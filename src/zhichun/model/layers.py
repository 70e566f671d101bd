"""The layers of an encoder, whatever its architecture calls them: memory, kernels, and where bf16 is faster."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from zhichun.core.errors import UserError
from zhichun.model.encoder import Encoder


def layers_of(encoder: Encoder) -> nn.ModuleList:
    """Find an encoder's layers, from the first to the last.

    Raises
    ------
    UserError
        For one that has none of its own, such as ALBERT, whose layers share their weights.
    """
    count = encoder.model.config.num_hidden_layers
    for part in encoder.modules():
        if isinstance(part, nn.ModuleList) and len(part) == count:
            return part
    raise UserError(
        f"an encoder of the kind {encoder.model.config.model_type!r} has no layers to tell apart.",
        remedy="Use train.layer_decay=null, train.activation_checkpointing=null and train.compile=false.",
    )


def recompute_activations(encoder: Encoder) -> None:
    """Keep only what goes into each layer in training, and compute the rest again in the backward pass.

    Chen et al., 2016, *Training Deep Nets with Sublinear Memory Cost*. Dropout is drawn the same again, so that losses
    and gradients are those without.
    """
    for layer in layers_of(encoder):
        layer.forward = partial(_recomputed, layer, layer.forward)


def compile_layers(encoder: Encoder) -> None:
    """Let `torch.compile` make kernels for an encoder's layers; those of one serve all that are like it.

    Weights keep their names. What is outside of the layers is little work, and stays as it is.
    """
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
    if device.type == "cpu":
        capabilities: Callable[[], dict[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)  # not in torch 2.11
        found = capabilities()
        return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False
