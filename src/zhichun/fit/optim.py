"""The optimiser and its learning rate: AdamW, a linear warm-up, then a cosine down to zero."""

import math

import torch
from torch import nn

from zhichun.fit.train_settings import LoopSettings
from zhichun.model.encoder import Encoder
from zhichun.model.layers import layers_of


def make_optimizer(module: nn.Module, settings: LoopSettings) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, 2019) without weight decay on biases and norms, which have one dimension.

    Each group's ``scale`` is what its learning rate is multiplied with. The groups and the weights in them are in the
    same order for the same module and settings, as a resume needs it.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    below = {} if settings.layer_decay is None else layers_above(module)
    groups = []
    for depth in sorted({below.get(parameter, 0) for parameter in trained}):
        level = [parameter for parameter in trained if below.get(parameter, 0) == depth]
        scale = 1.0 if settings.layer_decay is None else settings.layer_decay**depth
        groups += [
            {"params": [p for p in level if p.ndim > 1], "weight_decay": settings.weight_decay, "scale": scale},
            {"params": [p for p in level if p.ndim <= 1], "weight_decay": 0.0, "scale": scale},
        ]
    return torch.optim.AdamW(groups, lr=settings.numbers()[1], fused=True)  # one pass over the weights, not ten


def learning_rate(step: int, steps: int, settings: LoopSettings) -> float:
    """Learning rate of a step, counted from 0 of ``steps``: a function of the step alone, so that nothing is saved."""
    warmup, (_, highest) = math.ceil(settings.warmup * steps), settings.numbers()
    if step < warmup:
        return highest * (step + 1) / warmup
    return highest * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def layers_above(module: nn.Module) -> dict[nn.Parameter, int]:
    """Count how deep each weight of the encoders in a module lies (as in ELECTRA's fine-tuning, Clark et al., 2020)."""
    found: dict[nn.Parameter, int] = {}
    for encoder in (part for part in module.modules() if isinstance(part, Encoder)):
        layers = layers_of(encoder)
        found |= dict.fromkeys(encoder.parameters(), len(layers) + 1)
        last = getattr(encoder.model, "final_norm", None)
        found |= dict.fromkeys([] if last is None else last.parameters(), 1)
        for place, layer in enumerate(layers):
            found |= dict.fromkeys(layer.parameters(), len(layers) - place)
    return found
