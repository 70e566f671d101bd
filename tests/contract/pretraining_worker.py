"""Pre-trains recipes in as many processes as started it: `pretraining_worker.py DATA RECIPES OUT`, like `worker.py`."""

import json
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from worker import fit

from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import CatalogueTexts
from zhichun.fit.batches import Examples, ProductBatches
from zhichun.fit.pretrain import build_objective, readable_pairs
from zhichun.fit.recipe import PretrainingRecipe
from zhichun.fit.train import open_tokenizer
from zhichun.objective import Pretraining
from zhichun.text.pairs import TextReader
from zhichun.text.vocabulary import Vocabulary


def begin(recipe: PretrainingRecipe, data: Path, steps: int = 1) -> tuple[Pretraining, ProductBatches]:
    """Make the objective and an epoch of so many steps."""
    dataset, settings = Dataset.open(data), recipe.train
    reader = TextReader(open_tokenizer(recipe.model, dataset), recipe.model.fields, recipe.model.max_length)
    brands, colors = (Vocabulary.load(data / "vocabulary" / f"{name}.parquet") for name in ("brands", "colors"))
    catalogue = CatalogueTexts.open(dataset, brands, colors, readable_pairs(dataset, recipe))
    rows = catalogue.rows[: steps * settings.batch_size]
    examples = Examples(recipe.objective.tasks, catalogue, reader)
    batches = ProductBatches(
        rows=rows,
        batch_size=settings.batch_size,
        seed=settings.seed,
        examples=examples,
        micro_batch_size=settings.micro_batch_size,
    )
    torch.manual_seed(settings.seed)
    return build_objective(recipe, reader, brands, colors), batches


def main() -> None:
    data, recipes, out = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    rank = Accelerator(cpu=True).process_index
    for name, value in json.loads(recipes.read_text("utf-8")).items():
        recipe = PretrainingRecipe.from_json(value)
        objective, batches = begin(recipe, data)
        run = fit(recipe, objective, batches, out / name)
        save_file(objective.state_dict(), run.path / f"process-{rank}.safetensors")


if __name__ == "__main__":
    main()
