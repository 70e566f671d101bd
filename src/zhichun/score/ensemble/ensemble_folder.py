"""The folder of `zhichun ensemble`: ``ensemble.json`` names the models, by path and hash, with their weights.

A path is relative to the folder, so that both can be moved together; ``members/`` holds copies where these were
requested. The hash is of the model's files: a member that was trained anew is not taken for the one that was meant.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from zhichun.core import settings as codec
from zhichun.core.errors import UserError
from zhichun.core.tasks import TaskName
from zhichun.score.folders import ENSEMBLE_FILE, fingerprint

FORMAT: Final = 2
KIND: Final = "zhichun ensemble"
AGAIN: Final = "Make the ensemble again with: zhichun ensemble RUN… --out {} --overwrite"


@dataclass(frozen=True, kw_only=True)
class MemberEntry:
    """One model.

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

    @property
    def rule(self) -> str:
        """What is averaged, for people; the members' tasks decide it."""
        tasks = {entry.task for entry in self.members}
        if len(tasks) > 1:
            return "weighted mean of the classifiers' expected gains and the regressors' gains; labels by classifiers"
        return "weighted mean of gains" if tasks == {"gain"} else "weighted mean of probabilities"

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
        found = []
        for entry in self.members:
            path = (folder / entry.path).resolve()
            if not path.is_dir():
                raise UserError(
                    f"the member {entry.name} is not there.",
                    file=path,
                    remedy=f"Put it back where it was beside {folder}, or make the ensemble again; --copy keeps the "
                    "members in it.",
                )
            if fingerprint(path) != entry.fingerprint:
                raise UserError(
                    f"the member {entry.name} has changed since the ensemble {folder} was made.",
                    file=path,
                    remedy=AGAIN.format(folder),
                )
            found.append(path)
        return found


def go_together(tasks: set[TaskName]) -> bool:
    """Return whether models of these tasks can be averaged: gains with expected gains, but not other classes."""
    return len(tasks) == 1 or tasks == {"esci", "gain"}


def ensemble_fingerprint(folder: Path) -> str:
    """Hash of what decides an ensemble's answers: the members' hashes and weights."""
    entries = sorted((entry.fingerprint, entry.weight) for entry in EnsembleConfig.load(folder).members)
    return hashlib.sha256(repr(entries).encode()).hexdigest()[:16]
