"""Plain fine-tuning on a CPU: our loop against sentence-transformers' `CrossEncoderTrainer` at its defaults.

    python benchmarks/train_cpu.py sentence-transformers/all-MiniLM-L6-v2 --data ESCI_FOLDER [--steps 14] [--rounds 3]

Cross-entropy over the four classes from the same weights, the head's among them, on the same pairs, 32 a step, cut to
256 tokens; there are no side features. Both sides take a few steps in turn, each time in a process of their own
and with another seed, on pairs in an order of their own. A side's time is that of its steps but the first, tokenising
included: theirs does it in each step, ours once before the first, which is counted by the share of the pairs that were
trained on. Loading the model, evaluating and writing checkpoints are in neither. Learning rate, schedule,
weight decay and clipping are the same; batches are each side's own default. Theirs computes in fp32, its default; ours
does too, once more with torch's own dropout, which shows what ours gains, and, on a CPU with hardware bf16,
once more in bf16, which is then ours by default. Writes
``benchmarks/results/train_cpu.json``; needs `pip install 'zhichun[train,bench]'`.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from esci_arguments import HERE, command, esci_parser, parse_esci, prepared
from machine import circumstances
from train_sides import OFF, OURS, THEIRS, Job, train_ours, train_theirs, train_with_torch_dropout

from zhichun.core.errors import UserError
from zhichun.core.files import write_json
from zhichun.fit.recipes.kdd2022 import baseline
from zhichun.model.layers import has_bf16

# Without a warm-up, in whose first step their rate is 0 and ours is not: a step's lead would be a difference in loss.
CHOSEN = ["model.max_length=256", "train.epochs=1", "train.learning_rate=1e-4", "train.warmup=0"]
IN_BF16 = f"{OURS} in bf16"
TORCH_DROPOUT = f"{OURS} with torch's dropout"
GOAL = 3.5


def sides() -> dict[str, tuple[Callable[[Job], dict[str, Any]], str]]:
    """Give what is measured on this CPU: what takes the steps, and our precision."""
    found = {
        THEIRS: (train_theirs, "fp32"),
        OURS: (train_ours, "fp32"),
        TORCH_DROPOUT: (train_with_torch_dropout, "fp32"),
        IN_BF16: (train_ours, "bf16"),
    }
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
        "what": "plain fine-tuning on a CPU, against sentence-transformers' CrossEncoderTrainer",
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
