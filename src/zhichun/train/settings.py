"""Settings of the training loop."""

from dataclasses import dataclass
from typing import Literal

from zhichun.errors import UserError


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How long, how fast and on what.

    Parameters
    ----------
    epochs
        Passes over the training pairs.
    batch_size
        Pairs of one step, over all processes and micro-batches.
    micro_batch_tokens
        Tokens that are computed at once, padding included; a step is cut into so many micro-batches as it needs.
    learning_rate
        Highest learning rate (AdamW); reached after the warm-up, then a cosine down to zero.
    warmup
        Share of all steps in which the learning rate rises.
    weight_decay
        Decoupled weight decay; never on biases and norms.
    clip
        Norm that the gradient is clipped to; null is off.
    precision
        `fp32`, `bf16`, or `auto`: bf16 on a GPU or processor that has units for it, fp32 otherwise.
    seed
        Seed of weights, order and dropout.
    validation_fold
        Fold of queries held out for validation; null holds out one twentieth of the queries.
    evaluations
        Evaluations per epoch.
    metric
        What the best checkpoint is chosen by: `micro_f1`, `macro_f1`, `ndcg`, or `loss` (lower is better); of equal
        ones, the one with the lower loss.
    patience
        Stop after so many evaluations without a better one; null never stops early.
    checkpoint_minutes
        Minutes between checkpoints; there is one at each evaluation too.
    """

    epochs: int = 5
    batch_size: int = 32
    micro_batch_tokens: int = 4096
    learning_rate: float = 1e-5
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float | None = 1.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0
    validation_fold: int | None = None
    evaluations: int = 1
    metric: Literal["micro_f1", "macro_f1", "ndcg", "loss"] = "micro_f1"
    patience: int | None = None
    checkpoint_minutes: float = 10.0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "micro_batch_tokens", "learning_rate", "evaluations"):
            if getattr(self, name) <= 0:
                raise UserError(f"train.{name}={getattr(self, name)} must be above zero.")
        for name in ("seed", "weight_decay", "checkpoint_minutes"):
            if getattr(self, name) < 0:
                raise UserError(f"train.{name}={getattr(self, name)} must not be below zero.")
        if not 0 <= self.warmup < 1:
            raise UserError(f"train.warmup={self.warmup} must be a share of all steps, from 0 to below 1.")
        if self.clip is not None and self.clip <= 0:
            raise UserError(f"train.clip={self.clip} is no norm.", remedy="Switch it off with train.clip=null.")
        if self.patience is not None and self.patience < 1:
            raise UserError(f"train.patience={self.patience} must be 1 or more.", remedy="train.patience=null is off.")
