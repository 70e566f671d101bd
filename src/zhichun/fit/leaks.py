"""Leaks: what a run learnt from beside its own judgements, and whether that has read the queries that it held out."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zhichun.core.errors import UserError
from zhichun.core.files import read_json
from zhichun.data.predictions import find_tables
from zhichun.model.encoder_settings import TINY

Folds = list[int | None]


def folds_of(validation_fold: Sequence[int] | int | None) -> Folds:
    """Return what is held out as a list; ``None`` is one twentieth of the queries."""
    return list(validation_fold) if isinstance(validation_fold, Sequence) else [validation_fold]


def refuse_leaks(recipe: Mapping[str, Any], run: Path) -> None:
    """Refuse a recorded recipe of which the held-out folds have had a part in the training.

    Raises
    ------
    UserError
        When the checkpoint was chosen by them, or a teacher or the encoder's pre-training read their queries.
    """
    if recipe["train"].get("keep") != "last":
        named = " and ".join(map(str, folds_of(recipe["train"].get("validation_fold"))))
        remedy = "Train the folds anew, which keeps the last step's: zhichun train RECIPE --folds K --out NEW"
        raise UserError(f"its checkpoint was chosen by fold {named}, which it predicts.", file=run, remedy=remedy)
    refuse_readers(
        recipe, run, "Teach with runs of zhichun train RECIPE --folds K --nested; pre-train without pair_mlm."
    )


def refuse_readers(recipe: Mapping[str, Any], run: Path, remedy: str) -> None:
    """Refuse a recorded recipe some part of which has read the queries that it held out.

    Raises
    ------
    UserError
        When a teacher or a stage of pre-training has; of a teacher its own are looked at as well.
    """
    held_out = folds_of(recipe["train"].get("validation_fold"))
    for what, path, left_out in _read_by(recipe, run, set()):
        if read := [fold for fold in held_out if fold not in left_out]:
            named = "one twentieth of the queries" if read == [None] else f"fold {' and '.join(map(str, read))}"
            problem = f"the {what} {path} has read queries of {named}, which this run held out."
            raise UserError(problem, file=run, remedy=remedy)


def _read_by(recipe: Mapping[str, Any], run: Path, known: set[Path]) -> Iterator[tuple[str, Path, Folds]]:
    """Name all that a recipe learns from beside the judgements, and the folds whose queries that has not read.

    Each teacher and each stage of pre-training has begun with an encoder, and may have had teachers, of its own.
    """
    taught_by = (recipe["train"].get("soft_labels") or {}).get("predictions", ())
    for table in find_tables(str(place) for name in taught_by if (place := _found(name, run)).exists()):
        recorded = table.parent / "recipe.json"
        if recorded.is_file() and recorded.resolve() not in known:  # a table of somebody's own says nothing of itself
            known.add(recorded.resolve())
            teacher = read_json(recorded, {"model": dict, "train": dict})
            yield "teacher", table.parent, folds_of(teacher["train"].get("validation_fold"))
            yield from _read_by(teacher, table.parent, known)
    name = recipe["model"].get("encoder")
    if not name or name == TINY:
        return
    encoder = _found(name, run)
    record = next(filter(Path.is_file, (encoder / "recipe.json", encoder.parent / "recipe.json")), None)
    if record is None or record.resolve() in known:
        return
    known.add(record.resolve())
    stage = read_json(record, {"model": dict, "train": dict, "objective": dict})
    if stage["objective"].get("pair_mlm") is not None:  # the only task that reads queries
        yield "encoder", encoder, folds_of(stage["train"].get("validation_fold"))
    yield from _read_by(stage, record.parent, known)


def _found(name: str, run: Path) -> Path:
    """Find what a recipe names: a relative path was given in a folder that mostly is this one or one above the run."""
    return next((path for place in (Path(), *run.parents) if (path := place / name).exists()), Path(name))
