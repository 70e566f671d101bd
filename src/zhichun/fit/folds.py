"""One run for each fold of the queries: for out-of-fold predictions and for ensembles."""

import gc
import os
import time
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from zhichun.core.console import say_aside
from zhichun.core.errors import UserError
from zhichun.data.dataset import Dataset
from zhichun.data.predictions import fold_count, fold_path, nested_path
from zhichun.fit.recipe import Recipe
from zhichun.fit.run_folder import RunFolder, refuse_leaks
from zhichun.fit.train import train


def train_folds(
    recipe: Recipe, data: Path, out: Path, *, folds: int = 5, nested: bool = False, resume: bool = False
) -> list[RunFolder]:
    """Train a recipe once for each fold of a dataset, each time without that fold.

    Every run keeps the weights of its last step: a checkpoint that the fold had chosen would know it. Under
    `accelerate launch` every process calls this.

    Parameters
    ----------
    recipe
        What to train and how; its ``train.validation_fold`` and ``train.keep`` are set here.
    data
        Dataset folder of `zhichun prepare`.
    out
        Folder of the runs ``fold-0`` to ``fold-(K-1)``. Their ``predictions.parquet`` together say what the models
        think of every judged training pair that they did not train on.
    folds
        How many folds the dataset has.
    nested
        Also train a run without each two of the folds, ``nested-0-1`` …, which `zhichun stack` measures itself with.
    resume
        Leave finished runs as they are, go on with one that was killed, and start those that are not there yet.

    Returns
    -------
    list of RunFolder
        The runs, all finished.

    Raises
    ------
    UserError
        If the dataset has another number of folds, the recipe names a validation fold, a teacher or the encoder has
        read what is held out, or there are runs already and ``resume`` was not asked for; and as
        `zhichun.fit.train.train`.
    """
    _check(recipe, data, out, folds, nested, resume)
    planned: list[tuple[Path, tuple[int, ...]]] = [(fold_path(out, fold), (fold,)) for fold in range(folds)]
    if nested:
        planned += [(nested_path(out, *both), both) for both in combinations(range(folds), 2)]
    recipes = [_without(recipe, held_out) for _, held_out in planned]
    for of_run, (place, _) in zip(recipes, planned, strict=True):
        refuse_leaks(of_run.to_json(), place)
    runs = []
    for number, (of_run, (place, held_out)) in enumerate(zip(recipes, planned, strict=True), start=1):
        began = time.monotonic()
        title = f"fold {number} of {folds}" if number <= folds else f"without folds {held_out[0]} and {held_out[1]}"
        done = RunFolder(place).model.is_dir()
        runs.append(train(of_run, data, place, resume=resume, title=title))
        gc.collect()  # or what is left of this model may stand in memory beside the next
        seconds, others = time.monotonic() - began, len(planned) - number
        left = f"; about {seconds * others:,.0f} s for the other {others}" if others else ""
        if os.environ.get("RANK", "0") == "0":  # a launcher's number of the process
            say_aside(f"{title}: was done already" if done else f"{title}: done in {seconds:,.0f} s{left}")
    return runs


def _without(recipe: Recipe, held_out: tuple[int, ...]) -> Recipe:
    """Leave folds out of a recipe, and let it learn from those teachers alone that left them out too."""
    fold = held_out[0] if len(held_out) == 1 else held_out
    soft = recipe.train.soft_labels
    if soft is not None and len(held_out) == 1:
        places = [str(each) for place in soft.predictions for each in runs_without(Path(place), held_out[0])]
        soft = replace(soft, predictions=tuple(places))
    trained = replace(recipe.train, validation_fold=fold, keep="last", patience=None, soft_labels=soft)
    return replace(recipe, train=trained)


def runs_without(place: Path, fold: int) -> list[Path]:
    """Return the runs of a folder of all folds that left out this one and another; the place itself without such."""
    found = [run for run in sorted(place.glob("nested-*-*")) if str(fold) in run.name.split("-")[1:]]
    return found or [place]


def _check(recipe: Recipe, data: Path, out: Path, folds: int, nested: bool, resume: bool) -> None:
    """Refuse invalid options before training."""
    if recipe.train.validation_fold is not None:
        problem = f"train.validation_fold={recipe.train.validation_fold} has no effect: every fold is held out once."
        raise UserError(problem, remedy="Leave it out; or leave --folds out to hold out that fold alone.")
    there = fold_count(Dataset.open(data))
    if folds != there:
        remedy = f"Use --folds {there}, or prepare it with: zhichun prepare … --folds {folds}"
        raise UserError(f"the dataset has {there} folds, not {folds}.", file=data, remedy=remedy)
    if (pool := recipe.train.pool_path) is not None:
        remedy = "Train on it without --folds, or use --set train.pool=null."
        raise UserError(
            "no teacher held out every fold, so that each fold's run could learn of it.", file=pool, remedy=remedy
        )
    if nested and folds < 3:
        remedy = "Leave --nested out, or prepare it with: zhichun prepare … --folds 3"
        raise UserError("without both of two folds there is no pair to train on.", file=data, remedy=remedy)
    if (out / "recipe.json").is_file():
        raise UserError("there is a single run, not a folder of runs.", file=out, remedy="Choose another --out.")
    # Fold 0 is left to `train`: under a launcher, the first process may have begun it before another comes here.
    others = [run for run in (fold_path(out, fold) for fold in range(1, folds)) if run.exists()]
    if others and not resume:
        remedy = "Go on with --resume, or choose another --out."
        raise UserError("there is a run already.", file=others[0], remedy=remedy)
