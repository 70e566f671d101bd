"""The metrics of a model's predictions: all three tasks, overall and by locale, with simple baselines.

Legend: ``P`` pairs, ``C`` classes.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from zhichun.core import schema
from zhichun.core.settings import kinds_of
from zhichun.core.tasks import SUBSTITUTE_INDEX, TASKS, Prediction
from zhichun.metrics import Judged, Metric, confusion


def reported(reads: str, classes: tuple[str, ...] = schema.LABELS) -> list[Metric]:
    """List the reported metrics that these arrays allow."""
    kinds = [kind for kind in kinds_of(Metric).values() if kind.reads == reads]
    return [metric for kind in kinds for metric in kind.reported(classes)]


def title_of(key: str) -> str:
    """Return the display name of a figure of ``metrics.json``."""
    classes = tuple(dict.fromkeys(label for task in TASKS.values() for label in task.classes))
    known = [metric for reads in ("predictions", "probabilities", "scores") for metric in reported(reads, classes)]
    return {metric.name: metric.title for metric in known}.get(key, key)


def measure(
    prediction: Prediction,
    labels_P: npt.NDArray[np.int64],
    query_ids: npt.NDArray[Any],
    locales: npt.NDArray[Any] | None = None,
) -> dict[str, Any]:
    """Measure predictions against judgements.

    Parameters
    ----------
    prediction
        The model's predictions.
    labels_P
        Judgements as places in `schema.LABELS`.
    query_ids
        Which query each pair belongs to, ``[P]``.
    locales
        Locale of each pair, ``[P]``; with it the figures by locale are there too.

    Returns
    -------
    dict
        Plain numbers by name: for four classes ``micro_f1``, ``macro_f1``, ``f1.E`` …, ``ndcg`` (gains 1, 0.1, 0.01, 0)
        and ``ndcg.official-script`` (S and C swapped), ``mrr``, precision at k, ``log_loss``, calibration error,
        ``confusion`` (rows are the truth), ``substitute`` (the figures of task 3), ``always_exact``,
        ``random_order``, and ``by_locale``. A regressor has the ranking figures only, a substitute model those of its
        two classes.
    """
    measured = _of_pairs(prediction, labels_P, query_ids)
    if locales is not None:
        measured["by_locale"] = {
            str(locale): _of_pairs(_select(prediction, locales == locale), labels_P[of], query_ids[of])
            for locale in np.unique(locales)
            for of in [locales == locale]
        }
    return measured


def _of_pairs(prediction: Prediction, labels_P: npt.NDArray[np.int64], query_ids: npt.NDArray[Any]) -> dict[str, Any]:
    task = prediction.task
    measured: dict[str, Any] = {"pairs": len(labels_P), "queries": len(np.unique(query_ids))}
    if task.classes:
        measured |= _classification(task.classes, np.asarray(task.targets(labels_P), np.int64), prediction, query_ids)
    if task.name != "substitute":
        ranked = Judged(query_ids, labels_P, scores=prediction.score.astype(np.float64))
        metrics = reported("scores")
        measured |= {metric.name: metric(ranked) for metric in metrics}
        measured["random_order"] = {metric.name: metric(ranked.in_random_order()) for metric in metrics}
    if task.name == "esci":
        measured["substitute"] = _as_substitute(prediction, labels_P, query_ids)
    return measured


def _classification(
    classes: tuple[str, ...],
    targets_P: npt.NDArray[np.int64],
    prediction: Prediction,
    query_ids: npt.NDArray[Any],
) -> dict[str, Any]:
    assert prediction.probabilities is not None
    judged = Judged(
        query_ids,
        targets_P,
        predictions=prediction.probabilities.argmax(axis=1),
        probabilities=prediction.probabilities.astype(np.float64),
        classes=classes,
    )
    metrics = reported("predictions", classes)
    measured: dict[str, Any] = {
        metric.name: metric(judged) for metric in (*metrics, *reported("probabilities", classes))
    }
    measured["confusion"] = confusion(judged).tolist()
    always = judged.always(classes[0])
    measured[f"always_{_name(classes[0])}"] = {metric.name: metric(always) for metric in metrics}
    return measured


def _as_substitute(
    prediction: Prediction, labels_P: npt.NDArray[np.int64], query_ids: npt.NDArray[Any]
) -> dict[str, float]:
    """Task 3 from four classes: the probability of S against the rest."""
    assert prediction.probabilities is not None
    task = TASKS["substitute"]
    of_substitute_P = prediction.probabilities[:, SUBSTITUTE_INDEX]
    judged = Judged(
        query_ids,
        np.asarray(task.targets(labels_P), np.int64),
        predictions=(of_substitute_P > 0.5).astype(np.int64),
        classes=task.classes,
    )
    return {metric.name: metric(judged) for metric in reported("predictions", ("S",))}


def _name(label: str) -> str:
    return schema.LABEL_NAMES.get(label, label).lower()


def _select(prediction: Prediction, rows: npt.NDArray[np.bool_]) -> Prediction:
    probabilities = None if prediction.probabilities is None else prediction.probabilities[rows]
    return Prediction(prediction.task, probabilities, prediction.score[rows])
