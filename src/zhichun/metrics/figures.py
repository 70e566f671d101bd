"""The metrics of a model's predictions: all three tasks, overall and by locale, with simple baselines.

Legend: ``P`` pairs, ``C`` classes.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from zhichun.core import schema
from zhichun.core.settings import kinds_of
from zhichun.core.tasks import TASKS, Prediction
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


def flat(measured: dict[str, Any]) -> dict[str, float]:
    """Take the figures out of what `measure` gives, those of task 3 under their own names."""
    found = {key: value for key, value in measured.items() if isinstance(value, float)}
    return found | {f"substitute.{key}": value for key, value in measured.get("substitute", {}).items()}


def baselines(measured: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return the baselines in what `measure` gives, by display name: always the first class, and a random order."""
    found = {f"always {name[7:].capitalize()}": value for name, value in measured.items() if name.startswith("always_")}
    return {**found, "random order": measured["random_order"]} if "random_order" in measured else found


def ranked(prediction: Prediction, labels_P: npt.NDArray[np.int64], query_ids: npt.NDArray[Any]) -> Judged:
    """Put judgements beside a prediction's scores."""
    return Judged(query_ids, labels_P, scores=prediction.score.astype(np.float64))


def classified(prediction: Prediction, labels_P: npt.NDArray[np.int64], query_ids: npt.NDArray[Any]) -> Judged:
    """Put judgements, as classes of the prediction's task, beside its classes and their probabilities."""
    assert prediction.probabilities is not None
    return Judged(
        query_ids,
        np.asarray(prediction.task.targets(labels_P), np.int64),
        predictions=prediction.probabilities.argmax(axis=1),
        probabilities=prediction.probabilities.astype(np.float64),
        classes=prediction.task.classes,
    )


def _of_pairs(prediction: Prediction, labels_P: npt.NDArray[np.int64], query_ids: npt.NDArray[Any]) -> dict[str, Any]:
    task, classes = prediction.task, prediction.task.classes
    measured: dict[str, Any] = {"pairs": len(labels_P), "queries": len(np.unique(query_ids))}
    if classes:
        judged, metrics = classified(prediction, labels_P, query_ids), reported("predictions", classes)
        measured |= _figures([*metrics, *reported("probabilities", classes)], judged)
        measured["confusion"] = confusion(judged).tolist()
        measured[f"always_{_name(classes[0])}"] = _figures(metrics, judged.always(classes[0]))
    if task.name != "substitute":
        of_scores, metrics = ranked(prediction, labels_P, query_ids), reported("scores")
        measured |= _figures(metrics, of_scores)
        measured["random_order"] = _figures(metrics, of_scores.in_random_order())
    if task.name == "esci":  # task 3 from four classes: the probability of S against the rest
        assert prediction.probabilities is not None
        substitute = TASKS["substitute"]
        shares_P2 = substitute.soft_targets(prediction.probabilities).astype(np.float64)
        judged = classified(substitute.of_probabilities(shares_P2), labels_P, query_ids)
        measured["substitute"] = _figures(reported("predictions", ("S",)), judged)
    return measured


def _figures(metrics: Iterable[Metric], judged: Judged) -> dict[str, float]:
    return {metric.name: metric(judged) for metric in metrics}


def _name(label: str) -> str:
    return schema.LABEL_NAMES.get(label, label).lower()


def _select(prediction: Prediction, rows: npt.NDArray[np.bool_]) -> Prediction:
    probabilities = None if prediction.probabilities is None else prediction.probabilities[rows]
    return Prediction(prediction.task, probabilities, prediction.score[rows])
