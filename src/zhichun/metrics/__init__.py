"""Metrics as values: ``nDCG(gains="esci") @ 10`` is called on `Judged` pairs, and its `repr` makes it again."""

from zhichun.metrics.calibration import BrierScore, ExpectedCalibrationError, LogLoss
from zhichun.metrics.f1 import F1, ClassScores, MacroF1, MicroF1, class_scores, confusion
from zhichun.metrics.judged import Judged, label_codes
from zhichun.metrics.metric import Metric, RankingMetric
from zhichun.metrics.ndcg import nDCG
from zhichun.metrics.precision import Precision
from zhichun.metrics.reciprocal_rank import MRR
from zhichun.metrics.run import judge_run
from zhichun.metrics.significance import Difference, paired_bootstrap

__all__ = [
    "F1",
    "MRR",
    "BrierScore",
    "ClassScores",
    "Difference",
    "ExpectedCalibrationError",
    "Judged",
    "LogLoss",
    "MacroF1",
    "Metric",
    "MicroF1",
    "Precision",
    "RankingMetric",
    "class_scores",
    "confusion",
    "judge_run",
    "label_codes",
    "nDCG",
    "paired_bootstrap",
]
