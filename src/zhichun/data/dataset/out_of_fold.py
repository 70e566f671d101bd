"""Predictions of training pairs by models that did not train on them, collected from the runs of all folds.

Run k of K was trained without fold k and has predicted it (``predictions.parquet``); together they predict every judged
training pair exactly once. Legend: ``P`` judged training pairs, ``C`` classes.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.files import read_json
from zhichun.data.dataset.dataset import Dataset, read_parquet

PREDICTIONS_FILE: Final = "predictions.parquet"
PROBABILITIES: Final = tuple(f"p_{label}" for label in schema.LABELS)


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """What the models of the other folds say of each judged training pair.

    Attributes
    ----------
    rows_P
        The pairs' rows of ``examples.parquet``, ascending.
    probabilities_PC
        Of the labels in the order of `schema.LABELS`.
    """

    rows_P: npt.NDArray[np.int64]
    probabilities_PC: npt.NDArray[np.float64]


def fold_path(runs: Path, fold: int) -> Path:
    """Give the run folder of a fold, in the folder of the runs of all folds."""
    return runs / f"fold-{fold}"


def fold_count(dataset: Dataset) -> int:
    """Give the number of folds that a dataset was dealt into."""
    return int(dataset.manifest["options"]["folds"])


def read_out_of_fold(dataset: Dataset, runs: Path) -> OutOfFold:
    """Collect the out-of-fold probabilities of the four labels.

    Parameters
    ----------
    dataset
        The dataset that all runs were trained on.
    runs
        Folder with the runs ``fold-0``, ``fold-1`` …, as `zhichun.fit.folds.train_folds` makes them.

    Returns
    -------
    OutOfFold
        One prediction for each judged training pair.

    Raises
    ------
    UserError
        If a run is missing or not finished, is of another task, fold or dataset, has predicted a pair that is not its
        own, or has left one out. The run is named.
    """
    judged = (dataset.column(schema.SPLIT) == schema.TRAIN) & (dataset.column(schema.ORIGIN) == schema.JUDGED)
    rows_P = np.flatnonzero(judged)
    if not len(rows_P):
        raise UserError("there is no judged training pair.", file=dataset.folder)
    ids_P, folds_P = (dataset.column(name)[rows_P] for name in (schema.EXAMPLE_ID, schema.FOLD))
    probabilities_PC = np.full((len(rows_P), len(schema.LABELS)), np.nan)
    for fold in range(fold_count(dataset)):
        run = fold_path(runs, fold)
        _check_run(run, fold, dataset)
        own = np.flatnonzero(folds_P == fold)
        predicted = read_parquet(run / PREDICTIONS_FILE)
        probabilities_PC[own] = _of_fold(predicted, ids_P[own], run / PREDICTIONS_FILE)
    return OutOfFold(rows_P, probabilities_PC)


def _check_run(run: Path, fold: int, dataset: Dataset) -> None:
    remedy = "Train it, or go on with it: zhichun train RECIPE --folds K --resume; or zhichun audit RECIPE."
    if not (run / "model").is_dir():  # the last that training writes
        raise UserError(f"there is no finished run of fold {fold}.", file=run, remedy=remedy)
    recipe = read_json(run / "recipe.json", {"task": str, "train": {"validation_fold": int | NoneType}})
    environment = read_json(run / "environment.json", {"dataset": {"folder": str, "manifest": str}})
    if recipe["task"] != "esci":
        raise UserError(
            f"the run's task is {recipe['task']!r}, which does not tell the four labels apart.",
            file=run,
            remedy="Train runs of the task 'esci', such as kdd2022:task2 or tiny.",
        )
    if recipe["train"]["validation_fold"] != fold:
        raise UserError(
            f"the run held out fold {recipe['train']['validation_fold']}, not {fold}.",
            file=run,
            remedy="Name a folder made with: zhichun train RECIPE --folds K",
        )
    manifest = dataset.folder / "manifest.json"
    if environment["dataset"]["manifest"] != hashlib.sha256(manifest.read_bytes()).hexdigest():
        raise UserError(
            f"the run was trained on another dataset than {dataset.folder}.",
            file=run,
            remedy=f"It was trained on {environment['dataset']['folder']}.",
        )


def _of_fold(predicted: pa.Table, ids_F: npt.NDArray[np.int64], file: Path) -> npt.NDArray[np.float64]:
    """Put the predictions of a fold into the order of its pairs' ids."""
    remedy = "The run is damaged: delete it and train it again."
    if lacking := {schema.EXAMPLE_ID, *PROBABILITIES} - set(predicted.column_names):
        raise UserError(f"lacks the columns {sorted(lacking)}.", file=file, remedy=remedy)
    found = predicted.column(schema.EXAMPLE_ID).to_numpy()
    order = np.argsort(found, kind="stable")
    for ids, what in (
        (found[order[1:]][np.diff(found[order]) == 0], "is predicted twice"),
        (np.setdiff1d(found, ids_F), "is not a training pair of this fold"),
        (np.setdiff1d(ids_F, found), "is not predicted"),
    ):
        if len(ids):
            raise UserError(f"the pair with {schema.EXAMPLE_ID} {ids[0]} {what}.", file=file, remedy=remedy)
    columns = [predicted.column(name).to_numpy() for name in PROBABILITIES]
    probabilities = np.stack(columns, axis=1).astype(np.float64)[order][np.argsort(np.argsort(ids_F, kind="stable"))]
    if not np.isfinite(probabilities).all():
        raise UserError("holds probabilities that are no numbers.", file=file, remedy="Train it again in fp32.")
    return probabilities
