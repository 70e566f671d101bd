"""The objectives: how losses and methods add up to one number.

The training loop wraps the objective, not the model, and depends on no method. It uses three members of an
objective: ``forward(batch)``, ``after_step()`` and ``shipped``, the weights that are evaluated and kept.
"""

from zhichun.objective.fine_tuning import FineTuning, FineTuningSettings, Total
from zhichun.objective.pretraining import Pretraining, PretrainingSettings

__all__ = ["FineTuning", "FineTuningSettings", "Pretraining", "PretrainingSettings", "Total"]
