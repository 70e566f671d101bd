"""Ablations: the rows of the paper's tables, trained with several seeds each and compared."""

from zhichun.ablate.ablation import Ablation, Dropping, Row
from zhichun.ablate.table import ablate

__all__ = ["Ablation", "Dropping", "Row", "ablate"]
