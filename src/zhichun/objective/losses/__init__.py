"""Losses: logits and targets in, one loss for each example out; only the objective reduces.

A line here registers a loss.
"""

from zhichun.objective.losses.classification import ClassificationLoss as ClassificationLoss
from zhichun.objective.losses.classification import Loss as Loss
from zhichun.objective.losses.classification import target_probabilities as target_probabilities
from zhichun.objective.losses.cross_entropy import CrossEntropy as CrossEntropy
from zhichun.objective.losses.focal import Focal as Focal
from zhichun.objective.losses.ghmc import GHMC as GHMC
from zhichun.objective.losses.ordinal import Ordinal as Ordinal
from zhichun.objective.losses.poly1 import Poly1 as Poly1
from zhichun.objective.losses.squared_error import SquaredError as SquaredError
