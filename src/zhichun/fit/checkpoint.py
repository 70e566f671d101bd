"""Atomic checkpoints.

``checkpoint/step-00000120/`` holds weights, optimiser and progress of one moment, and
``checkpoint/best-00000080.safetensors`` the best weights so far. The old one goes after the new one is there.
Random states are not kept: order and dropout are functions of the step.
"""

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from zhichun.core.errors import UserError
from zhichun.core.files import new_file, new_folder
from zhichun.model.model_folder import read_weights

Weights = dict[str, Tensor]


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

    def save(self, weights: Weights, optimizer: dict[str, Any], progress: Progress) -> None:
        """Write the checkpoint of a moment; the one before goes when it is complete."""
        final = self.path / f"step-{progress.step:08d}"
        with new_folder(final, overwrite=True) as partial:
            save_file(weights, partial / "objective.safetensors")
            torch.save(optimizer, partial / "optimizer.pt")
            (partial / "progress.json").write_text(json.dumps(dataclasses.asdict(progress)), "utf-8")
        for old in self.path.glob("step-*"):
            if old != final:
                shutil.rmtree(old, ignore_errors=True)
        for old in self.path.glob("best-*.safetensors"):
            if old != self._best(progress.best_step):
                old.unlink()

    def latest(self) -> tuple[Weights, dict[str, Any], Progress] | None:
        """Load the newest checkpoint, or ``None`` where there is none yet."""
        whole = sorted(path for path in self.path.glob("step-*") if path.suffix == "")
        if not whole:
            return None
        folder = whole[-1]
        try:
            progress = Progress(**json.loads((folder / "progress.json").read_text("utf-8")))
            optimizer = torch.load(folder / "optimizer.pt", weights_only=True, map_location="cpu")
        except Exception as error:  # torch raises whatever its reader meets in a damaged file
            raise UserError(
                f"the checkpoint is damaged ({error}).", file=folder, remedy="Delete it; training starts again."
            ) from error
        return read_weights(folder / "objective.safetensors"), optimizer, progress

    def save_best(self, weights: Weights, step: int) -> None:
        """Keep these weights as the best so far."""
        with new_file(self._best(step)) as partial:
            save_file(weights, partial)

    def best(self, step: int) -> Weights:
        """Load the best weights."""
        return read_weights(self._best(step))

    def _best(self, step: int) -> Path:
        return self.path / f"best-{step:08d}.safetensors"
