"""Steps of plain fine-tuning by our loop and by sentence-transformers' trainer, with the time and loss of each.

Not a script: `train_cpu.py` and `gpu.py` are.
"""

import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cross_encoder
import numpy as np
import torch
from accelerate import Accelerator
from datasets.utils.logging import disable_progress_bar
from score_cpu import as_cross_encoder
from sentence_transformers.cross_encoder import CrossEncoderTrainer
from sentence_transformers.cross_encoder.losses import CrossEntropyLoss
from transformers import TrainerCallback, set_seed

from zhichun.core.console import Bar
from zhichun.core.tasks import TASKS
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import open_pairs
from zhichun.fit.loop import Loop
from zhichun.fit.recipe import Recipe
from zhichun.fit.run_folder import RunFolder
from zhichun.fit.train import build_model, judged_batches, make_featurizer
from zhichun.model import attention
from zhichun.model.model_folder import TrainedModel
from zhichun.objective import FineTuning
from zhichun.text.features import Featurizer

OURS, THEIRS = "zhichun", "sentence-transformers"
OFF = ["model.trigram_start=random", *(f"model.{part}=null" for part in ("trigrams", "country", "brand", "color"))]


@dataclass(frozen=True)
class Job:
    """What one side does in one process."""

    recipe: Recipe
    data: Path
    steps: int
    device: str = "cpu"

    def rows(self, dataset: Dataset) -> np.ndarray:
        """Draw the pairs to train on, the same for both sides."""
        training, _ = dataset.split(self.recipe.train.validation_fold)
        return np.random.default_rng(self.recipe.train.seed).permutation(training)[: self.steps * self.batch]

    @property
    def batch(self) -> int:
        """Pairs of a step."""
        return self.recipe.train.batch_size

    def model(self, featurizer: Featurizer) -> TrainedModel:
        """Make the network with the weights that both sides start from: the encoder's, and a head of the seed's."""
        torch.manual_seed(self.recipe.train.seed)
        task = TASKS[self.recipe.task]
        return TrainedModel(build_model(self.recipe.model, featurizer, task), featurizer, self.recipe.model, task)


@dataclass
class Steps:
    """When each step ended, and its loss."""

    ended: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def outcome(self, precision: str, reading: float = 0.0) -> dict[str, Any]:
        """Give the seconds of a step by the median, with a step's part of ``reading``."""
        return {
            "seconds_of_step": float(np.median(np.diff(self.ended))) + reading / len(self.ended),
            "losses": self.losses,
            "precision": precision,
        }


class Enough(Exception):
    """The steps are done: nothing is evaluated or saved, which takes longer than they do."""


class Watch(Bar):
    """A bar that takes the time instead of showing it, and ends the training after its last step."""

    def __init__(self, steps: Steps) -> None:
        super().__init__("train", shown=False)
        self.seen = steps

    def start(self, done: int, total: int) -> None:
        """Note how many steps there are."""
        self.last = total

    def advance(self, units: int, loss: float | None = None, *, steps: int = 1) -> None:
        """Note the end of a step."""
        assert loss is not None
        self.seen.ended.append(time.perf_counter())
        self.seen.losses.append(loss)
        if len(self.seen.losses) == self.last:
            raise Enough


def train_ours(job: Job) -> dict[str, Any]:
    """Take our steps, by the loop that `zhichun train` runs."""
    recipe, dataset = job.recipe, Dataset.open(job.data)
    featurizer, rows = make_featurizer(recipe.model, dataset), job.rows(dataset)
    with tempfile.TemporaryDirectory() as folder:
        unread = Dataset.open(without_features(job.data, Path(folder) / "data"))
        began = time.perf_counter()
        pairs = open_pairs(unread, featurizer, recipe.model.max_length)
        reading = (time.perf_counter() - began) * len(rows) / len(pairs)
    model = job.model(featurizer).model
    accelerator = Accelerator(cpu=job.device == "cpu")
    model.encoder.use_attention(recipe.train.attention)
    batches = judged_batches(recipe, dataset, pairs, rows, pack=model.encoder.packs)
    steps = Steps()
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(Path(folder) / "run", recipe.to_json(), job.data, resume=False)
        loop = Loop(accelerator, batches, lambda _: {}, recipe.train, run, Watch(steps))
        with suppress(Enough):
            loop.fit(FineTuning(model, recipe.objective))
    return steps.outcome(recipe.train.precision, reading)


def train_with_torch_dropout(job: Job) -> dict[str, Any]:
    """Take our steps with masks that torch draws; the process ends with them."""
    attention.drop = torch.nn.functional.dropout
    return train_ours(job)


def without_features(data: Path, folder: Path) -> Path:
    """Make a dataset folder of links to another's files, in which no text was read yet."""
    folder.mkdir()
    for path in data.iterdir():
        if path.name != "features":
            (folder / path.name).symlink_to(path.resolve())
    return folder


class WatchTheirs(TrainerCallback):
    """Takes the time and the loss of each step of their trainer."""

    def __init__(self, steps: Steps) -> None:
        self.seen = steps

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note the end of a step."""
        self.seen.ended.append(time.perf_counter())

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        """Note its loss."""
        if "loss" in logs:
            self.seen.losses.append(float(logs["loss"]))


def train_theirs(job: Job) -> dict[str, Any]:
    """Take the steps of `CrossEncoderTrainer`."""
    settings, dataset = job.recipe.train, Dataset.open(job.data)
    texts = cross_encoder.text_pairs(dataset, job.rows(dataset), job.recipe)
    disable_progress_bar()
    steps = Steps()
    with tempfile.TemporaryDirectory() as folder:
        start = job.model(make_featurizer(job.recipe.model, dataset))
        model = as_cross_encoder(start, job.recipe, Path(folder) / "start", device=job.device)
        set_seed(settings.seed)
        arguments = cross_encoder.same_values(
            settings,
            Path(folder),
            bf16=settings.precision == "bf16",
            use_cpu=job.device == "cpu",
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
        )
        CrossEncoderTrainer(
            model=model,
            args=arguments,
            train_dataset=texts.as_rows(),
            loss=CrossEntropyLoss(model),
            callbacks=[WatchTheirs(steps)],
        ).train()
    return steps.outcome("bf16" if arguments.bf16 else "fp32")
