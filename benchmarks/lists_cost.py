"""What a training step of whole lists costs beside a step of pairs: with a ranking loss, and with a list head.

    python benchmarks/lists_cost.py sentence-transformers/all-MiniLM-L6-v2 --data ESCI_FOLDER [--steps 8] [--rounds 3]

Plain fine-tuning in fp32, 32 pairs a step, cut to 64 tokens; the making of batches and the optimiser's step are
included. The ways take their steps in turn, on the work of one thread. A step of lists may have a few pairs less, so a
way's figure is its time for a pair; it is the median of the rounds' ratios. Any folder in the official layout can be
given.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from esci_arguments import HERE, command, esci_parser, parse_esci, prepared
from machine import circumstances

from zhichun.core.errors import UserError
from zhichun.core.files import write_json
from zhichun.core.tasks import TASKS
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import open_pairs
from zhichun.fit.loop import make_optimizer
from zhichun.fit.recipe import Recipe
from zhichun.fit.recipes.kdd2022 import baseline
from zhichun.fit.train import build_model, judged_batches, make_featurizer
from zhichun.objective import FineTuning
from zhichun.score.torch_engine import to_tensors

CHOSEN = ["model.max_length=64", "model.trigram_start=random", "model.trigrams=null", "train.precision=fp32"]
LISTS = ["train.lists=Lists"]
WAYS = {
    "pairs": [],
    "lists": LISTS,
    "lists with LambdaLoss": [*LISTS, "objective.ranking=LambdaLoss"],
    "lists with LambdaLoss and a list head": [*LISTS, "objective.ranking=LambdaLoss", "model.lists=ListHead"],
}
GOAL = 1.05


def stepping(recipe: Recipe, data: Path) -> Callable[[range], float]:
    """Give what takes some steps and returns the seconds of a pair."""
    dataset = Dataset.open(data)
    featurizer = make_featurizer(recipe.model, dataset)
    torch.manual_seed(0)
    model = build_model(recipe.model, featurizer, TASKS[recipe.task])
    model.encoder.use_attention(recipe.train.attention)
    objective = FineTuning(model, recipe.objective).train()
    pairs, rows = open_pairs(dataset, featurizer, recipe.model.max_length), dataset.split(None)[0]
    batches = judged_batches(recipe, dataset, pairs, rows, pack=model.encoder.packs)
    optimizer = make_optimizer(objective, recipe.train)

    def take(steps: range) -> float:
        began = time.process_time()
        for step in steps:
            for arrays in batches.micro_batches(step, 0, 1):
                objective(to_tensors(arrays, torch.device("cpu"))).total.backward()
            optimizer.step()
            optimizer.zero_grad()
        return (time.process_time() - began) / sum(batches.size(step) for step in steps)

    take(range(1))  # lays out the epoch, and makes the optimiser's moments
    return take


def main() -> None:
    """Measure, and write the result."""
    parser = esci_parser(__doc__)
    parser.add_argument("--steps", type=int, default=8, help="steps of each way in a round")
    parser.add_argument("--rounds", type=int, default=3, help="how often each way is timed")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "lists_cost.json")
    arguments = parse_esci(parser)
    torch.set_num_threads(1)
    data = prepared(arguments)
    recipe = baseline().with_settings([f"model.encoder={arguments.encoder}", *CHOSEN, *arguments.set])
    ways = {name: stepping(recipe.with_settings(settings), data) for name, settings in WAYS.items()}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(arguments.rounds):
        for name, take in ways.items():
            taken[name].append(take(range(1 + number * arguments.steps, 1 + (number + 1) * arguments.steps)))
    lists = np.bincount(Dataset.open(data).list_row)
    options = [f"--steps {arguments.steps}", f"--rounds {arguments.rounds}"]
    result = {
        "what": "the cost of a training step of whole lists, beside one of pairs",
        "command": command("lists_cost.py", arguments, options).replace("ESCI_FOLDER", arguments.data.name),
        "encoder": arguments.name,
        "data": arguments.data.name,
        **circumstances("zhichun", "torch", "transformers"),
        "pairs_of_a_list": {"mean": round(float(lists[lists > 0].mean()), 2), "most": int(lists.max())},
        "goal": GOAL,
        "ways": {
            name: {
                "times_pairs": round(statistics.median(np.divide(seconds, taken["pairs"]).tolist()), 3),
                "milliseconds_of_a_pair": [round(1000 * one, 2) for one in seconds],
            }
            for name, seconds in taken.items()
        },
    }
    write_json(arguments.out, result)
    for name, of in result["ways"].items():
        sys.stdout.write(f"{name}: {of['times_pairs']:.3f}\n")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
