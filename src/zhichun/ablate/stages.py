"""What runs need before they can start, made once and shared by all that need the same: pre-training, dropping."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from zhichun.ablate.ablation import MLM_LOSS
from zhichun.ablate.identity import identity, manifest_hash
from zhichun.ablate.reduced import without
from zhichun.core.files import read_json, write_json
from zhichun.fit.pretrain import pretrain
from zhichun.fit.recipe import PretrainingRecipe, Recipe
from zhichun.fit.run_folder import RunFolder
from zhichun.judgements.audit import audit

MADE_FILE: Final = "made.json"


class Stage(Protocol):
    """What runs need before they can start."""

    @property
    def folder(self) -> Path:
        """Where it lies: the same for the same settings, data and seed."""

    def make(self, say: Callable[[str], None]) -> dict[str, Any]:
        """Make it, unless it is there.

        Returns
        -------
        dict
            ``seconds`` that it took, null where it was broken off in between, and its ``figures``.
        """

    def drop(self) -> None:
        """Remove what only runs that are not done need."""


@dataclass(frozen=True)
class Pretrained:
    """A pre-trained encoder.

    Parameters
    ----------
    recipe
        How it is pre-trained.
    data
        The dataset folder.
    folder
        Run folder of the pre-training.
    """

    recipe: PretrainingRecipe
    data: Path
    folder: Path

    @classmethod
    def under(cls, out: Path, recipe: PretrainingRecipe, data: Path) -> "Pretrained":
        """Give it its folder under that of the table."""
        return cls(recipe, data, out / "pretraining" / identity(recipe.to_json(), manifest_hash(data)))

    def make(self, say: Callable[[str], None]) -> dict[str, Any]:
        """Pre-train; the figures are the losses of the weights that are kept."""
        run = RunFolder(self.folder)
        if not (run.encoder.is_dir() and (self.folder / MADE_FILE).is_file()):
            say(f"pre-training, seed {self.recipe.train.seed}")
            clock = _Stopwatch(self.folder / "metrics.jsonl")
            pretrain(self.recipe, self.data, self.folder, resume=True)
            best = min(
                (record["validation"] for record in run.records() if "validation" in record),
                key=lambda figures: figures[self.recipe.train.metric],
            )
            figures = {MLM_LOSS: best["mlm.loss"]} if "mlm.loss" in best else {}
            write_json(self.folder / MADE_FILE, {"seconds": clock.seconds(), "figures": figures})
        made: dict[str, Any] = read_json(self.folder / MADE_FILE)
        return made

    def drop(self) -> None:
        """Remove the weights; the curves stay."""
        shutil.rmtree(RunFolder(self.folder).encoder, ignore_errors=True)


@dataclass(frozen=True)
class Reduced:
    """A dataset without the judgements that an audit doubts most.

    Parameters
    ----------
    recipe
        What the audit trains for each fold.
    data
        The dataset folder.
    share
        Of the judged training pairs, what is dropped.
    folder
        For the audit and the reduced dataset.
    """

    recipe: Recipe
    data: Path
    share: float
    folder: Path

    @classmethod
    def under(cls, out: Path, recipe: Recipe, data: Path, share: float) -> "Reduced":
        """Give it its folder under that of the table."""
        key = identity(recipe.to_json(), manifest_hash(data), share)
        return cls(recipe, data, share, out / "reduced" / key)

    @property
    def dataset(self) -> Path:
        """The reduced dataset folder."""
        return self.folder / "data"

    def make(self, say: Callable[[str], None]) -> dict[str, Any]:
        """Audit and drop; an audit that was killed goes on where it was."""
        if not (self.folder / MADE_FILE).is_file():
            say(f"auditing the judgements, to drop the worst {self.share:.1%}")
            clock = _Stopwatch(self.folder / "audit")
            audit(self.data, self.folder / "audit", recipe=self.recipe, drop=self.share)
            without(self.data, self.folder / "audit" / "drop.csv", self.dataset)
            write_json(self.folder / MADE_FILE, {"seconds": clock.seconds(), "figures": {}})
        made: dict[str, Any] = read_json(self.folder / MADE_FILE)
        return made

    def drop(self) -> None:
        """Remove the weights of the audit, and what can be made again; its tables and the reduced dataset stay."""
        shutil.rmtree(self.dataset / "features", ignore_errors=True)
        for fold in (self.folder / "audit" / "folds").glob("fold-*"):
            shutil.rmtree(fold / "model", ignore_errors=True)


class _Stopwatch:
    """Measures a piece of work, unless some of it was done at another time.

    Parameters
    ----------
    trace
        What is there once the work has begun.
    """

    def __init__(self, trace: Path) -> None:
        self._broken_off = trace.exists()
        self._began = time.monotonic()

    def seconds(self) -> float | None:
        """Seconds since the start; ``None`` for work that was broken off before."""
        return None if self._broken_off else time.monotonic() - self._began
