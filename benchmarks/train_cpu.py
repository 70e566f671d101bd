"""Plain fine-tuning on a processor: our loop against sentence-transformers' `CrossEncoderTrainer` at its defaults.

    python benchmarks/train_cpu.py sentence-transformers/all-MiniLM-L6-v2 --data ESCI_FOLDER [--steps 14] [--rounds 3]

Cross-entropy over the four classes from the same weights, the head's among them, on the same pairs, 32 a step, cut to
256 tokens; nothing stands beside the encoder. Both sides take a few steps in turn, each time in a process of their own
and with another seed, on pairs in an order of their own. A side's time is that of its steps but the first, tokenising
included: theirs does it in each step, ours once before the first, which is counted by the share of the pairs that were
trained on. Loading the model, evaluating and writing checkpoints are in neither. Learning rate, schedule,
weight decay and clipping are the same; batches are each side's own default. Theirs computes in fp32, its default; ours
does too and, on a processor that has units for it, once more in bf16, which is then ours by default. Writes
``benchmarks/results/train_cpu.json``; needs `pip install 'zhichun[train,bench]'`.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cross_encoder
import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from datasets.utils.logging import disable_progress_bar
from esci_arguments import HERE, command, esci_parser, parse_esci, prepared
from machine import circumstances
from score_cpu import as_cross_encoder
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import CrossEntropyLoss
from transformers import TrainerCallback, set_seed

from zhichun.console import Bar
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import open_pairs
from zhichun.errors import UserError
from zhichun.files import write_json
from zhichun.nn.model_folder import TrainedModel
from zhichun.nn.precision import has_bf16
from zhichun.objectives import FineTuning
from zhichun.recipe import Recipe
from zhichun.recipes.kdd2022 import baseline
from zhichun.tasks import TASKS
from zhichun.text.features import Featurizer
from zhichun.train.loop import Loop
from zhichun.train.run_folder import RunFolder
from zhichun.training import build_model, judged_batches, make_featurizer, split

OURS, THEIRS = "zhichun", "sentence-transformers"
# Without a warm-up, in whose first step their rate is 0 and ours is not: a step's lead would be a difference in loss.
CHOSEN = ["model.max_length=256", "train.epochs=1", "train.learning_rate=1e-4", "train.warmup=0"]
OFF = [f"model.{part}=null" for part in ("trigrams", "country", "brand", "color")]
IN_BF16 = f"{OURS} in bf16"
GOAL = 3.5


@dataclass(frozen=True)
class Job:
    """What one side does in one process."""

    recipe: Recipe
    data: Path
    steps: int
    device: str = "cpu"

    def rows(self, dataset: Dataset) -> np.ndarray:
        """Draw the pairs to train on, the same for both sides."""
        training, _ = split(dataset, self.recipe.train)
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
        """Give the seconds of a step but the first, with a step's part of ``reading``."""
        return {
            "seconds_of_step": (self.ended[-1] - self.ended[0]) / (len(self.ended) - 1) + reading / len(self.ended),
            "losses": self.losses,
            "precision": precision,
        }


class Watch(Bar):
    """A bar that takes the time instead of showing it."""

    def __init__(self, steps: Steps) -> None:
        super().__init__("train", shown=False)
        self.seen = steps

    def advance(self, units: int, loss: float | None = None, *, steps: int = 1) -> None:
        """Note the end of a step."""
        assert loss is not None
        self.seen.ended.append(time.perf_counter())
        self.seen.losses.append(loss)


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
        evaluate = {"micro_f1": 0.0, "loss": 0.0}
        Loop(accelerator, batches, lambda _: evaluate, recipe.train, run, Watch(steps)).fit(
            FineTuning(model, recipe.objective)
        )
    return steps.outcome(recipe.train.precision, reading)


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
        arguments = CrossEncoderTrainingArguments(
            output_dir=folder,
            num_train_epochs=settings.epochs,
            per_device_train_batch_size=job.batch,
            learning_rate=settings.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=settings.warmup,
            weight_decay=settings.weight_decay,
            max_grad_norm=settings.clip or 0.0,
            use_cpu=job.device == "cpu",
            bf16=settings.precision == "bf16",
            seed=settings.seed,
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
            report_to="none",
        )
        CrossEncoderTrainer(
            model=model,
            args=arguments,
            train_dataset=texts.as_rows(),
            loss=CrossEntropyLoss(model),
            callbacks=[WatchTheirs(steps)],
        ).train()
    return steps.outcome("bf16" if arguments.bf16 else "fp32")


