"""Temperature: one number that a model's logits are divided by, so that probabilities are as often right as they say.

It is fitted to the pairs that the run held out, by their log loss (Guo et al., 2017), and kept in the model folder,
which every engine, export and server reads. It changes no label. The figures before and after are cross-fitted: each
half of the queries with the temperature of the other.

Legend: ``P`` pairs, ``C`` classes.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from zhichun.core import schema
from zhichun.core.arrays import Int64
from zhichun.core.errors import UserError
from zhichun.core.files import write_json
from zhichun.core.tasks import CALIBRATION_FILE, TASKS, softmax
from zhichun.data.dataset.dataset import read_parquet
from zhichun.data.dataset.predictions import PREDICTIONS_FILE
from zhichun.metrics import ExpectedCalibrationError, Judged, LogLoss, label_codes
from zhichun.metrics.significance import Floats, intervals
from zhichun.model.model_folder import TrainedModel
from zhichun.score.folders import model_folder

METRICS: Final = (ExpectedCalibrationError(), LogLoss())
LEAST_QUERIES: Final = 20
LOWEST, HIGHEST = 0.05, 20.0


def calibrate(run: Path) -> dict[str, Any]:
    """Fit a temperature to the held-out pairs of a run, and keep it where it makes their log loss lower.

    Parameters
    ----------
    run
        Run folder of a classifier.

    Returns
    -------
    dict
        ``temperature`` (1 where none helps), ``pairs``, ``queries``, and ``figures``: by ``all`` and locale, ``before``
        and ``after``, each metric with its 95 % interval.

    Raises
    ------
    UserError
        For a run that is not finished, a regressor, and less than 20 held-out queries.
    """
    folder = model_folder(run)
    task = TASKS[TrainedModel.load(folder).task.name]
    if not task.classes:
        raise UserError("a regressor has no probabilities to calibrate.", file=run, remedy="Give a classifier.")
    table = read_parquet(run / PREDICTIONS_FILE)
    probabilities_PC = np.stack([table.column(f"p_{name}").to_numpy() for name in task.classes], axis=1)
    logits_PC = np.log(np.maximum(probabilities_PC.astype(np.float64), 1e-12))
    targets_P = np.asarray(task.targets(label_codes(table.column(schema.LABEL).to_pylist())), np.int64)
    queries, query_P = np.unique(table.column(schema.QUERY_ID).to_numpy(), return_inverse=True)
    if len(queries) < LEAST_QUERIES:
        problem = f"held out {len(queries)} queries, and {LEAST_QUERIES} are the least."
        raise UserError(problem, file=run, remedy="Hold out a fold: --set train.validation_fold=0.")
    first_P = query_P % 2 == 0
    of_first, of_second = (best_temperature(logits_PC[half], targets_P[half]) for half in (first_P, ~first_P))
    of_other_P = np.where(first_P, of_second, of_first)
    before, after = (
        Judged(query_P, targets_P, probabilities=softmax(logits_PC, divisor), classes=task.classes)
        for divisor in (1.0, of_other_P[:, None])
    )
    locales_P = table.column(schema.LOCALE).to_numpy()
    parts = {"all": np.ones(len(query_P), bool), **{str(name): locales_P == name for name in np.unique(locales_P)}}
    figures = {
        name: {
            when: {metric: asdict(each) for metric, each in intervals(METRICS, judged.select(mask)).items()}
            for when, judged in (("before", before), ("after", after))
        }
        for name, mask in parts.items()
    }
    helps = figures["all"]["after"]["log_loss"]["value"] < figures["all"]["before"]["log_loss"]["value"]
    found = {
        "temperature": best_temperature(logits_PC, targets_P) if helps else 1.0,
        "pairs": len(query_P),
        "queries": len(queries),
        "figures": figures,
    }
    if helps:
        write_json(folder / CALIBRATION_FILE, found)
    else:
        (folder / CALIBRATION_FILE).unlink(missing_ok=True)
    return found


def best_temperature(logits_PC: Floats, targets_P: Int64) -> float:
    """Find the temperature with the lowest log loss, to a thousandth of itself; the loss has one minimum."""
    low, high, rows = np.log(LOWEST), np.log(HIGHEST), np.arange(len(targets_P))
    while high - low > 1e-3:
        thirds = low + (high - low) * np.array([1 / 3, 2 / 3])
        losses = [-np.log(softmax(logits_PC, np.exp(each))[rows, targets_P] + 1e-300).mean() for each in thirds]
        low, high = (low, thirds[1]) if losses[0] < losses[1] else (thirds[0], high)
    return float(np.exp((low + high) / 2))
