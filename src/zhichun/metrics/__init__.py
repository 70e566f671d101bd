"""Metrics as objects: ``nDCG(gains="esci") @ 10`` is called on `Judged` pairs, and its `repr` recreates it.

A line here registers a metric.
"""

from zhichun.metrics.calibration import ExpectedCalibrationError as ExpectedCalibrationError
from zhichun.metrics.calibration import LogLoss as LogLoss
from zhichun.metrics.f1 import F1 as F1
from zhichun.metrics.f1 import ClassScores as ClassScores
from zhichun.metrics.f1 import MacroF1 as MacroF1
from zhichun.metrics.f1 import MicroF1 as MicroF1
from zhichun.metrics.f1 import class_scores as class_scores
from zhichun.metrics.f1 import confusion as confusion
from zhichun.metrics.judged import Judged as Judged
from zhichun.metrics.judged import label_codes as label_codes
from zhichun.metrics.metric import Metric as Metric
from zhichun.metrics.metric import RankingMetric as RankingMetric
from zhichun.metrics.ndcg import nDCG as nDCG
from zhichun.metrics.precision import Precision as Precision
from zhichun.metrics.reciprocal_rank import MRR as MRR
from zhichun.metrics.significance import Difference as Difference
from zhichun.metrics.significance import paired_bootstrap as paired_bootstrap
