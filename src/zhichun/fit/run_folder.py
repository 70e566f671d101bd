"""The run folder: recipe, environment, results, checkpoints and model.

``recipe.json``, ``environment.json``, ``metrics.jsonl``, ``checkpoint/`` while training and ``model/`` when done.
``checkpoint/step-00000120/`` holds weights, optimiser and progress of one moment, and
``checkpoint/best-00000080.safetensors`` the best weights so far. The old one goes after the new one is there. Random
states are not kept: order and dropout are functions of the step.

By their recipes, leaks are found: what a run learnt from beside its own judgements, if that has read the queries that
the run held out.
"""

import importlib.metadata
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from zhichun.core import files
from zhichun.core.device import processor_name
from zhichun.core.errors import UserError
from zhichun.core.files import read_json
from zhichun.data.predictions import find_tables
from zhichun.model.encoder import ENCODER_FOLDER
from zhichun.model.encoder_settings import TINY
from zhichun.model.model_folder import read_weights

Weights = dict[str, Tensor]

RECORDS = ("recipe.json", "environment.json")
LIBRARIES = ("zhichun", "torch", "transformers", "tokenizers", "accelerate", "numpy", "pyarrow")


@contextmanager
def one_run(path: Path, *, writes: bool) -> Iterator[None]:
    """Keep other runs out of a run folder; say of what cannot be written how the run goes on.

    What is refused before its first step leaves no records of a run.
    """
    try:
        with files.in_use(path) if writes else nullcontext():
            try:
                yield
            except UserError:
                if writes and {entry.name for entry in path.iterdir()} <= {*RECORDS, files.LOCK_FILE}:
                    for name in RECORDS:
                        (path / name).unlink(missing_ok=True)
                raise
    except files.NotWritten as error:
        remedy = "Free some disk space, or make the folder writable, and go on with --resume."
        raise files.NotWritten(error.problem, file=error.file, remedy=remedy) from error


@dataclass
class Progress:
    """Progress of a run.

    Parameters
    ----------
    step
        Steps done.
    best_step, best_value
        Where the best evaluation was, and its value; higher is better.
    best_loss
        Its validation loss, which decides between equal values.
    stale
        Evaluations since then.
    stopped
        Whether the run stopped early.
    """

    step: int = 0
    best_step: int = 0
    best_value: float = -float("inf")
    best_loss: float = float("inf")
    stale: int = 0
    stopped: bool = False


@dataclass(frozen=True)
class CheckpointFolder:
    """The ``checkpoint/`` of a run folder."""

    path: Path

    @property
    def step(self) -> int:
        """Steps done at the newest checkpoint; 0 where there is none yet."""
        return max((int(path.name[5:]) for path in self.path.glob("step-*") if path.suffix == ""), default=0)

    def save(self, weights: Weights, optimizer: dict[str, Any], progress: Progress) -> None:
        """Write the checkpoint of a moment; the one before goes when it is complete."""
        final = self.path / f"step-{progress.step:08d}"
        with files.new_folder(final, overwrite=True) as partial:
            save_file(weights, partial / "objective.safetensors")
            torch.save(optimizer, partial / "optimizer.pt")
            (partial / "progress.json").write_text(json.dumps(asdict(progress)), "utf-8")
        for old in self.path.glob("step-*"):
            if old != final:
                shutil.rmtree(old, ignore_errors=True)
        for old in self.path.glob("best-*.safetensors"):
            if old != self._best(progress.best_step):
                old.unlink()

    def latest(self) -> tuple[Weights, dict[str, Any], Progress] | None:
        """Load the newest checkpoint, or ``None`` where there is none yet."""
        if not self.step:
            return None
        folder = self.path / f"step-{self.step:08d}"
        try:
            progress = Progress(**json.loads((folder / "progress.json").read_text("utf-8")))
            optimizer = torch.load(folder / "optimizer.pt", weights_only=True, map_location="cpu")
        except Exception as error:  # torch raises whatever its reader meets in a damaged file
            remedy = "Delete it; training starts again."
            raise UserError(f"the checkpoint is damaged ({error}).", file=folder, remedy=remedy) from error
        return read_weights(folder / "objective.safetensors"), optimizer, progress

    def save_best(self, weights: Weights, step: int) -> None:
        """Keep these weights as the best so far."""
        with files.new_file(self._best(step)) as partial:
            save_file(weights, partial)

    def best(self, step: int) -> Weights:
        """Load the best weights."""
        return read_weights(self._best(step))

    def _best(self, step: int) -> Path:
        return self.path / f"best-{step:08d}.safetensors"


