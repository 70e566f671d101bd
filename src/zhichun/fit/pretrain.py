"""Pre-training: from a recipe and a catalogue to a pre-trained encoder.

Legend: ``K`` tasks.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from zhichun.core import schema
from zhichun.core.arrays import Doubles
from zhichun.core.console import Stages, say_aside
from zhichun.core.errors import UserError
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import CatalogueTexts
from zhichun.fit.batches import Examples, ProductBatches
from zhichun.fit.loop import run_training
from zhichun.fit.recipe import PretrainingRecipe
from zhichun.fit.run_folder import RunFolder
from zhichun.fit.train import open_tokenizer
from zhichun.measure.run_page import write_report
from zhichun.model.encoder import ENCODER_FOLDER, LMHead, load_lm_head
from zhichun.model.encoder_settings import TINY, start_encoder
from zhichun.model.model_folder import PretrainedEncoder, PretrainedTables
from zhichun.objective import Pretraining
from zhichun.objective.pretext.task import Draw, Sizes
from zhichun.objective.pretraining import PretextModel
from zhichun.score.torch_engine import to_tensors
from zhichun.text.pairs import Rows, TextReader
from zhichun.text.vocabulary import Vocabulary

# Examples to validate on are the same in every run: of an epoch that no training comes to.
VALIDATION: Final = Draw(seed=0, epoch=2**32 - 1)


def pretrain(
    recipe: PretrainingRecipe, data: Path, out: Path, *, resume: bool = False, title: str = "pretrain"
) -> RunFolder:
    """Pre-train a recipe on the catalogue of a dataset folder.

    The texts of all products are read, those of test pairs too, as in the paper; no label is.

    Parameters
    ----------
    recipe
        What to learn and how.
    data, out, resume, title
        As those of `zhichun.train`.

    Returns
    -------
    RunFolder
        With ``encoder/``, the weights with the lowest validation loss.

    Raises
    ------
    UserError
        For a folder that is no dataset or is in use by another run, and for a catalogue that cannot be trained on.
    """
    return run_training(LearnCatalogue, recipe, data, out, resume=resume, title=title)


class LearnCatalogue:
    """Pre-training on the products, with the held-out ones scored by all processes together."""

    unit = "products"
    result = ENCODER_FOLDER

    def __init__(
        self, recipe: PretrainingRecipe, dataset: Dataset, accelerator: Accelerator, stages: Stages | None
    ) -> None:
        self.recipe, self.accelerator, self.data = recipe, accelerator, dataset.folder
        of = recipe.model
        self.reader = TextReader(open_tokenizer(of, dataset), of.fields, of.max_length)
        self.vocabularies = {
            "brand": Vocabulary.load(self.data / "vocabulary" / "brands.parquet"),
            "color": Vocabulary.load(self.data / "vocabulary" / "colors.parquet"),
        }
        brands, colors = self.vocabularies.values()
        self.catalogue = CatalogueTexts.open(dataset, brands, colors, readable_pairs(dataset, recipe), stages)
        self.examples = Examples(recipe.objective.tasks, self.catalogue, self.reader)

    def start(self) -> tuple[Pretraining, ProductBatches]:
        """Make the objective and its batches."""
        training, self.validation = split(self.catalogue, self.recipe, self.data)
        settings = self.recipe.train
        batches = ProductBatches(
            rows=training,
            batch_size=settings.batch_size,
            seed=settings.seed,
            examples=self.examples,
            micro_batch_size=settings.micro_batch_size,
        )
        brands, colors = self.vocabularies.values()
        return build_objective(self.recipe, self.reader, brands, colors, self._lm_head()), batches

    def _lm_head(self) -> LMHead | None:
        """Load the checkpoint's own head, if it has one and a task needs it, and report which."""
        encoder, tasks = self.recipe.model.encoder, self.recipe.objective
        if encoder == TINY or (tasks.mlm is None and tasks.pair_mlm is None):
            return None
        found = load_lm_head(encoder)
        if self.accelerator.is_main_process:
            whose = "new: the checkpoint has none" if found is None else "the checkpoint's own"
            say_aside(f"The head of the masked language model is {whose}.")
        return found

    def figures(self, model: nn.Module) -> Mapping[str, float]:
        """Measure a model: ``loss``, the weighted total, and loss and accuracy of each task."""
        assert isinstance(model, PretextModel)
        sums_K3 = self.accelerator.reduce(torch.from_numpy(self._sums(model)).to(self.accelerator.device))
        figures = {"loss": 0.0}
        for task, (loss, right, items) in zip(self.examples.tasks, sums_K3.tolist(), strict=True):
            if items:
                figures |= {f"{task.name}.loss": loss / items, f"{task.name}.accuracy": right / items}
                figures["loss"] += task.weight * loss / items
        return figures

    @torch.inference_mode()
    def _sums(self, model: PretextModel) -> Doubles:
        """Add up loss, correct predictions and items of each task, ``[K, 3]``, over this process's micro-batches."""
        device, was_training = next(model.parameters()).device, model.training
        model.eval()
        sums_K3 = np.zeros((len(self.examples.tasks), 3))
        # Neighbours in the catalogue may be alike, and products of a micro-batch are each other's negatives.
        shuffled = np.random.Generator(np.random.PCG64(VALIDATION.seed)).permutation(self.validation)
        parts = np.array_split(shuffled, -(-len(shuffled) // self.recipe.train.micro_batch_size))
        for rows in parts[self.accelerator.process_index :: self.accelerator.num_processes]:
            outcomes = model(to_tensors(self.examples.of(rows, VALIDATION), device))
            for place, task in enumerate(self.examples.tasks):
                if (outcome := outcomes.get(task.name)) is not None:
                    loss, right = float(outcome.loss_N.double().sum()), float(outcome.right_N.sum())
                    sums_K3[place] += (loss, right, len(outcome.loss_N))
        model.train(was_training)
        return sums_K3

    def finish(self, run: RunFolder, objective: nn.Module) -> None:
        """Write the report and the encoder, with the tables that it learnt."""
        assert isinstance(objective, Pretraining)
        if not self.accelerator.is_main_process:
            return
        write_report(run.path)
        tables, encoder = objective.shipped.tables(), objective.shipped.encoder
        kept = PretrainedTables(tables, {name: self.vocabularies[name] for name in self.vocabularies if name in tables})
        reader = self.reader
        pretrained = PretrainedEncoder(encoder, reader.tokenizer, reader.max_length, kept)
        run.write_result(self.result, pretrained.save)  # last: it says "done"


def build_objective(
    recipe: PretrainingRecipe, reader: TextReader, brands: Vocabulary, colors: Vocabulary, lm_head: LMHead | None = None
) -> Pretraining:
    """Make encoder and heads with their starting weights; the caller seeds torch."""
    encoder = start_encoder(recipe.model, reader.tokenizer)
    sizes = Sizes(brands=len(brands), colors=len(colors), lm_head=lm_head)
    return Pretraining(encoder, recipe.objective.tasks, sizes, recipe.objective.ema)


def readable_pairs(dataset: Dataset, recipe: PretrainingRecipe) -> Rows:
    """Find the judged training pairs whose queries may be read; none where no task reads queries."""
    if recipe.objective.pair_mlm is None:
        return np.zeros(0, np.int64)
    in_training = (dataset.column(schema.SPLIT) == schema.TRAIN) & (dataset.column(schema.ORIGIN) == schema.JUDGED)
    pairs = np.flatnonzero(in_training & ~dataset.held_out(recipe.train.validation_fold))
    if not len(pairs):
        remedy = "Use --set objective.pair_mlm=null."
        raise UserError("there is no training query to read.", file=dataset.folder, remedy=remedy)
    return pairs


def split(catalogue: CatalogueTexts, recipe: PretrainingRecipe, data: Path) -> tuple[Rows, Rows]:
    """Part the catalogue into products to train on and products to validate on.

    Raises
    ------
    UserError
        When there is none of either.
    """
    training, validation = catalogue.split(recipe.train.held_out)
    for rows, what, change in ((training, "to train on", "Lower"), (validation, "to validate on", "Raise")):
        if not len(rows):
            raise UserError(f"there is no product {what}.", file=data, remedy=f"{change} train.held_out.")
    return training, validation
