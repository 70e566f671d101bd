"""What FGM at the table loses where a step is cut into micro-batches, each of which takes a norm of its own.

    python benchmarks/fgm_micro_batches.py DATA [--seeds 3]

DATA is a dataset folder, such as that of the sample shop. The recipe `tiny` in half its size with FGM, steps of 32
pairs; a budget of tokens that holds a step, and a half, a quarter and an eighth of it. For each: the cosine of a step's
gradient with that of the uncut step, with the starting weights (once more with rows of the table of norm 1, as those of
pre-trained encoders are about, so that ε is large beside them), and the test split after training, over seeds.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from machine import circumstances

from zhichun.core.files import write_json
from zhichun.core.tasks import TASKS
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import open_pairs
from zhichun.fit.recipe import Recipe, load_recipe
from zhichun.fit.train import build_model, judged_batches, make_featurizer, train
from zhichun.measure.evaluate import evaluate
from zhichun.objective import FineTuning
from zhichun.score.torch_engine import to_tensors

HERE = Path(__file__).parent
SMALL = (
    "model.max_length=48",
    "model.tiny.layers=2",
    "model.tiny.hidden=64",
    "model.tiny.pieces=4000",
    "train.epochs=3",
)
PAIRS, STEPS, PARTS = 32, 20, (1, 2, 4, 8)
METRICS = ("micro_f1", "ndcg", "log_loss")


def cut_into(recipe: Recipe, parts: int) -> Recipe:
    """Give a step so many micro-batches, where all pairs are of full length."""
    return recipe.with_settings([f"train.micro_batch_tokens={PAIRS * recipe.model.max_length // parts}"])


def gradients(recipe: Recipe, data: Path, norm: float | None = None) -> list[tuple[torch.Tensor, int]]:
    """Give the gradient of some steps before the first one, and of how many micro-batches each was."""
    dataset = Dataset.open(data)
    featurizer = make_featurizer(recipe.model, dataset)
    pairs = open_pairs(dataset, featurizer, recipe.model.max_length)
    torch.manual_seed(0)
    objective = FineTuning(build_model(recipe.model, featurizer, TASKS[recipe.task]), recipe.objective)
    if norm is not None:
        table = objective.model.encoder.table
        table.data.mul_(norm / table.norm(dim=1).mean().item())
    batches = judged_batches(recipe, dataset, pairs, dataset.split(recipe.train.validation_fold)[0])
    found = []
    for step in range(STEPS):
        objective.zero_grad()
        parts = list(batches.micro_batches(step, 0, 1))
        for arrays in parts:
            objective(to_tensors(arrays, torch.device("cpu"))).total.backward()
        flat = torch.cat([weight.grad.flatten() for weight in objective.parameters() if weight.grad is not None])
        found.append((flat, len(parts)))
    return found


def cosines(cut: list[tuple[torch.Tensor, int]], uncut: list[tuple[torch.Tensor, int]]) -> dict[str, float]:
    """Compare gradients step by step."""
    found = [torch.cosine_similarity(one, other, dim=0).item() for (one, _), (other, _) in zip(cut, uncut, strict=True)]
    return {"mean": round(statistics.fmean(found), 4), "least": round(min(found), 4)}


def measured(recipe: Recipe, data: Path, seeds: int) -> dict[str, list[float]]:
    """Train with each seed and measure the test split."""
    found: dict[str, list[float]] = {name: [] for name in METRICS}
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            run = train(recipe.with_settings([f"train.seed={seed}"]), data, Path(folder, "run"))
            figures = evaluate(run.path, data, shown=False)
        for name in METRICS:
            found[name].append(round(figures[name], 4))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    settings = (f"train.batch_size={PAIRS}", "objective.second_view=FGM", "model.dropout=0.0", "train.attention=padded")
    recipe = load_recipe("tiny").with_settings([*settings, *SMALL])
    result: dict[str, Any] = {"pairs": PAIRS, "steps": STEPS, "seeds": arguments.seeds, "cut_into": {}}
    uncut = {norm: gradients(cut_into(recipe, 1), arguments.data, norm) for norm in (None, 1.0)}
    for parts in PARTS:
        cut = {norm: gradients(cut_into(recipe, parts), arguments.data, norm) for norm in uncut}
        found = result["cut_into"][str(parts)] = {
            "tokens": cut_into(recipe, parts).train.micro_batch_tokens,
            "micro_batches": round(statistics.fmean(number for _, number in cut[None]), 2),
            "cosine": cosines(cut[None], uncut[None]),
            "cosine_with_rows_of_norm_1": cosines(cut[1.0], uncut[1.0]),
            "test": measured(cut_into(recipe, parts), arguments.data, arguments.seeds),
        }
        print(parts, found, flush=True)
    write_json(HERE / "results" / "fgm_micro_batches.json", {**result, **circumstances("zhichun", "torch")})


if __name__ == "__main__":
    main()
