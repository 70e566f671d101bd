"""From a recipe and a catalogue to an encoder that has read it.

Legend: ``K`` tasks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import nn

from zhichun.core import schema
from zhichun.core.console import Bar, Stages
from zhichun.core.errors import UserError
from zhichun.data.dataset.catalogue_store import CatalogueTexts
from zhichun.data.dataset.dataset import Dataset
from zhichun.fit.loop import Loop
from zhichun.fit.product_batches import Examples, ProductBatches
from zhichun.fit.recipe import PretrainingRecipe
from zhichun.fit.run_folder import RunFolder
from zhichun.fit.train import open_tokenizer
from zhichun.measure.report import write_report
from zhichun.model.encoder_settings import start_encoder
from zhichun.model.pretrained_folder import PretrainedEncoder, PretrainedTables
from zhichun.objective import Pretraining
from zhichun.objective.pretext.task import Draw, Pretext, Rows, Sizes
from zhichun.objective.pretraining import PretextModel
from zhichun.score.predict import to_tensors
from zhichun.text.reader import TextReader
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
    data
        Dataset folder of `zhichun prepare`.
    out
        Run folder to make.
    resume
        Go on with the run that is there; where there is none yet, start it.
    title
        What the progress is called.

    Returns
    -------
    RunFolder
        With ``encoder/``, the weights with the lowest validation loss.

    Raises
    ------
    UserError
        For a folder that is no dataset or is in use by another run, and for a catalogue that cannot be trained on.
    """
    accelerator = Accelerator(cpu=not torch.accelerator.is_available())
    dataset, run = Dataset.open(data), RunFolder(out)
    with accelerator.main_process_first():
        if accelerator.is_main_process:
            run = RunFolder.create(out, recipe.to_json(), data, resume=resume)
        stages = Stages("products", shown=accelerator.is_main_process)
        reader = TextReader(open_tokenizer(recipe.model, dataset), recipe.model.fields, recipe.model.max_length)
        brands, colors = (Vocabulary.load(data / "vocabulary" / f"{name}.parquet") for name in ("brands", "colors"))
        catalogue = CatalogueTexts.open(dataset, brands, colors, readable_pairs(dataset, recipe), stages)
        stages.stop()
    if run.encoder.is_dir():
        run.drop_checkpoints()  # a kill may have come between the encoder and this
        return run
    training, validation = split(catalogue, recipe, data)
    examples = Examples(recipe.objective.tasks, catalogue, reader)
    settings = recipe.train
    batches = ProductBatches(examples, training, settings.batch_size, settings.micro_batch_size, settings.seed)
    if batches.smallest_step < accelerator.num_processes:
        raise UserError(
            f"a step of {batches.smallest_step} products is too small for {accelerator.num_processes} processes.",
            remedy="Raise train.batch_size, or start fewer processes.",
        )
    torch.manual_seed(settings.seed)
    objective = build_objective(recipe, reader, brands, colors)
    held_out = HeldOutProducts(accelerator, examples, validation, settings.micro_batch_size)
    with Bar(title, "products", shown=accelerator.is_main_process) as bar:
        progress = Loop(accelerator, batches, held_out.figures, settings, run, bar).fit(objective)
    objective.shipped.load_state_dict(run.checkpoints.best(progress.best_step))
    if accelerator.is_main_process:
        write_report(run.path)
        tables = objective.shipped.tables()
        of_tables = {name: vocabulary for name, vocabulary in (("brand", brands), ("color", colors)) if name in tables}
        kept = PretrainedTables(tables, of_tables)
        model = objective.shipped.encoder
        run.write_encoder(PretrainedEncoder(model, reader.tokenizer, reader.max_length, kept))  # last: it says "done"
    accelerator.wait_for_everyone()
    return run


def build_objective(
    recipe: PretrainingRecipe, reader: TextReader, brands: Vocabulary, colors: Vocabulary
) -> Pretraining:
    """Make encoder and heads with their starting weights; the caller seeds torch."""
    encoder = start_encoder(recipe.model, reader.tokenizer)
    sizes = Sizes(brands=len(brands), colors=len(colors), pieces=reader.pieces)
    return Pretraining(encoder, recipe.objective.tasks, sizes, recipe.objective.ema)


def readable_pairs(dataset: Dataset, recipe: PretrainingRecipe) -> Rows:
    """Find the judged training pairs whose queries may be read; none where no task reads queries.

    Raises
    ------
    UserError
        When a task reads queries and there are none.
    """
    if recipe.objective.pair_mlm is None:
        return np.zeros(0, np.int64)
    in_training = (dataset.column(schema.SPLIT) == schema.TRAIN) & (dataset.column(schema.ORIGIN) == schema.JUDGED)
    pairs = np.flatnonzero(in_training & ~dataset.held_out(recipe.train.validation_fold))
    if not len(pairs):
        raise UserError(
            "there is no training query to read.", file=dataset.folder, remedy="Use --set objective.pair_mlm=null."
        )
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


@dataclass(frozen=True)
class HeldOutProducts:
    """The held-out products, scored by all processes together.

    Parameters
    ----------
    accelerator
        Devices and processes.
    examples
        What makes their examples, the same at each evaluation.
    rows
        The products.
    micro_batch_size
        Products that are scored at once.
    """

    accelerator: Accelerator
    examples: Examples
    rows: Rows
    micro_batch_size: int

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
    def _sums(self, model: PretextModel) -> npt.NDArray[np.float64]:
        """Add up loss, right answers and items of each task, ``[K, 3]``, over this process's micro-batches."""
        device, was_training = next(model.parameters()).device, model.training
        model.eval()
        tasks: Sequence[Pretext] = self.examples.tasks
        sums_K3 = np.zeros((len(tasks), 3))
        # Neighbours in the catalogue may be alike, and products of a micro-batch are each other's negatives.
        shuffled = np.random.Generator(np.random.PCG64(VALIDATION.seed)).permutation(self.rows)
        parts = np.array_split(shuffled, -(-len(shuffled) // self.micro_batch_size))
        for rows in parts[self.accelerator.process_index :: self.accelerator.num_processes]:
            outcomes = model(to_tensors(self.examples.of(rows, VALIDATION), device))
            for place, task in enumerate(tasks):
                if (outcome := outcomes.get(task.name)) is not None:
                    loss, right = float(outcome.loss_N.double().sum()), float(outcome.right_N.sum())
                    sums_K3[place] += (loss, right, len(outcome.loss_N))
        model.train(was_training)
        return sums_K3
