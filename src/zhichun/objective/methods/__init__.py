"""Training methods, one per file; a line here registers a method.

A second view (`zhichun.objective.views.View`) runs the model again on a batch; one fills ``objective.second_view``.
"""

from zhichun.objective.methods.awp import AWP as AWP
from zhichun.objective.methods.dropout_view import DropoutView as DropoutView
from zhichun.objective.methods.ema import EMA as EMA
from zhichun.objective.methods.fgm import FGM as FGM
from zhichun.objective.methods.fgsm import FGSM as FGSM
from zhichun.objective.methods.freelb import FreeLB as FreeLB
from zhichun.objective.methods.mixup import Mixup as Mixup
from zhichun.objective.methods.pgd import PGD as PGD
from zhichun.objective.methods.rdrop import RDrop as RDrop
from zhichun.objective.methods.smart import SMART as SMART
