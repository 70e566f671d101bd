"""What a folder holds that scores: a run, an export, an ensemble or a stack; and the hash that tells it from others.

``ensemble.json`` of `zhichun ensemble` names the models, by path and hash, with their weights. A path is relative to
the folder, so that both can be moved together; ``members/`` holds copies where these were requested. The hash is of the
model's files: a member that was trained anew is not taken for the one that was meant.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from zhichun.core import settings as codec
from zhichun.core.errors import UserError
from zhichun.core.files import HASHES_FILE, read_json, sha256
from zhichun.core.tasks import TaskName

ENSEMBLE_FILE: Final = "ensemble.json"
STACK_FILE: Final = "stack.json"
ENGINE_FILE: Final = "engine.json"
FORMAT: Final = 2
KIND: Final = "zhichun ensemble"
AGAIN: Final = "Make the ensemble again with: zhichun ensemble RUN… --out {} --overwrite"


def is_ensemble(folder: Path) -> bool:
    """Tell a folder of `zhichun ensemble` from others."""
    return (folder / ENSEMBLE_FILE).is_file()


def is_stack(folder: Path) -> bool:
    """Tell a folder of `zhichun stack` from others."""
    return (folder / STACK_FILE).is_file()


def has_members(folder: Path) -> bool:
    """Tell a folder of several models, an ensemble or a stack, from that of one."""
    return is_ensemble(folder) or is_stack(folder)


def model_folder(run: Path) -> Path:
    """Find the model folder of a run.

    Raises
    ------
    UserError
        When there is none.
    """
    if not run.is_dir():
        raise UserError("there is no such folder.", file=run, remedy="Give a run folder made by: zhichun train")
    if (run / "model").is_dir():
        return run / "model"
    if has_members(run):
        what = "a stack" if is_stack(run) else "an ensemble"
        raise UserError(f"is {what}, and one run is needed here.", file=run, remedy="Name one of its members.")
    if (run / "recipe.json").is_file():
        raise UserError("the training is not finished.", file=run, remedy="Go on with: zhichun train … --resume")
    if (run / "fold-0").is_dir():
        remedy = f"Name one of them, such as {run}/fold-0, or put them together: zhichun ensemble {run} --out ENSEMBLE"
        raise UserError("holds the runs of all folds, and one run is needed here.", file=run, remedy=remedy)
    if (run / ENGINE_FILE).is_file():
        raise UserError("is an export for another engine.", file=run, remedy="Name the run that it was made of.")
    return run


def finished(run: Path) -> Path:
    """Find the model folder of a run itself, which has a recipe too; an export does not.

    Raises
    ------
    UserError
        When there is none.
    """
    model = model_folder(run)
    if model == run:
        raise UserError("there is no finished run.", file=run, remedy="Give a run folder made by: zhichun train")
    return model


def fingerprint(model: Path, *, but: str | None = None) -> str:
    """Hash all files of a model or export folder, but hidden ones and the one of a name that makes no difference."""
    files = (path for path in model.rglob("*") if path.is_file() and path.name != but)
    paths = sorted(path for path in files if "/." not in f"/{path.relative_to(model).as_posix()}")
    return hashlib.sha256(b"".join(bytes.fromhex(sha256(path)) for path in paths)).hexdigest()[:16]


def fingerprint_of(folder: Path) -> str:
    """Hash all that decides the scores of what a folder holds; of an ensemble, its members' hashes and weights.

    Raises
    ------
    UserError
        When there is nothing that scores.
    """
    if is_stack(folder):  # the hashes of its own files, of which one names its models by theirs
        read_json(folder / HASHES_FILE, dict, "Copy the folder again, or make it again with: zhichun stack")
        return sha256(folder / HASHES_FILE)[:16]
    if not is_ensemble(folder):
        return fingerprint(model_folder(folder))
    entries = sorted((entry.fingerprint, entry.weight) for entry in EnsembleConfig.load(folder).members)
    return hashlib.sha256(repr(entries).encode()).hexdigest()[:16]


def go_together(tasks: set[TaskName]) -> bool:
    """Return whether models of these tasks can be averaged: gains with expected gains, but not other classes."""
    return len(tasks) == 1 or tasks == {"esci", "gain"}


@dataclass(frozen=True, kw_only=True)
class MemberEntry:
    """One model of an ensemble or a stack.

    Parameters
    ----------
    name
        What it was called when the ensemble was made.
    path
        Its model or export folder, relative to the ensemble's.
    task
        Name of what it predicts.
    weight
        Its share, above 0; all add up to 1.
    fingerprint
        Of the folder's files.
    """

    name: str
    path: str
    task: TaskName
    weight: float
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig:
    """The content of ``ensemble.json``.

    Parameters
    ----------
    weights
        ``equal`` or ``fitted``.
    members
        In the order in which they predict, the highest weight first.
    gain
        What was measured when it was made; ``None`` where nothing was.
    """

    weights: str
    members: tuple[MemberEntry, ...]
    gain: dict[str, Any] | None = None

    def save(self, folder: Path) -> None:
        """Write ``ensemble.json``."""
        codec.write_settings(self, folder / ENSEMBLE_FILE, format=FORMAT, kind=KIND)

    @classmethod
    def load(cls, folder: Path) -> "EnsembleConfig":
        """Read ``ensemble.json``.

        Raises
        ------
        UserError
            When it is damaged or of another version.
        """
        path, remedy = folder / ENSEMBLE_FILE, AGAIN.format(folder)
        config = codec.read_settings(cls, path, format=FORMAT, remedy=remedy)
        whole = abs(sum(entry.weight for entry in config.members) - 1) < 1e-6
        tasks = {entry.task for entry in config.members}
        if not whole or any(entry.weight <= 0 for entry in config.members) or not go_together(tasks):
            raise UserError("has weights or tasks that do not go together.", file=path, remedy=remedy)
        return config

    def locate(self, folder: Path) -> list[Path]:
        """Find the members' folders, and check that each is the one that was meant."""
        return locate(self.members, folder, AGAIN.format(folder))


def locate(members: Sequence[MemberEntry], folder: Path, again: str) -> list[Path]:
    """Find the folders of an ensemble's or a stack's members, and check that each is the one that was meant.

    Parameters
    ----------
    members
        As they were recorded.
    folder
        Of the ensemble or stack.
    again
        How it is made again.
    """
    found = []
    for entry in members:
        path = (folder / entry.path).resolve()
        if not path.is_dir():
            remedy = f"Put it back where it was beside {folder}. {again}"
            raise UserError(f"the member {entry.name} is not there.", file=path, remedy=remedy)
        if fingerprint(path) != entry.fingerprint:
            raise UserError(f"the member {entry.name} has changed since {folder} was made.", file=path, remedy=again)
        found.append(path)
    return found
