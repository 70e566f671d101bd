"""Ablations: a table whose rows are trained with several seeds each, compared, and set beside the paper's figures."""

from zhichun.ablate.ablation import Ablation, Dropping, Row
from zhichun.ablate.table import ablate

__all__ = ["Ablation", "Dropping", "Row", "ablate"]
