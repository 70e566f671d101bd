"""Fine-tuning under an unmodified Hugging Face `Trainer`, in place of zhichun's own loop.

The objective owns the model and its forward gives the loss, so a trainer needs only batches: a dataset of row numbers
and a collator. What zhichun's own loop adds to this: exact weights over uneven micro-batches, batches of like length, a
resume that is the same bit for bit, and a run folder.

Run ``python examples/with_hf_trainer.py DATA`` on a dataset folder of `zhichun prepare`, or without DATA on a small
sample shop. On several GPUs start it with ``accelerate launch``; plain ``python`` should see one.
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Trainer, TrainingArguments

from zhichun import load_recipe, prepare, write_sample_shop
from zhichun.core.tasks import TASKS
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import open_pairs
from zhichun.fit.train import build_model, make_featurizer, trigram_vectors
from zhichun.objective import FineTuning
from zhichun.text.pairs import Pairs


@dataclass(frozen=True)
class Collator:
    """Turns row numbers into one batch, under the name of the argument of `FineTuning.forward`."""

    pairs: Pairs
    targets: torch.Tensor
    weights: torch.Tensor

    def __call__(self, rows: list[int]) -> dict[str, Any]:
        """Make the batch; its normaliser is its own weight, so that the loss is the weighted mean."""
        arrays = self.pairs.collate(np.asarray(rows))
        batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
        weight = self.weights[rows]
        return {"batch": {**batch, "target": self.targets[rows], "weight": weight, "normaliser": weight.sum()}}


def main(data: Path, out: Path, *settings: str) -> tuple[float, float]:
    """Train the recipe `tiny`; gives the loss on the held-out queries before and after."""
    recipe = load_recipe("tiny").with_settings(settings)
    dataset, task = Dataset.open(data), TASKS[recipe.task]
    featurizer = make_featurizer(recipe.model, dataset)
    training, held_out = dataset.split(recipe.train.validation_fold)
    vectors = trigram_vectors(recipe.model, featurizer, dataset)
    torch.manual_seed(recipe.train.seed)
    trainer = Trainer(
        model=FineTuning(build_model(recipe.model, featurizer, task, vectors), recipe.objective),
        args=TrainingArguments(
            output_dir=str(out),
            num_train_epochs=recipe.train.epochs,
            per_device_train_batch_size=recipe.train.batch_size,
            learning_rate=recipe.train.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=recipe.train.warmup,  # below 1 it is a share
            weight_decay=recipe.train.weight_decay,
            max_grad_norm=recipe.train.clip or 0.0,
            seed=recipe.train.seed,
            label_names=["batch"],  # so that evaluating knows that a batch gives a loss
            prediction_loss_only=True,
            remove_unused_columns=False,
            save_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
        ),
        data_collator=Collator(
            open_pairs(dataset, featurizer, recipe.model.max_length),
            torch.from_numpy(task.targets(dataset.labels)),
            torch.from_numpy(dataset.column("weight").astype("float32")),
        ),
        train_dataset=training.tolist(),
        eval_dataset=held_out.tolist(),
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    after = trainer.evaluate()["eval_loss"]
    print(f"loss on the held-out queries: {before:.4f} before, {after:.4f} after")
    return before, after


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="dataset folder; a sample shop, if not given")
    given = parser.parse_args().data
    with tempfile.TemporaryDirectory() as folder:
        if given is None:
            write_sample_shop(Path(folder, "shop"), products=600, queries=200)
            prepare(Path(folder, "shop"), Path(folder, "data"))
        main(given or Path(folder, "data"), Path(folder, "trainer"), "train.epochs=2")
