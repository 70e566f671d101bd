"""A large encoder on a GPU: our fine-tuning and scoring against sentence-transformers', and against the GPU itself.

    python benchmarks/gpu.py --data ESCI_FOLDER [--shape xlm-roberta-large]
    python benchmarks/gpu.py --data ESCI_FOLDER --smoke        # the same way on a CPU, with a tiny encoder

The encoder has XLM-R-large's shape and random weights; the texts are those of the data, cut to 256 tokens.

*Training*: plain cross-entropy from the same weights on the same pairs, 32 a step, by `zhichun train`'s loop and by
`CrossEncoderTrainer` at its defaults (fp32), and by the latter in bf16 too, which it has on request; then ours with
steps of 256 pairs, and compiled, and with the paper's whole recipe. *Scoring*: the same pairs from texts, by `Scorer`
in fp32 and as it comes (bf16), by `CrossEncoder.predict` at its defaults, and by the latter in bf16.

The share of the GPU that is used (model FLOPs utilisation) is the operations that the answers need, over pairs' own
tokens, per second, against those of one large product of bf16 matrices that is timed in the same run. Without a GPU
nothing is measured and nothing written. Writes ``benchmarks/results/gpu.json``; needs `pip install
'zhichun[train,onnx,bench]'`.
"""

import os

# Before anything imports it: where JAX is installed too, it would take three quarters of the GPU's memory.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from esci_arguments import HERE, data_parser, parse_data, prepared
from gpu_shapes import SHAPES, Shape, random_encoder
from machine import circumstances, command_as_given
from score_cpu import Texts, as_cross_encoder, by_ours, by_theirs, timed
from sentence_transformers.cross_encoder import CrossEncoder
from tables.paper_tables import whole_recipe
from train_sides import OFF, OURS, THEIRS, Job, train_ours, train_theirs

from zhichun.core.errors import UserError
from zhichun.core.files import new_folder, write_json
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import open_pairs
from zhichun.fit.recipe import Recipe
from zhichun.fit.recipes.kdd2022 import baseline
from zhichun.fit.train import make_featurizer
from zhichun.model.model_folder import TrainedModel
from zhichun.score.engine import RUN_ENGINES
from zhichun.score.torch_engine import place_of

GOALS = {"training_utilisation": 0.5, "scoring_utilisation": 0.6, "times_faster": 3.0, "whole_recipe_in_steps": 2.5}
CHOSEN = ["model.max_length=256", "train.epochs=1", "train.learning_rate=1e-5", "train.warmup=0"]
LARGE_STEP = ("train.batch_size=256", "train.micro_batch_tokens=65536")


@dataclass(frozen=True)
class Side:
    """One way to train.

    Parameters
    ----------
    work
        Takes the steps.
    settings
        Changes of the recipe.
    precision
        Of the matrices' products.
    """

    work: Any
    settings: tuple[str, ...]
    precision: str


def sides(fast: str) -> dict[str, Side]:
    """Name what trains; ``fast`` is bf16, or on a CPU without hardware bf16 fp32."""
    whole = tuple(setting for setting in whole_recipe().rows[-1].settings if setting.startswith("objective."))
    return {
        THEIRS: Side(train_theirs, (), "fp32"),
        f"{THEIRS}, bf16": Side(train_theirs, (), fast),
        OURS: Side(train_ours, (), fast),
        f"{OURS}, compiled": Side(train_ours, ("train.compile=true",), fast),
        f"{OURS}, 256 pairs a step": Side(train_ours, LARGE_STEP, fast),
        f"{OURS}, 256 pairs a step, compiled": Side(train_ours, (*LARGE_STEP, "train.compile=true"), fast),
        f"{OURS}, whole recipe": Side(train_ours, whole, fast),
    }


def peak(device: torch.device, size: int, seconds: float = 2.0) -> float:
    """Time one product of square bf16 matrices over and over; gives operations per second."""
    one, other = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < seconds:
        started = time.perf_counter()
        for _ in range(10):
            one @ other
        _wait(device)
        best = min(best, (time.perf_counter() - started) / 10)
    return 2 * size**3 / best


