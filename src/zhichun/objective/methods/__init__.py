"""Training tricks, one for each file.

A second view is a method that runs the model again on a batch: ``second_view(first)``, and one of them fills the slot
``objective.second_view``.
"""

from zhichun.objective.methods.awp import AWP
from zhichun.objective.methods.dropout_view import DropoutView
from zhichun.objective.methods.ema import EMA
from zhichun.objective.methods.fgm import FGM
from zhichun.objective.methods.fgsm import FGSM
from zhichun.objective.methods.freelb import FreeLB
from zhichun.objective.methods.mixup import Mixup
from zhichun.objective.methods.pgd import PGD
from zhichun.objective.methods.rdrop import RDrop
from zhichun.objective.methods.smart import SMART

View = FGM | FGSM | PGD | FreeLB | SMART | AWP | DropoutView

__all__ = ["AWP", "EMA", "FGM", "FGSM", "PGD", "SMART", "DropoutView", "FreeLB", "Mixup", "RDrop", "View"]
