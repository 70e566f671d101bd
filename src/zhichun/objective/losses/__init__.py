"""Losses: logits and targets in, one loss for each example out; only the objective reduces."""

from zhichun.objective.losses.classification import ClassificationLoss, target_probabilities
from zhichun.objective.losses.cross_entropy import CrossEntropy
from zhichun.objective.losses.focal import Focal
from zhichun.objective.losses.ghmc import GHMC
from zhichun.objective.losses.poly1 import Poly1
from zhichun.objective.losses.squared_error import SquaredError

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
