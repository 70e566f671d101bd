"""Losses: logits and targets in, one loss for each example out; only the objective reduces."""

from zhichun.losses.cross_entropy import CrossEntropy
from zhichun.losses.squared_error import SquaredError

Loss = CrossEntropy | SquaredError

__all__ = ["CrossEntropy", "Loss", "SquaredError"]