@dataclass(frozen=True)
class RunFolder:
    """An open run folder."""

    path: Path

    @classmethod
    def create(
        cls,
        path: Path,
        recipe: dict[str, Any],
        data: Path,
        *,
        resume: bool,
        inputs: Sequence[Path] = (),
        defaults: dict[str, Any] | None = None,
    ) -> "RunFolder":
        """Make a run folder, or open one to continue."""
        run, environment = cls(path), {**_environment(data, inputs), "defaults": defaults or {}}
        recorded = path / "recipe.json"
        command = "pretrain" if recipe.get("kind") == "PretrainingRecipe" else "train"
        found = {entry.name.partition(".partial-")[0] for entry in path.iterdir()} if path.is_dir() else set()
        if found <= {*RECORDS, files.LOCK_FILE}:
            files.write_json(path / "environment.json", environment)
            files.write_json(recorded, recipe)
            return run
        elsewhere = "Choose another --out."
        if not recorded.is_file():
            raise UserError("the folder is not empty and holds no run.", file=path, remedy=elsewhere)
        if not resume:
            remedy = "Go on with --resume, or choose another --out."
            raise UserError("there is a run already.", file=path, remedy=remedy)
        if files.read_json(recorded) != recipe:
            remedy = f"Go on with it: zhichun {command} {recorded} --data {data} --out {path} --resume"
            raise UserError("the run there is of another recipe.", file=recorded, remedy=remedy)
        before = files.read_json(path / "environment.json", {"dataset": {"manifest": str}, "inputs": list})
        if before["dataset"]["manifest"] != environment["dataset"]["manifest"]:
            raise UserError("the run there was trained on another dataset.", file=path, remedy=elsewhere)
        known = [item.get("sha256") for item in before["inputs"] if isinstance(item, dict)]
        if [item["sha256"] for item in environment["inputs"]] != known:
            changed = [item["file"] for item in environment["inputs"] if item["sha256"] not in known]
            problem = f"the run there was trained with other soft labels ({', '.join(changed) or 'some are gone'})."
            raise UserError(problem, file=path, remedy=elsewhere)
        return run

    @property
    def checkpoints(self) -> CheckpointFolder:
        """Where the checkpoints are."""
        return CheckpointFolder(self.path / "checkpoint")

    @property
    def model(self) -> Path:
        """The folder of the trained model; there when the run is done."""
        return self.path / "model"

    def write_result(self, folder: str, save: Callable[[Path], None]) -> None:
        """Write a folder that says that the run is done at once, and drop the checkpoints that it makes needless."""
        with files.new_folder(self.path / folder) as partial:
            save(partial)
        self.drop_checkpoints()

    def write_raw(self, weights: dict[str, Tensor]) -> None:
        """Keep the weights of the last step beside the averaged ones of ``model/``."""
        with files.new_file(self.path / "raw.safetensors") as partial:
            save_file(weights, partial)

    @property
    def encoder(self) -> Path:
        """The folder of the pre-trained encoder; there when a pre-training is done."""
        return self.path / ENCODER_FOLDER

    def drop_checkpoints(self) -> None:
        """Remove what only a run that is not done needs."""
        shutil.rmtree(self.checkpoints.path, ignore_errors=True)

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to ``metrics.jsonl``."""
        files.append_text(self.path / "metrics.jsonl", json.dumps(record) + "\n")

    def records(self) -> Iterator[dict[str, Any]]:
        """Read ``metrics.jsonl``."""
        return files.read_json_lines(self.path / "metrics.jsonl")

    def forget_after(self, step: int) -> None:
        """Drop the lines of steps that a resume is going to do again."""
        kept = [json.dumps(record) + "\n" for record in self.records() if record["step"] <= step]
        files.write_text(self.path / "metrics.jsonl", "".join(kept))


def _environment(data: Path, inputs: Sequence[Path]) -> dict[str, Any]:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "dataset": {"folder": str(data), "manifest": files.sha256(data / "manifest.json")},
        "inputs": [{"file": str(path), "sha256": files.sha256(path)} for path in inputs],
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }


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
    record = recipe_of(encoder)
    if record is None or record.resolve() in known:
        return
    known.add(record.resolve())
    stage = read_json(record, {"model": dict, "train": dict, "objective": dict})
    if stage["objective"].get("pair_mlm") is not None:  # the only task that reads queries
        yield "encoder", encoder, folds_of(stage["train"].get("validation_fold"))
    yield from _read_by(stage, record.parent, known)


def recipe_of(encoder: Path) -> Path | None:
    """Find the recipe of an encoder that is named by its pre-training's run folder, or by the one within."""
    runs = [encoder, *([encoder.parent] if encoder.name == ENCODER_FOLDER else [])]
    return next(filter(Path.is_file, (run / "recipe.json" for run in runs)), None)


def _found(name: str, run: Path) -> Path:
    """Find what a recipe names: a relative path was given in a folder that mostly is this one or one above the run."""
    return next((path for place in (Path(), *run.parents) if (path := place / name).exists()), Path(name))