def sides() -> dict[str, tuple[Callable[[Job], dict[str, Any]], str]]:
    """Give what is measured on this processor: what takes the steps, and our precision."""
    found = {THEIRS: (train_theirs, "fp32"), OURS: (train_ours, "fp32"), IN_BF16: (train_ours, "bf16")}
    if not has_bf16(torch.device("cpu")):
        del found[IN_BF16]
    return found


def measure(job: Job, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Let all sides take their steps in turn."""
    taken: dict[str, list[dict[str, Any]]] = {side: [] for side in sides()}
    for seed in range(rounds):
        for side, (work, precision) in sides().items():
            recipe = job.recipe.with_settings([f"train.seed={seed}", f"train.precision={precision}"])
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                taken[side].append(process.submit(work, replace(job, recipe=recipe)).result())
            outcome = taken[side][-1]
            rate = job.batch / outcome["seconds_of_step"]
            print(f"{side}, seed {seed}: {rate:.1f} pairs/s, last loss {outcome['losses'][-1]:.3f}", flush=True)
    return taken


def summarise(taken: dict[str, list[dict[str, Any]]], batch: int) -> dict[str, Any]:
    """Give each side's speed and losses, and how they stand to theirs."""
    late = {
        side: np.asarray([np.mean(of["losses"][len(of["losses"]) // 2 :]) for of in runs])
        for side, runs in taken.items()
    }
    return {
        side: {
            "precision": runs[0]["precision"],
            "pairs_per_second": batch / statistics.median(of["seconds_of_step"] for of in runs),
            # Of the runs that stood beside each other, since a machine is not equally fast all the time.
            "times_faster": statistics.median(
                theirs["seconds_of_step"] / ours["seconds_of_step"]
                for theirs, ours in zip(taken[THEIRS], runs, strict=True)
            ),
            "seconds_of_step": [round(of["seconds_of_step"], 3) for of in runs],
            "losses": [[round(loss, 4) for loss in of["losses"]] for of in runs],
            "loss_of_second_half": late[side].round(4).tolist(),
            "loss_apart": apart(late[side] - late[THEIRS]),
        }
        for side, runs in taken.items()
    }


def apart(differences: npt.NDArray[np.float64]) -> dict[str, float | None]:
    """Give the mean of the seeds' differences in loss, and how unsure it is."""
    error = differences.std(ddof=1) / len(differences) ** 0.5 if len(differences) > 1 else None
    return {"mean": float(differences.mean()), "standard_error": None if error is None else float(error)}


def parse_arguments() -> argparse.Namespace:
    parser = esci_parser(__doc__)
    parser.add_argument("--steps", type=int, default=14, help="steps of each training, 2 or more")
    parser.add_argument("--rounds", type=int, default=3, help="trainings of each side")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "train_cpu.json")
    arguments = parse_esci(parser)
    if arguments.steps < 2:
        parser.error("the first step is not counted: give --steps 2 or more")
    return arguments


def main() -> None:
    """Measure, and write the result."""
    arguments = parse_arguments()
    recipe = baseline().with_settings([f"model.encoder={arguments.encoder}", *CHOSEN, *OFF, *arguments.set])
    job = Job(recipe, prepared(arguments), arguments.steps)
    options = [f"--steps {job.steps}", f"--rounds {arguments.rounds}"]
    result = {
        "what": "plain fine-tuning on a processor, against sentence-transformers' CrossEncoderTrainer",
        "command": command("train_cpu.py", arguments, options),
        "encoder": arguments.name,
        **circumstances("zhichun", "torch", "transformers", "accelerate", THEIRS, "datasets"),
        "batch_size": job.batch,
        "max_length": recipe.model.max_length,
        "steps": job.steps,
        "rounds": arguments.rounds,
        "goal": GOAL,
        "systems": summarise(measure(job, arguments.rounds), job.batch),
    }
    write_json(arguments.out, result)
    for side, of in result["systems"].items():
        print(f"{side:24s} {of['times_faster']:.2f} times, losses apart {of['loss_apart']}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
