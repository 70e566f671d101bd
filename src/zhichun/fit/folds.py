"""One run for each fold of the queries: for out-of-fold predictions and for ensembles."""

import gc
import os
import time
from dataclasses import replace
from pathlib import Path

from zhichun.core.console import stderr
from zhichun.core.errors import UserError
from zhichun.data.dataset.dataset import Dataset
from zhichun.data.dataset.predictions import fold_count, fold_path
from zhichun.fit.recipe import Recipe
from zhichun.fit.run_folder import RunFolder
from zhichun.fit.train import train


def train_folds(recipe: Recipe, data: Path, out: Path, *, folds: int = 5, resume: bool = False) -> list[RunFolder]:
    """Train a recipe once for each fold of a dataset, each time without that fold.

    Under `accelerate launch` every process calls this.

    Parameters
    ----------
    recipe
        What to train and how; its ``train.validation_fold`` is set here.
    data
        Dataset folder of `zhichun prepare`.
    out
        Folder of the runs ``fold-0`` to ``fold-(K-1)``. Their ``predictions.parquet`` together say what the models
        think of every judged training pair that they did not train on.
    folds
        How many folds the dataset has.
    resume
        Leave finished runs as they are, go on with one that was killed, and start those that are not there yet.

    Returns
    -------
    list of RunFolder
        The runs, all finished.

    Raises
    ------
    UserError
        If the dataset has another number of folds, the recipe names a validation fold, or there are runs already and
        ``resume`` was not asked for; and as `zhichun.fit.train.train`.
    """
    _check(recipe, data, out, folds, resume)
    runs = []
    for fold in range(folds):
        began = time.monotonic()
        title = f"fold {fold + 1} of {folds}"
        done = RunFolder(fold_path(out, fold)).model.is_dir()
        of_fold = replace(recipe, train=replace(recipe.train, validation_fold=fold))
        runs.append(train(of_fold, data, fold_path(out, fold), resume=resume, title=title))
        gc.collect()  # or what is left of this model may stand in memory beside the next
        seconds, others = time.monotonic() - began, folds - 1 - fold
        left = f"; about {seconds * others:,.0f} s for the other {others}" if others else ""
        _say(f"{title}: was done already" if done else f"{title}: done in {seconds:,.0f} s{left}")
    return runs


def _check(recipe: Recipe, data: Path, out: Path, folds: int, resume: bool) -> None:
    """Refuse invalid options before training."""
    if recipe.train.validation_fold is not None:
        raise UserError(
            f"train.validation_fold={recipe.train.validation_fold} has no effect where every fold is held out once.",
            remedy="Leave it out; or leave --folds out to hold out that fold alone.",
        )
    there = fold_count(Dataset.open(data))
    if folds != there:
        raise UserError(
            f"the dataset has {there} folds, not {folds}.",
            file=data,
            remedy=f"Use --folds {there}, or prepare it with: zhichun prepare … --folds {folds}",
        )
    if (out / "recipe.json").is_file():
        raise UserError("there is a single run, not a folder of runs.", file=out, remedy="Choose another --out.")
    # Fold 0 is left to `train`: under a launcher, the first process may have begun it before another comes here.
    others = [run for run in (fold_path(out, fold) for fold in range(1, folds)) if run.exists()]
    if others and not resume:
        remedy = "Go on with --resume, or choose another --out."
        raise UserError("there is a run already.", file=others[0], remedy=remedy)


def _say(line: str) -> None:
    if os.environ.get("RANK", "0") == "0":  # a launcher's number of the process
        stderr.print(line, highlight=False, soft_wrap=True)
