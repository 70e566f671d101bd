"""Training tricks, one for each file.

A second view is a method that runs the model again on a batch: ``second_view(first)``, and one of them fills the slot
``objective.second_view``.
"""

from zhichun.methods.awp import AWP
from zhichun.methods.dropout_view import DropoutView
from zhichun.methods.ema import EMA
from zhichun.methods.fgm import FGM
from zhichun.methods.fgsm import FGSM
from zhichun.methods.freelb import FreeLB
from zhichun.methods.mixup import Mixup
from zhichun.methods.pgd import PGD
from zhichun.methods.rdrop import RDrop
from zhichun.methods.smart import SMART

View = FGM | FGSM | PGD | FreeLB | SMART | AWP | DropoutView

__all__ = ["AWP", "EMA", "FGM", "FGSM", "PGD", "SMART", "DropoutView", "FreeLB", "Mixup", "RDrop", "View"]
