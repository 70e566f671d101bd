"""Make an ensemble folder of trained models."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from zhichun.core.arrays import Doubles
from zhichun.core.errors import UserError
from zhichun.core.files import new_folder, read_json
from zhichun.core.tasks import TASKS, Task
from zhichun.data.dataset import Dataset
from zhichun.score import folders
from zhichun.score.ensemble_weights import HeldOutByAll, against_best, difference, equal_weights, figures

COPIES: Final = "members"


def make_ensemble(
    places: Sequence[Path],
    out: Path,
    *,
    weights: Literal["equal", "fitted"] = "equal",
    data: Path | None = None,
    copy: bool = False,
    overwrite: bool = False,
) -> folders.EnsembleConfig:
    """Put trained models together.

    Parameters
    ----------
    places
        Run folders, model folders, exports, or folders of the runs of all folds (``zhichun train --folds``), each of
        which weighs as one model.
    out
        Ensemble folder to make.
    weights
        ``equal``: all classifiers alike, all regressors alike, and both kinds alike. ``fitted``: what fits the pairs
        that all of them held out.
    data
        Dataset whose judgements the weights are fitted to and the ensemble is measured on; nothing is measured if not
        given.
    copy
        Copy the models into the folder, in place of referring to them.
    overwrite
        Replace an ensemble that is there.

    Returns
    -------
    EnsembleConfig
        What was written.

    Raises
    ------
    UserError
        For models that cannot be averaged or found, a folder that is there, and fitted weights without held-out pairs
        that are common to all.
    """
    if weights == "fitted" and data is None:
        raise UserError("fitted weights need judgements.", remedy="Name the dataset folder with --data.")
    if weights == "fitted" and len(places) == 1:
        raise UserError("there is nothing to weigh in a single member.", remedy="Name more, or leave --weights out.")
    with new_folder(out, overwrite=overwrite, replaceable=folders.is_ensemble) as folder:
        candidates = open_candidates(places)
        weights_M, gain = equal_weights([bool(candidate.task.classes) for candidate in candidates]), None
        if data is not None:
            named = [(str(candidate.place), candidate.task, candidate.runs) for candidate in candidates]
            held_out = HeldOutByAll.read(named, Dataset.open(data))
            fitted_M = held_out.fit() if weights == "fitted" else None
            gain = _gain([name for name, *_ in named], held_out, weights_M, fitted_M)
            weights_M = weights_M if fitted_M is None else fitted_M
        members = _members(candidates, weights_M, out, copies=folder if copy else None)
        config = folders.EnsembleConfig(weights=weights, members=members, gain=gain)
        config.save(folder)
    return config


@dataclass(frozen=True)
class Candidate:
    """A run, an export, or the runs of all folds of one recipe, which weigh as one.

    Parameters
    ----------
    place
        As it was named.
    runs
        The run folders.
    models
        The model or export folder of each.
    fingerprints
        Of each of these.
    task
        What they predict.
    """

    place: Path
    runs: tuple[Path, ...]
    models: tuple[Path, ...]
    fingerprints: tuple[str, ...]
    task: Task

    @classmethod
    def open(cls, place: Path) -> "Candidate":
        """Find the models of a place; refuses one without, and runs that are not finished or of several tasks."""
        if folders.has_members(place):
            what = "a stack" if folders.is_stack(place) else "an ensemble itself"
            raise UserError(f"is {what}.", file=place, remedy="Name its members.")
        runs = tuple(sorted(place.glob("fold-*"))) or (place,)
        models = tuple(folders.model_folder(run) for run in runs)
        tasks = {_task_of(model) for model in models}
        if len(tasks) > 1:
            names = ", ".join(sorted(task.name for task in tasks))
            raise UserError(f"its runs are of several tasks: {names}.", file=place, remedy="Name them singly.")
        return cls(place, runs, models, tuple(map(folders.fingerprint, models)), tasks.pop())

    def entries(self, weight: float, out: Path) -> list[folders.MemberEntry]:
        """List its models for the folder of an ensemble or a stack; the runs of all folds share the weight."""
        models = zip(self.runs, self.models, self.fingerprints, strict=True)
        return [
            folders.MemberEntry(
                name=str(run),
                path=relative(model, out),
                task=self.task.name,
                weight=weight / len(self.models),
                fingerprint=known,
            )
            for run, model, known in models
        ]


def open_candidates(places: Sequence[Path]) -> list[Candidate]:
    """Find all models that are named, in an order that does not depend on theirs."""
    candidates = sorted(map(Candidate.open, places), key=lambda candidate: candidate.fingerprints)
    seen: dict[str, Path] = {}
    for candidate in candidates:
        for run, known in zip(candidate.runs, candidate.fingerprints, strict=True):
            if known in seen:
                raise UserError(f"is the same model as {seen[known]}.", file=run, remedy="Name each model once.")
            seen[known] = run
    tasks = {candidate.task.name for candidate in candidates}
    if not folders.go_together(tasks):
        named = "; ".join(f"{candidate.place} {candidate.task.name}" for candidate in candidates)
        problem = f"models of the tasks {' and '.join(sorted(tasks))} cannot be averaged ({named})."
        remedy = "Put together models of one task, or of esci and gain; make an ensemble for each of the others."
        raise UserError(problem, remedy=remedy)
    return candidates


def _task_of(model: Path) -> Task:
    config = model / "config.json"
    if not config.is_file():
        remedy = "Name a run folder, its model or export, or a folder of fold-* runs."
        raise UserError("holds no model.", file=model, remedy=remedy)
    name = read_json(config, {"task": str})["task"]
    if name not in TASKS:
        raise UserError(f"names no task: {name!r}.", file=config, remedy="The folder is damaged; make it again.")
    return TASKS[name]


def _gain(names: Sequence[str], held_out: HeldOutByAll, equal_M: Doubles, fitted_M: Doubles | None) -> dict[str, Any]:
    """Measure the candidates, their plain mean and, where weights are fitted, the mean by those of other queries."""
    judgements = held_out.judgements
    plain = held_out.combine(equal_M)
    chosen = plain if fitted_M is None else held_out.cross_fitted()
    named = dict(zip(names, held_out.predictions, strict=True))
    found: dict[str, Any] = {
        "pairs": len(judgements.labels_P),
        "queries": judgements.queries,
        "members": {name: figures(prediction, judgements) for name, prediction in named.items()},
        "equal": figures(plain, judgements),
    }
    if fitted_M is not None:
        found |= {
            "fitted": figures(chosen, judgements),
            "fitted_against_equal": difference(chosen, plain, judgements),
            "left_out": [name for name, weight in zip(names, fitted_M, strict=True) if weight == 0],
        }
    return {**found, "against_best": against_best(chosen, named, judgements)}


def _members(
    candidates: Sequence[Candidate], weights_M: Doubles, out: Path, *, copies: Path | None
) -> tuple[folders.MemberEntry, ...]:
    """List the members, and copy them if that is wanted; the highest weight is first, and of equals the smallest."""
    entries = []
    for candidate, weight in zip(candidates, weights_M.tolist(), strict=True):
        if weight <= 0:
            continue
        for listed, model in zip(candidate.entries(weight, out), candidate.models, strict=True):
            known = listed.fingerprint
            entry = replace(listed, path=f"{COPIES}/{known}") if copies else listed
            if copies:
                shutil.copytree(model, copies / entry.path)
            size = sum(path.stat().st_size for path in model.rglob("*") if path.is_file())
            entries.append(((-entry.weight, size, known), entry))
    return tuple(entry for _, entry in sorted(entries, key=lambda keyed: keyed[0]))


def relative(model: Path, out: Path) -> str:
    """Name a folder from another one; where they are on two drives, from the root."""
    try:
        return Path(os.path.relpath(model.resolve(), out.resolve())).as_posix()
    except ValueError:
        return model.resolve().as_posix()
