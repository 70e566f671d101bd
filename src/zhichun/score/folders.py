"""What a folder holds that scores, a run, an export or an ensemble, and the hash that tells one from another."""

import hashlib
from pathlib import Path
from typing import Final

from zhichun.core.errors import UserError

ENSEMBLE_FILE: Final = "ensemble.json"


def is_ensemble(folder: Path) -> bool:
    """Tell a folder of `zhichun ensemble` from others."""
    return (folder / ENSEMBLE_FILE).is_file()


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
    if is_ensemble(run):
        raise UserError("is an ensemble, and one run is needed here.", file=run, remedy="Name one of its members.")
    if (run / "recipe.json").is_file():
        raise UserError("the training is not finished.", file=run, remedy="Go on with: zhichun train … --resume")
    return run


def fingerprint(model: Path) -> str:
    """Hash all files of a model or export folder."""
    digest = hashlib.sha256()
    for path in sorted(path for path in model.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def fingerprint_of(folder: Path) -> str:
    """Hash all that decides the scores of what a folder holds.

    Raises
    ------
    UserError
        When there is nothing that scores.
    """
    if is_ensemble(folder):
        from zhichun.score.ensemble.ensemble_folder import ensemble_fingerprint

        return ensemble_fingerprint(folder)
    return fingerprint(model_folder(folder))