@dataclass(frozen=True)
class Course:
    """What is measured, and what it is held against.

    Parameters
    ----------
    job
        The plain training, and the device.
    shape
        Of the encoder.
    at_best
        Operations per second of a product of matrices.
    dataset, lengths_P
        The data, and the tokens of each pair.
    """

    job: Job
    shape: Shape
    at_best: float
    dataset: Dataset
    lengths_P: npt.NDArray[np.int64]

    def train(self, fast: str, rounds: int, keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Let all sides take their steps, each in a process of its own; ``keep`` is given what is there."""
        found: dict[str, Any] = {}
        for name, side in sides(fast).items():
            runs = []
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                for seed in range(rounds):
                    changes = [*side.settings, f"train.precision={side.precision}", f"train.seed={seed}"]
                    job = replace(self.job, recipe=self.job.recipe.with_settings(changes))
                    runs.append(process.submit(side.work, job).result())
                    print(f"{name}, seed {seed}: {job.batch / runs[-1]['seconds_of_step']:.1f} pairs/s", flush=True)
            found[name] = self._of_training(runs, job)
            found[name]["times_faster"] = found[name]["pairs_per_second"] / found[THEIRS]["pairs_per_second"]
            keep({"training": found})
        return found

    def _of_training(self, runs: list[dict[str, Any]], job: Job) -> dict[str, Any]:
        """Give pairs per second, and the share of the GPU that was used."""
        seconds = statistics.median(run["seconds_of_step"] for run in runs)
        rows = job.rows(self.dataset)
        flops_of_step = self.shape.step_flops(self.lengths_P[rows]) * job.batch / len(rows)
        return {
            "precision": runs[0]["precision"],
            "pairs_per_second": job.batch / seconds,
            "utilisation": flops_of_step / seconds / self.at_best,
            "seconds_of_step": [run["seconds_of_step"] for run in runs],
            "losses": [[round(loss, 4) for loss in run["losses"]] for run in runs],
        }

    def score(self, trained: TrainedModel, count: int, repeats: int, work: Path) -> dict[str, Any]:
        """Let all sides score the same pairs from texts in turn."""
        job, folder = self.job, work / "model"
        if not folder.is_dir():
            with new_folder(folder) as partial:
                trained.save(partial)
        theirs = as_cross_encoder(trained, job.recipe, work / "cross_encoder", device=job.device)
        in_bf16 = CrossEncoder(
            str(work / "cross_encoder"),
            max_length=job.recipe.model.max_length,
            device=job.device,
            model_kwargs={"dtype": torch.bfloat16},
            trust_remote_code=False,
        )
        scores = {THEIRS: by_theirs(theirs), f"{THEIRS}, bf16": by_theirs(in_bf16)}
        scores |= {f"{OURS}, {engine}": by_ours(folder, engine, job.device) for engine in RUN_ENGINES}
        rows = np.random.default_rng(0).permutation(len(self.dataset.labels))[: count or None]
        found = timed(scores, Texts.of(self.dataset, rows, job.recipe), repeats)
        flops = self.shape.forward_flops(self.lengths_P[rows]) / len(rows)
        reference = found[THEIRS]["logits"]
        for of in found.values():
            of["utilisation"] = of["pairs_per_second"] * flops / self.at_best
            of["logits_differ"] = float(np.abs(of.pop("logits") - reference).max())
        return found


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def parse_arguments() -> argparse.Namespace:
    parser = data_parser(__doc__)
    parser.add_argument("--shape", choices=[name for name in SHAPES if name != "smoke"], default="xlm-roberta-large")
    parser.add_argument("--smoke", action="store_true", help="a few steps of a tiny encoder, on any machine")
    parser.add_argument(
        "--steps", type=int, default=12, help="steps of each training, 2 or more; the first is left out"
    )
    parser.add_argument("--rounds", type=int, default=3, help="trainings of each side")
    parser.add_argument("--pairs", type=int, default=0, help="score a sample of so many pairs; all if not given")
    parser.add_argument("--repeats", type=int, default=3, help="how often they are scored")
    parser.add_argument("--out", type=Path, help="default: results/gpu.json, and nowhere with --smoke")
    arguments = parse_data(parser)
    if arguments.smoke:
        arguments.shape, arguments.steps, arguments.rounds = "smoke", 3, 1
        arguments.pairs, arguments.repeats = 64, 1
    elif arguments.out is None:
        arguments.out = HERE / "results" / "gpu.json"
    return arguments


def recipe_of(encoder: Path, *, smoke: bool) -> Recipe:
    """Plain fine-tuning of the encoder alone."""
    small = ["train.batch_size=8", "model.max_length=32"] if smoke else []
    return baseline().with_settings([f"model.encoder={encoder}", *CHOSEN, *OFF, *small])


def main() -> None:
    """Measure, and write the result."""
    given = parse_arguments()
    if not torch.cuda.is_available() and not given.smoke:
        print("There is no GPU here: nothing is measured. --smoke tries the whole way on a CPU.")
        return
    device = place_of(None)
    fast = "bf16" if device.type == "cuda" else "fp32"
    data, shape = prepared(given), SHAPES[given.shape]
    work = given.work / "gpu" / given.shape
    work.mkdir(parents=True, exist_ok=True)
    encoder = random_encoder(shape, work / "encoder", data)
    job = Job(recipe_of(encoder, smoke=given.smoke), data, given.steps, device.type)
    at_best = peak(device, 8192 if device.type == "cuda" else 512)
    print(f"a product of bf16 matrices: {at_best / 1e12:.1f} TFLOP/s", flush=True)
    dataset = Dataset.open(data)
    featurizer = make_featurizer(job.recipe.model, dataset)
    pairs = open_pairs(dataset, featurizer, job.recipe.model.max_length)
    course = Course(job, shape, at_best, dataset, pairs.lengths)
    result = {
        "what": "fine-tuning and scoring on a GPU, against sentence-transformers and the GPU's own speed",
        "command": command_as_given("gpu.py"),
        **circumstances("zhichun", "torch", "transformers", "accelerate", THEIRS),
        "shape": vars(shape),
        "goals": GOALS,
        "tflops_of_a_matrix_product": at_best / 1e12,
    }

    def keep(measured: dict[str, Any]) -> None:
        """Write what is there so far: a GPU is not always to be had for as long as all of it takes."""
        result.update(measured)
        if given.out:
            write_json(given.out, result)

    training = course.train(fast, given.rounds, keep)
    in_steps = training[OURS]["pairs_per_second"] / training[f"{OURS}, whole recipe"]["pairs_per_second"]
    keep({"whole_recipe_in_steps": in_steps})
    scoring = course.score(job.model(featurizer), given.pairs, given.repeats, work)
    keep({"scoring": scoring})
    for what, systems in (("training", training), ("scoring", scoring)):
        for name, of in systems.items():
            print(f"{what:9s} {name:45s} {of['times_faster']:6.2f} times, {of['utilisation']:6.1%} of the GPU")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
