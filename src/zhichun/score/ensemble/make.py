"""Make an ensemble folder of trained models."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from zhichun.core.errors import UserError
from zhichun.core.files import new_folder
from zhichun.data.dataset.dataset import Dataset
from zhichun.score.ensemble.candidates import Candidate, open_candidates
from zhichun.score.ensemble.ensemble_folder import EnsembleConfig, MemberEntry
from zhichun.score.ensemble.held_out import HeldOutByAll
from zhichun.score.ensemble.weights import Doubles, equal_weights
from zhichun.score.ensemble.worth import against_best, difference, figures
from zhichun.score.folders import is_ensemble

COPIES = "members"


def make_ensemble(
    places: Sequence[Path],
    out: Path,
    *,
    weights: Literal["equal", "fitted"] = "equal",
    data: Path | None = None,
    copy: bool = False,
    overwrite: bool = False,
) -> EnsembleConfig:
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
    with new_folder(out, overwrite=overwrite, replaceable=is_ensemble) as folder:
        candidates = open_candidates(places)
        weights_M, worth = equal_weights([bool(candidate.task.classes) for candidate in candidates]), None
        if data is not None:
            held_out = HeldOutByAll.read(candidates, Dataset.open(data))
            fitted_M = held_out.fit() if weights == "fitted" else None
            worth = _worth(candidates, held_out, weights_M, fitted_M)
            weights_M = weights_M if fitted_M is None else fitted_M
        members = _members(candidates, weights_M, out, copies=folder if copy else None)
        config = EnsembleConfig(weights=weights, members=members, worth=worth)
        config.save(folder)
    return config


def _worth(
    candidates: Sequence[Candidate], held_out: HeldOutByAll, equal_M: Doubles, fitted_M: Doubles | None
) -> dict[str, Any]:
    """Measure the candidates, their plain mean and, where weights are fitted, the mean by those of other queries."""
    judgements = held_out.judgements
    plain = held_out.combine(equal_M)
    chosen = plain if fitted_M is None else held_out.cross_fitted()
    named = {str(of.place): said for of, said in zip(candidates, held_out.predictions, strict=True)}
    found: dict[str, Any] = {
        "pairs": len(judgements.labels_P),
        "queries": judgements.queries,
        "members": {name: figures(said, judgements) for name, said in named.items()},
        "equal": figures(plain, judgements),
    }
    if fitted_M is not None:
        left_out = [name for name, weight in zip(named, fitted_M, strict=True) if weight == 0]
        found |= {
            "fitted": figures(chosen, judgements),
            "fitted_against_equal": difference(chosen, plain, judgements),
            "left_out": left_out,
        }
    return {**found, "against_best": against_best(chosen, named, judgements)}


def _members(
    candidates: Sequence[Candidate], weights_M: Doubles, out: Path, *, copies: Path | None
) -> tuple[MemberEntry, ...]:
    """List the members, and copy them if asked for; who weighs most is asked first, and of equals the smallest."""
    entries = []
    for candidate, weight in zip(candidates, weights_M.tolist(), strict=True):
        models = list(zip(candidate.runs, candidate.models, candidate.fingerprints, strict=True))
        for run, model, known in models if weight > 0 else ():
            entry = MemberEntry(
                name=str(run),
                path=f"{COPIES}/{known}" if copies else _relative(model, out),
                task=candidate.task.name,
                weight=weight / len(models),
                fingerprint=known,
            )
            if copies:
                shutil.copytree(model, copies / entry.path)
            entries.append(((_bytes_of(model), known), entry))
    entries.sort(key=lambda member: (-member[1].weight, *member[0]))
    return tuple(entry for _, entry in entries)


def _bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _relative(model: Path, out: Path) -> str:
    """Name a folder from another one; where they are on two drives, from the root."""
    try:
        return Path(os.path.relpath(model.resolve(), out.resolve())).as_posix()
    except ValueError:
        return model.resolve().as_posix()
