"""One run for each fold of the queries: for out-of-fold predictions and for ensembles."""

import gc
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

from zhichun.core.console import say_aside
from zhichun.core.errors import UserError
from zhichun.core.files import read_json
from zhichun.data.dataset.dataset import Dataset
from zhichun.data.dataset.predictions import find_tables, fold_count, fold_path, nested_path
from zhichun.fit.recipe import Recipe
from zhichun.fit.run_folder import RunFolder
from zhichun.fit.train import train
from zhichun.model.encoder_settings import TINY


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
    _check(recipe, data, out, folds, resume)
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
        _say(f"{title}: was done already" if done else f"{title}: done in {seconds:,.0f} s{left}")
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


def refuse_leaks(recipe: Mapping[str, Any], run: Path) -> None:
    """Refuse a recorded recipe of which the held-out folds have had a part in the training.

    Raises
    ------
    UserError
        When the checkpoint was chosen by them, or a teacher or the encoder's pre-training read their queries.
    """
    train_of = recipe["train"]
    held_out = _folds_of(train_of)
    named = " and ".join(map(str, sorted(held_out)))
    if train_of.get("keep") != "last":
        raise UserError(
            f"its checkpoint was chosen by fold {named}, which it predicts.",
            file=run,
            remedy="Train the folds anew, which keeps the last step's: zhichun train RECIPE --folds K --out NEW",
        )
    for what, path, seen in _read_by(recipe, run):
        if not held_out <= seen:
            raise UserError(
                f"the {what} {path} has read queries of fold {named}, which this run is to predict.",
                file=run,
                remedy="Teach with runs of zhichun train RECIPE --folds K --nested; pre-train without pair_mlm.",
            )


def _read_by(recipe: Mapping[str, Any], run: Path) -> Iterator[tuple[str, Path, set[int]]]:
    """Name what a recipe learns from beside the judgements, and the folds whose queries that has not read."""
    for table in find_tables((recipe["train"].get("soft_labels") or {}).get("predictions", ())):
        recorded = table.parent / "recipe.json"
        if recorded.is_file():  # a table of somebody's own says nothing of where it is from
            yield "teacher", table.parent, _folds_of(read_json(recorded, {"train": dict})["train"])
    seen: set[Path] = set()
    # Each stage of pre-training may have begun with the encoder of one before it.
    while (name := recipe["model"].get("encoder")) and name != TINY:
        # A relative path was given in the folder of that call, which is mostly this one or one above the run.
        encoder = next((path for place in (Path(), *run.parents) if (path := place / name).exists()), Path(name))
        record = next(filter(Path.is_file, (encoder / "recipe.json", encoder.parent / "recipe.json")), None)
        if record is None or record.resolve() in seen:
            return
        seen.add(record.resolve())
        recipe, run = read_json(record, {"model": dict, "train": dict, "objective": dict}), record.parent
        if recipe["objective"].get("pair_mlm") is not None:  # the only task that reads queries
            yield "encoder", encoder, _folds_of(recipe["train"])


def _folds_of(settings: Mapping[str, Any]) -> set[int]:
    fold = settings.get("validation_fold")
    return set() if fold is None else set(fold) if isinstance(fold, list) else {fold}


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
        say_aside(line)
