"""The metrics of a model's predictions: all three tasks, overall and by locale, with simple baselines.

Legend: ``P`` pairs, ``C`` classes.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from zhichun.core import schema
from zhichun.core.settings import kinds_of
from zhichun.core.tasks import TASKS, Prediction, Task
from zhichun.metrics import Judged, Metric, confusion
from zhichun.metrics.metric import measurable


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
    *,
    by_list: bool = False,
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
    by_list
        Whether the figures of queries with one pair (``singletons``) and with several (``lists``) are there too.

    Returns
    -------
    dict
        Plain numbers by name: for four classes ``micro_f1``, ``macro_f1``, ``f1.E`` …, ``ndcg`` (gains 1, 0.1, 0.01, 0)
        and ``ndcg.official-script`` (S and C swapped), ``mrr``, precision at k, ``log_loss``, calibration error,
        ``confusion`` (rows are the truth), ``substitute`` (the figures of task 3), ``always_exact``,
        ``random_order``, ``by_locale`` and ``by_list``. A regressor has the ranking figures only, a substitute model
        those of its two classes; where every query has one pair, there are none of ranking.
    """
    measured = _of_pairs(prediction, labels_P, query_ids)
    parts: dict[str, dict[str, npt.NDArray[np.bool_]]] = {}
    if locales is not None:
        parts["by_locale"] = {str(locale): locales == locale for locale in np.unique(locales)}
    if by_list:
        size_P = list_sizes(query_ids)
        parts["by_list"] = {"lists": size_P > 1, "singletons": size_P == 1}
    for name, masks in parts.items():
        measured[name] = {
            part: _of_pairs(prediction.select(of_P), labels_P[of_P], query_ids[of_P])
            for part, of_P in masks.items()
            if of_P.any()
        }
    return measured


def list_sizes(query_ids: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Count the pairs of each pair's query, ``[P]``."""
    _, of_P, counts = np.unique(query_ids, return_inverse=True, return_counts=True)
    return counts[of_P]


def by_list_size(
    task: Task,
    known: tuple[npt.NDArray[np.int64], npt.NDArray[Any]],
    labels_P: npt.NDArray[np.int64],
    query_ids: npt.NDArray[Any],
) -> dict[str, float]:
    """Measure what a model would reach that knew the size of a list and nothing else.

    Parameters
    ----------
    task
        Of the model that it stands beside.
    known
        Labels and query ids of other pairs, from which the shares of the labels by the size of the list are taken; a
        size that is not among them has those of the nearest one.
    labels_P, query_ids
        As for `measure`.
    """
    size_K, size_P = list_sizes(known[1]), list_sizes(query_ids)
    sizes = np.unique(size_K)
    counts = np.stack([np.bincount(known[0][size_K == size], minlength=len(schema.LABELS)) for size in sizes])
    place_P = np.abs(size_P[:, None] - sizes).argmin(axis=1)
    said_PC = task.soft_targets((counts / counts.sum(axis=1, keepdims=True))[place_P].astype(np.float32))
    made = task.of_probabilities(said_PC.astype(np.float64)) if task.classes else Prediction(task, None, said_PC)
    return flat(_of_pairs(made, labels_P, query_ids))


def flat(measured: dict[str, Any]) -> dict[str, float]:
    """Take the figures out of what `measure` gives, those of task 3 under their own names."""
    found = {key: value for key, value in measured.items() if isinstance(value, float)}
    return found | {f"substitute.{key}": value for key, value in measured.get("substitute", {}).items()}


def baselines(measured: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return the baselines beside what `measure` gives, by display name: always the first class, a random order, …."""
    found = {f"always {name[7:].capitalize()}": value for name, value in measured.items() if name.startswith("always_")}
    named = {"random_order": "random order", "list_size_alone": "list size alone"}
    return found | {name: measured[key] for key, name in named.items() if key in measured}


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
        of_scores = ranked(prediction, labels_P, query_ids)
        if metrics := measurable(reported("scores"), of_scores):
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
