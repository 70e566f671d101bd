"""The optimiser and its learning rate: AdamW, a linear warm-up, then a cosine down to zero."""

import math

import torch
from torch import nn

from zhichun.train.settings import TrainSettings


def make_optimizer(module: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, 2019) without weight decay on biases and norms, which have one dimension."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
    )


def learning_rate(step: int, steps: int, settings: TrainSettings) -> float:
    """Learning rate of a step, counted from 0 of ``steps``: a function of the step alone, so that nothing is saved."""
    warmup = math.ceil(settings.warmup * steps)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
