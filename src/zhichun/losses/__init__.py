"""Losses: logits and targets in, one loss for each example out; only the objective reduces."""

from zhichun.losses.classification import ClassificationLoss, target_probabilities
from zhichun.losses.cross_entropy import CrossEntropy
from zhichun.losses.focal import Focal
from zhichun.losses.ghmc import GHMC
from zhichun.losses.poly1 import Poly1
from zhichun.losses.squared_error import SquaredError

Loss = CrossEntropy | Focal | GHMC | Poly1 | SquaredError

__all__ = [
    "GHMC",
    "ClassificationLoss",
    "CrossEntropy",
    "Focal",
    "Loss",
    "Poly1",
    "SquaredError",
    "target_probabilities",
]
