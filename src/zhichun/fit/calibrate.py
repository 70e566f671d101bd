"""Calibration: probabilities that are as often right as they say, and labels that keep a promised precision.

Equation   ``p = softmax(z / T)``; with curves, ``p'_c = f_c(p_c) / Σ_k f_k(p_k)``, where each ``f_c`` rises
Reference  Guo et al., 2017, for the temperature; Zadrozny and Elkan, 2002, for isotonic curves of each class
           Angelopoulos et al., 2021, *Learn then Test*, for thresholds that keep a promise on other data

All is fitted to the pairs that the run held out, and kept in the model folder, which every engine, export and server
reads. Curves are tried where there are enough pairs, and kept where they lower the log loss of other queries; they may
change which label is likeliest. What is reported is cross-fitted: each half of the queries with what fits the other.

A label's threshold is the lowest at which its precision is shown to keep the promise, with 95 % confidence. Thresholds
are tested from the surest pairs downwards, from `STARTS` of the pairs that have the label, and each descent ends at the
first that fails: no correction is needed but for the number of starts. Pairs of one query err together, so that they
count as fewer (the design effect of the correlation within queries).

Legend: ``P`` pairs, ``C`` classes, ``B`` bins.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from statistics import NormalDist
from typing import Any, Final

import numpy as np
import pyarrow as pa

from zhichun.core import schema
from zhichun.core.arrays import Bools, Int64, write_parquet
from zhichun.core.errors import UserError
from zhichun.core.tasks import TASKS, Calibration, are_given, softmax
from zhichun.data.dataset import read_parquet
from zhichun.data.predictions import AS_TRAINED, PREDICTIONS_FILE, held_out_by, names_as_trained
from zhichun.data.readers.pair_tables import append_columns
from zhichun.metrics import ExpectedCalibrationError, Judged, LogLoss, label_codes
from zhichun.metrics.calibration import wilson
from zhichun.metrics.significance import Floats, Interval, draw_sums, intervals, to_json
from zhichun.model.model_folder import TrainedModel
from zhichun.score.folders import model_folder

METRICS: Final = (ExpectedCalibrationError(), LogLoss())
LEAST_QUERIES: Final = 20
LOWEST, HIGHEST = 0.05, 20.0
# Fewer pairs than that bend a curve by chance; each bin of one has so many.
PAIRS_FOR_CURVES: Final = 1000
PAIRS_OF_A_BIN: Final = 50
# Descents begin at these shares of a label's pairs, the surest first, and go on in fortieths.
STARTS: Final = (0.1, 0.25, 0.5, 0.75)
STEPS: Final = 40
CONFIDENCE: Final = 0.95


def calibrate(run: Path, *, precision: float | None = None) -> dict[str, Any]:
    """Calibrate a run on the pairs that it held out.

    Keeps what lowers their log loss in the model folder, and brings ``predictions.parquet`` to it.

    Parameters
    ----------
    run
        Run folder of a classifier.
    precision
        How often a label that is given shall be right; a pair that is less sure has none. All pairs have their
        likeliest label, if not given.

    Returns
    -------
    dict
        ``kind`` (``none``, ``temperature`` or ``curves``), ``temperature``, ``pairs``, ``queries``; ``figures``: by
        ``all`` and locale, ``before`` and ``after``, each metric with its 95 % interval; ``labels``: of each, with a
        precision, ``least``, ``given`` (the share of pairs that have it) and ``precision`` with its interval.

    Raises
    ------
    UserError
        For a run that is not finished, a regressor, less than 20 held-out queries, and a precision that is no share.
    """
    if precision is not None and not 0 < precision < 1:
        raise UserError(f"a precision of {precision} cannot be promised.", remedy="Give one such as 0.9.")
    folder = model_folder(run)
    task = TASKS[TrainedModel.load(folder).task.name]
    if not task.classes:
        raise UserError("a regressor has no probabilities to calibrate.", file=run, remedy="Give a classifier.")
    table, logits_PC = _as_trained(read_parquet(run / PREDICTIONS_FILE), task.classes)
    targets_P = np.asarray(task.targets(label_codes(table.column(schema.LABEL).to_pylist())), np.int64)
    queries, query_P = np.unique(table.column(schema.QUERY_ID).to_numpy(), return_inverse=True)
    if len(queries) < LEAST_QUERIES:
        problem = f"held out {len(queries)} queries, and {LEAST_QUERIES} are the least."
        remedy = "Prepare the dataset with fewer --folds, and train it again."  # each holds out more
        if held_out_by(run) is None:
            remedy = "Train it again with a fold held out: zhichun train … --set train.validation_fold=0."
        raise UserError(problem, file=run, remedy=remedy)
    kind, after_PC, given_P = cross_fitted(logits_PC, targets_P, query_P, precision)
    after = Judged(query_P, targets_P, probabilities=after_PC, classes=task.classes)
    both = {"before": replace(after, probabilities=softmax(logits_PC)), "after": after}
    locale_P = table.column(schema.LOCALE).to_numpy()
    parts = {"all": np.ones(len(query_P), bool), **{str(name): locale_P == name for name in np.unique(locale_P)}}
    figures = {
        name: {when: to_json(intervals(METRICS, of.select(mask))) for when, of in both.items()}
        for name, mask in parts.items()
    }
    fitted = fit(kind, logits_PC, targets_P)
    about: dict[str, Any] = {"kind": kind, "pairs": len(query_P), "queries": len(queries), "figures": figures}
    if precision is not None:
        least = thresholds(fitted.probabilities(logits_PC), targets_P, query_P, precision)
        fitted = replace(fitted, least=dict(zip(task.classes, least, strict=True)))
        measured = zip(fitted.least.items(), label_figures(after, given_P), strict=True)
        about |= {"promised": precision, "labels": {name: {"least": at, **of} for (name, at), of in measured}}
    fitted = replace(fitted, about=about)
    fitted.save(folder)
    write_parquet(run / PREDICTIONS_FILE, append_columns(table, replace(task, calibration=fitted).predict(logits_PC)))
    return {**about, "temperature": fitted.temperature}


def _as_trained(table: pa.Table, classes: Sequence[str]) -> tuple[pa.Table, Floats]:
    """Keep what was predicted before any calibration under names of its own; give the rest of the table, and logits."""
    names = [f"p_{name}" for name in classes]
    kept = names_as_trained(names, table.column_names)
    columns = [table.column(name) for name in kept]
    table = table.drop_columns([name for name in table.column_names if name in (*names, *kept, "label", "gain")])
    for name, column in zip(names, columns, strict=True):
        table = table.append_column(AS_TRAINED + name, column)
    probabilities_PC = np.stack([column.to_numpy() for column in columns], axis=1).astype(np.float64)
    return table, np.log(np.maximum(probabilities_PC, 1e-12))


def cross_fitted(
    logits_PC: Floats, targets_P: Int64, query_P: Int64, precision: float | None = None
) -> tuple[str, Floats, Bools]:
    """Calibrate each half of the queries by the other, in the way that gives the lowest log loss.

    A way with more freedom is taken only for a gain of more than its own noise, one standard error over queries.

    Returns
    -------
    tuple
        The way; the probabilities, ``[P, C]``; and which pairs have their likeliest label at a precision, ``[P]``.
    """
    first_P, rows = query_P % 2 == 0, np.arange(len(targets_P))
    ways = ["none", "temperature", *(["curves"] if len(rows) >= PAIRS_FOR_CURVES else [])]
    found = {}
    for way in ways:
        found[way] = np.empty(logits_PC.shape)
        for half in (first_P, ~first_P):
            found[way][half] = fit(way, logits_PC[~half], targets_P[~half]).probabilities(logits_PC[half])
    loss_QW = np.stack([np.bincount(query_P, -np.log(found[way][rows, targets_P] + 1e-300)) for way in ways], axis=1)
    place = 0
    for other in range(1, len(ways)):
        gain_Q = loss_QW[:, place] - loss_QW[:, other]
        if gain_Q.sum() > gain_Q.std() * np.sqrt(len(gain_Q)):
            place = other
    best = ways[place]
    given_P = np.ones(len(rows), bool)
    if precision is not None:
        for half in (first_P, ~first_P):
            fitted_PC = fit(best, logits_PC[~half], targets_P[~half]).probabilities(logits_PC[~half])
            least = thresholds(fitted_PC, targets_P[~half], query_P[~half], precision)
            given_P[half] = are_given(found[best][half], least)
    return best, found[best], given_P


def fit(way: str, logits_PC: Floats, targets_P: Int64) -> Calibration:
    """Fit a calibration in one of the ways: ``none``, ``temperature``, or ``curves`` after the temperature."""
    made = Calibration(temperature=1.0 if way == "none" else best_temperature(logits_PC, targets_P))
    if way != "curves":
        return made
    columns = made.probabilities(logits_PC).T
    return replace(made, curves=tuple(rising_curve(of_P, targets_P == place) for place, of_P in enumerate(columns)))


def best_temperature(logits_PC: Floats, targets_P: Int64) -> float:
    """Find the temperature with the lowest log loss, to a thousandth of itself; the loss has one minimum."""
    low, high, rows = np.log(LOWEST), np.log(HIGHEST), np.arange(len(targets_P))
    while high - low > 1e-3:
        thirds = low + (high - low) * np.array([1 / 3, 2 / 3])
        losses = [-np.log(softmax(logits_PC, np.exp(each))[rows, targets_P] + 1e-300).mean() for each in thirds]
        low, high = (low, thirds[1]) if losses[0] < losses[1] else (thirds[0], high)
    return float(np.exp((low + high) / 2))


def rising_curve(said_P: Floats, true_P: Bools) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Fit the rising curve from a class's probability to how often it is true (isotonic regression of bins).

    Bins that would fall are joined (pool adjacent violators). Each counts the model's own mean probability as one pair
    more, so that none is at 0. Before the first and after the last the curve goes half the way to 0 and to 1: it rises
    everywhere, so that no two scores become one.
    """
    pools: list[tuple[float, float, float]] = []  # pairs, true ones, and the sum of what was said
    for places in np.array_split(np.argsort(said_P, kind="stable"), max(1, len(said_P) // PAIRS_OF_A_BIN)):
        said = float(said_P[places].sum())
        pools.append((len(places) + 1.0, float(true_P[places].sum()) + said / len(places), said / len(places)))
        while len(pools) > 1 and pools[-2][1] * pools[-1][0] >= pools[-1][1] * pools[-2][0]:
            (n, true, mean), (m, more, other) = pools.pop(-2), pools.pop()
            pools.append((n + m, true + more, (n * mean + m * other) / (n + m)))
    xs = [mean for _, _, mean in pools]
    ys = [min(true / n, 1.0) for n, true, _ in pools]
    return (0.0, *xs, 1.0), (ys[0] / 2, *ys, (1 + ys[-1]) / 2)


def thresholds(probabilities_PC: Floats, targets_P: Int64, query_P: Int64, precision: float) -> list[float | None]:
    """Find the lowest probability of each class at which its label is shown to be right so often, if there is one."""
    label_P, sure_P = probabilities_PC.argmax(axis=1), probabilities_PC.max(axis=1)
    masks = (label_P == place for place in range(probabilities_PC.shape[1]))
    right_P = label_P == targets_P
    return [_threshold(sure_P[mask], right_P[mask], query_P[mask], precision) for mask in masks]


def _threshold(sure_P: Floats, right_P: Bools, query_P: Int64, precision: float) -> float | None:
    order = np.argsort(-sure_P, kind="stable")
    sure_P, right_P, query_P = sure_P[order], right_P[order], query_P[order]
    if not len(order):
        return None
    alike, z = _correlation(right_P - sure_P, query_P), NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / len(STARTS))

    def keeps(share: float) -> bool:
        count = int(np.searchsorted(-sure_P, -at(share), side="right"))  # with all that are as sure
        crowd = (np.unique(query_P[:count], return_counts=True)[1] ** 2).sum() / count
        return bool(wilson(right_P[:count].mean(), count / (1 + (crowd - 1) * alike), z)[0] >= precision)

    def at(share: float) -> float:
        return float(sure_P[max(0, round(share * len(sure_P)) - 1)])

    descents = (np.arange(round(start * STEPS), STEPS + 1) / STEPS for start in STARTS)
    kept = [float(share) for descent in descents for share in takewhile(keeps, descent)]
    return at(max(kept)) if kept else None


def _correlation(error_P: Floats, query_P: Int64) -> float:
    """Estimate how far errors of one query go together, from 0 to 1, over all pairs of two pairs of a query."""
    of_query = np.unique(query_P, return_inverse=True)[1]
    sum_Q, squares, pairs_Q = np.bincount(of_query, error_P), (error_P**2).sum(), np.bincount(of_query)
    twos = (pairs_Q * (pairs_Q - 1)).sum()
    return float(np.clip(((sum_Q**2).sum() - squares) / max(twos, 1) / max(squares / len(error_P), 1e-12), 0, 1))


def label_figures(judged: Judged, given_P: Bools) -> list[dict[str, Any]]:
    """Measure of each class how many pairs have it as label, and how often that is right, with its interval."""
    assert judged.probabilities is not None
    label_P, figures = judged.probabilities.argmax(axis=1), []
    for place in range(len(judged.classes)):
        given = given_P & (label_P == place)
        sums_Q2 = judged.sum_by_query(np.stack([given & (judged.labels == place), given], axis=1).astype(np.float64))
        with np.errstate(invalid="ignore"):  # where no draw has such a pair
            total_2, drawn_S2 = sums_Q2.sum(axis=0), draw_sums(sums_Q2, draws=2000, seed=0)
            found = Interval.of(total_2[:1] / total_2[1:], drawn_S2[:, :1] / drawn_S2[:, 1:])[0]
        figures.append({"given": float(given.mean()), "precision": found.to_json() if given.any() else None})
    return figures
