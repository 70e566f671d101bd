"""How fast pre-training goes, and how much of its time it waits for examples that are made on the fly.

    python benchmarks/pretrain_step.py [--shapes tiny xlm-r-large] [--work FOLDER]

Two shapes with random weights, on the GPU where there is one: the `tiny` encoder with the recipe `tiny:pretrain`, and
XLM-R large (24 layers of 1,024; 250,002 pieces; 151,519 brands and 47,036 colors, as in the paper) with the tasks of
`kdd2022:pretrain`; on the CPU with small steps, without EMA and momentum encoder and with activations computed again,
to fit into memory. The catalogue is a sample shop with texts of the real set's length. Making alone is measured too:
one thread that makes examples as fast as it can feeds any device that reads fewer tokens a second.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from machine import circumstances

from zhichun.core.console import Bar, Stages
from zhichun.core.files import read_json, write_json
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import CatalogueTexts
from zhichun.data.prepare.prepare import prepare
from zhichun.data.sample_shop import write_sample_shop
from zhichun.fit.batches import Examples, ProductBatches
from zhichun.fit.loop import Loop
from zhichun.fit.recipe import PretrainingRecipe, load_recipe
from zhichun.fit.run_folder import CheckpointFolder, RunFolder
from zhichun.fit.train import open_tokenizer
from zhichun.model.encoder import new_encoder
from zhichun.model.encoder_settings import EncoderSettings, TinyEncoder, tiny_config
from zhichun.objective import Pretraining
from zhichun.objective.pretext.task import Sizes
from zhichun.text.pairs import TextReader
from zhichun.text.vocabulary import Vocabulary

HERE = Path(__file__).parent
RESULT = HERE / "results" / "pretrain_step.json"
SHOP = {"products": 2000, "queries": 200, "seed": 0, "text": "esci"}
LARGE = TinyEncoder(layers=24, hidden=1024, heads=16, dropout=0.1, matching_layers=None)
LARGE_PIECES, LARGE_SIZES = 250_002, (151_520, 47_037)
MAKING_STEPS = 5


@dataclass(frozen=True)
class Shape:
    """What is measured.

    Parameters
    ----------
    recipe
        Tasks and settings.
    steps
        Steps to measure, after one that is not.
    pieces
        Rows of the encoder's table, where not those of the tokenizer.
    sizes
        Rows of the tables of brands and colors, where not those of the shop.
    """

    recipe: PretrainingRecipe
    steps: int
    pieces: int | None = None
    sizes: tuple[int, int] | None = None


def shapes(on_gpu: bool) -> dict[str, Shape]:
    tiny = load_recipe("tiny:pretrain", PretrainingRecipe)
    large = load_recipe("kdd2022:pretrain", PretrainingRecipe)
    large = replace(large, model=EncoderSettings(tiny=LARGE))
    if not on_gpu:  # a step of the recipe would take an hour and 30 GB
        small = ["train.batch_size=2", "objective.product2query.draws=1", "train.activation_checkpointing=layers"]
        large = large.with_settings([*small, "objective.ema=null", "objective.contrastive.queue=null"])
    return {
        "tiny": Shape(tiny, steps=20),
        "xlm-r-large": Shape(large, 20 if on_gpu else 2, LARGE_PIECES, LARGE_SIZES),
    }


@dataclass(frozen=True)
class Counted:
    """Batches that count their tokens and end after so many steps."""

    batches: ProductBatches
    steps_per_epoch: int
    tokens: list[int] = field(default_factory=list)

    def size(self, step: int) -> int:
        """Products of a step."""
        return self.batches.size(step)

    def micro_batches(self, step: int, rank: int, processes: int) -> Iterator[dict[str, Any]]:
        """Make a step and count its tokens."""
        made = list(self.batches.micro_batches(step, rank, processes))
        self.tokens.append(sum(tokens_of(batch) for batch in made))
        yield from made


class Unsaved(CheckpointFolder):
    """Checkpoints that are not written, since that is not what is measured."""

    def save(self, weights: Any, optimizer: Any, progress: Any) -> None:
        """Write nothing."""

    def save_best(self, weights: Any, step: int) -> None:
        """Write nothing."""


class Run(RunFolder):
    """A run folder without checkpoints."""

    @property
    def checkpoints(self) -> Unsaved:
        """Where nothing is written."""
        return Unsaved(self.path / "checkpoint")


class Clock(Bar):
    """Keeps the time of each step."""

    def __init__(self) -> None:
        super().__init__("", shown=False)
        self.times: list[float] = []

    def advance(self, units: int, loss: float | None = None, *, steps: int = 1) -> None:
        """Look at the clock."""
        self.times.append(time.monotonic())


def tokens_of(batch: dict[str, Any]) -> int:
    return int(sum(array.sum() for name, array in batch.items() if name.endswith(".attention_mask")))


def measure(shape: Shape, data: Path) -> dict[str, Any]:
    recipe, dataset = shape.recipe, Dataset.open(data)
    reader = TextReader(open_tokenizer(recipe.model, dataset), recipe.model.fields, recipe.model.max_length)
    brands, colors = (Vocabulary.load(data / "vocabulary" / f"{name}.parquet") for name in ("brands", "colors"))
    catalogue = CatalogueTexts.open(dataset, brands, colors, np.zeros(0, np.int64))
    settings = replace(recipe.train, epochs=1)
    batches = ProductBatches(
        rows=catalogue.rows,
        batch_size=settings.batch_size,
        seed=settings.seed,
        examples=Examples(recipe.objective.tasks, catalogue, reader),
        micro_batch_size=settings.micro_batch_size,
    )
    making = making_alone(batches)
    config = tiny_config(recipe.model.tiny, reader.tokenizer, recipe.model.max_length)
    config.vocab_size = shape.pieces or config.vocab_size
    torch.manual_seed(0)
    rows = shape.sizes or (len(brands), len(colors))
    sizes = Sizes(brands=rows[0], colors=rows[1])
    objective = Pretraining(new_encoder(config), recipe.objective.tasks, sizes, recipe.objective.ema)
    counted, clock = Counted(batches, shape.steps + 1), Clock()
    accelerator = Accelerator(cpu=not torch.accelerator.is_available())
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder))
        loop = Loop(accelerator, counted, lambda _: {settings.metric: 0.0}, settings, run, clock)
        loop.fit(objective)
    seconds = clock.times[-1] - clock.times[0]
    return {
        "parameters": sum(weight.numel() for weight in objective.model.encoder.parameters()),
        "products_per_step": settings.batch_size,
        "steps": shape.steps,
        "tokens_per_step": float(np.mean(counted.tokens[1:])),
        "seconds_per_step": seconds / shape.steps,
        "tokens_per_second": sum(counted.tokens[1:]) / seconds,
        "waiting_share": loop.waiting.share,
        "making": making,
    }


def making_alone(batches: ProductBatches) -> dict[str, float]:
    began, tokens = time.monotonic(), 0
    for step in range(1, 1 + MAKING_STEPS):
        tokens += sum(tokens_of(batch) for batch in batches.micro_batches(step, 0, 1))
    seconds = time.monotonic() - began
    products = sum(batches.size(step) for step in range(1, 1 + MAKING_STEPS))
    return {"tokens_per_second": tokens / seconds, "products_per_second": products / seconds}


def main() -> None:
    known = shapes(torch.cuda.is_available())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--shapes", nargs="+", choices=list(known), default=list(known), help="others keep their figures"
    )
    parser.add_argument("--work", type=Path, default=HERE / "work" / "pretrain_step", help="where the shop is kept")
    arguments = parser.parse_args()
    data: Path = arguments.work / "data"
    if not data.is_dir():
        write_sample_shop(arguments.work / "shop", **SHOP, overwrite=True)
        stages = Stages()
        prepare(arguments.work / "shop", data, progress=stages)
        stages.stop()
    before = read_json(RESULT)["shapes"] if RESULT.is_file() else {}
    measured = {name: measure(known[name], data) for name in arguments.shapes}
    result = {
        "what": "pre-training: tokens per second, and the share of the time spent waiting for data",
        "command": "python benchmarks/pretrain_step.py",
        **circumstances("zhichun", "torch", "transformers", "tokenizers"),
        "data": SHOP,
        "shapes": {**before, **measured},
    }
    write_json(RESULT, result)
    sys.stdout.write(f"{result['shapes']}\n")


if __name__ == "__main__":
    main()
