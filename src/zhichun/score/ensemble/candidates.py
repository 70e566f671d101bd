"""What a person names to be put into an ensemble, as models that can be averaged."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zhichun.core.errors import UserError
from zhichun.core.files import read_json
from zhichun.core.tasks import TASKS, Task
from zhichun.score.ensemble.ensemble_folder import go_together
from zhichun.score.folders import fingerprint, is_ensemble, model_folder


@dataclass(frozen=True)
class Candidate:
    """One thing that was named: a run, an export, or the runs of all folds of one recipe, which weigh as one.

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
        """Find the models of a place.

        Raises
        ------
        UserError
            When there are none, one is not finished, or they are of several tasks.
        """
        if is_ensemble(place):
            raise UserError("is an ensemble itself.", file=place, remedy="Name its members.")
        runs = tuple(sorted(place.glob("fold-*"))) or (place,)
        models = tuple(model_folder(run) for run in runs)
        tasks = {_task_of(model) for model in models}
        if len(tasks) > 1:
            raise UserError(f"its runs are of several tasks: {_names(tasks)}.", file=place, remedy="Name them singly.")
        return cls(place, runs, models, tuple(map(fingerprint, models)), tasks.pop())


def open_candidates(places: Sequence[Path]) -> list[Candidate]:
    """Find all models that are named, in an order that does not depend on theirs.

    Raises
    ------
    UserError
        When one cannot be found, two are the same, or they cannot be averaged.
    """
    candidates = sorted(map(Candidate.open, places), key=lambda candidate: candidate.fingerprints)
    seen: dict[str, Path] = {}
    for candidate in candidates:
        for run, known in zip(candidate.runs, candidate.fingerprints, strict=True):
            if known in seen:
                raise UserError(f"is the same model as {seen[known]}.", file=run, remedy="Name each model once.")
            seen[known] = run
    tasks = {candidate.task.name for candidate in candidates}
    if not go_together(tasks):
        named = "; ".join(f"{candidate.place} {candidate.task.name}" for candidate in candidates)
        raise UserError(
            f"models of the tasks {' and '.join(sorted(tasks))} cannot be averaged ({named}).",
            remedy="Put together models of one task, or of esci and gain; make an ensemble for each of the others.",
        )
    return candidates


def _task_of(model: Path) -> Task:
    config = model / "config.json"
    if not config.is_file():
        raise UserError(
            "holds no model.", file=model, remedy="Name a run folder, its model or export, or a folder of fold-* runs."
        )
    try:
        return TASKS[read_json(config)["task"]]
    except (KeyError, TypeError) as error:
        raise UserError("names no task.", file=config, remedy="The folder is damaged; make it again.") from error


def _names(tasks: set[Task]) -> str:
    return ", ".join(sorted(task.name for task in tasks))
