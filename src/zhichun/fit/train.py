"""From a recipe and a dataset folder to a run folder.

Where a recipe says `auto`, learning rate and epochs fit the encoder's size and the number of pairs. The smaller the
encoder, the larger the rate that it takes: ``1e-5 · (1024 / hidden)²``, which is the paper's 1e-5 for the large
encoders of 1,024, 1.8e-5 for a base one of 768, 7e-5 for MiniLM's 384 and 6e-4 for `tiny`'s 128. Few pairs are read
more often: as many epochs as make 400 steps, but no fewer than 2 and no more than 8.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from zhichun.core import schema
from zhichun.core.arrays import Bools, Int64, write_parquet
from zhichun.core.console import Stages, say_aside
from zhichun.core.errors import UserError
from zhichun.core.settings import encode
from zhichun.core.tasks import TASKS, Floats, Task
from zhichun.data.dataset import Dataset, no_progress
from zhichun.data.feature_store import catalogue_tokenizer, open_pairs
from zhichun.data.predictions import PREDICTIONS_FILE
from zhichun.data.readers.pair_tables import append_columns
from zhichun.fit.batches import JudgedBatches, ListBatches
from zhichun.fit.loop import run_training
from zhichun.fit.pool import with_pool
from zhichun.fit.recipe import PretrainingRecipe, Recipe, load_recipe
from zhichun.fit.run_folder import RunFolder, recipe_of
from zhichun.fit.train_settings import TrainSettings, judged_targets
from zhichun.fit.word2vec import Word2VecSettings, train_trigram_vectors
from zhichun.measure.run_page import write_report
from zhichun.metrics import nDCG
from zhichun.metrics.figures import measure, ranked
from zhichun.metrics.metric import UNRANKED, measurable
from zhichun.model.encoder import load_tokenizer
from zhichun.model.encoder_settings import TINY, EncoderSettings, hidden_size, start_encoder
from zhichun.model.interaction import Split
from zhichun.model.model_folder import PretrainedTables, TrainedModel, vocabulary_sizes
from zhichun.model.relevance_model import ModelSettings, RelevanceModel
from zhichun.objective import FineTuning
from zhichun.score.torch_engine import predict
from zhichun.text.features import Featurizer
from zhichun.text.pairs import Pairs
from zhichun.text.tokenizer import PairTokenizer
from zhichun.text.trigrams import TrigramVectors, vectors_path

STEPS: Final = 400
FEWEST, MOST = 2, 8
# Of the sum of all steps' rates that `auto` would have: below, a run is said to be too short.
TOO_SHORT: Final = 0.25


def with_pace(recipe: Recipe, dataset: Dataset) -> Recipe:
    """Replace `auto` in a recipe's learning rate and epochs by numbers."""
    given = recipe.train
    if "auto" not in (given.learning_rate, given.epochs):
        return recipe
    learned = (dataset.column(schema.SPLIT) == schema.TRAIN) & (dataset.column(schema.WEIGHT) > 0)
    epochs, rate = pace_of(recipe.model, pairs_read(given, dataset, np.flatnonzero(learned)), given.batch_size)
    epochs = epochs if given.epochs == "auto" else given.epochs
    rate = rate if given.learning_rate == "auto" else given.learning_rate
    return replace(recipe, train=replace(given, epochs=epochs, learning_rate=rate))


def pairs_read(settings: TrainSettings, dataset: Dataset, rows: Int64) -> int:
    """Return how many of some pairs an epoch reads: of a long list a part."""
    if settings.lists is None:
        return len(rows)
    sizes_L = np.unique(dataset.list_row[rows], return_counts=True)[1]
    return int(np.minimum(sizes_L, min(settings.lists.most_candidates, settings.batch_size)).sum())


def pace_of(model: EncoderSettings, pairs: int, batch_size: int) -> tuple[int, float]:
    """Return the epochs and the learning rate that fit an encoder and a number of pairs."""
    epochs = math.ceil(STEPS / max(1, math.ceil(pairs / batch_size)))
    return min(MOST, max(FEWEST, epochs)), float(f"{1e-5 * (1024 / hidden_size(model)) ** 2:.1e}")


def too_short(settings: TrainSettings, model: EncoderSettings, pairs: int) -> str:
    """Say why a run is too short to have learned, with what to change; empty where it is not."""
    epochs, rate = settings.numbers()
    fitting_epochs, fitting_rate = pace_of(model, pairs, settings.batch_size)
    if epochs * rate >= TOO_SHORT * fitting_epochs * fitting_rate:
        return ""
    return (
        f"{epochs} epochs of {pairs:,} pairs at a learning rate of {rate:g} are short: an encoder of this size learns "
        f"little in them. What fits is --set train.learning_rate={fitting_rate:g} --set train.epochs={fitting_epochs}."
    )


def other_split(model: EncoderSettings) -> str:
    """Say that an encoder was pre-trained split, and not as it is to be read now; empty where it was not."""
    recorded = recipe_of(Path(model.encoder))
    before = None if recorded is None else load_recipe(str(recorded), PretrainingRecipe).model.interaction
    if not isinstance(before, Split) or before == model.interaction:
        return ""
    form = json.dumps(encode(before))
    return f"{model.encoder} was pre-trained with --set 'model.interaction={form}': another one is learnt anew."


def train(recipe: Recipe, data: Path, out: Path, *, resume: bool = False, title: str = "train") -> RunFolder:
    """Train a recipe on a dataset folder.

    Under `accelerate launch` every process calls this; the first one writes.

    Parameters
    ----------
    recipe
        What to train and how.
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
        With ``model/`` (the best weights) and ``predictions.parquet`` (what they say of the held-out queries); where
        the weights were averaged, with ``raw.safetensors`` (those that the optimiser left) too.

    Raises
    ------
    UserError
        For a folder that is no dataset or is in use by another run, and for data that cannot be trained on.
    """
    settings = recipe.train
    recipe = with_pace(recipe, with_pool(Dataset.open(data), settings.pool_path, settings.validation_fold))
    return run_training(FineTune, recipe, data, out, resume=resume, title=title, inputs=_soft_label_tables)


class FineTune:
    """Fine-tuning on judged pairs, with the held-out pairs scored by all processes together."""

    unit = "pairs"
    result = "model"

    def __init__(self, recipe: Recipe, dataset: Dataset, accelerator: Accelerator, stages: Stages) -> None:
        dataset = with_pool(dataset, recipe.train.pool_path, recipe.train.validation_fold)
        self.recipe, self.dataset, self.accelerator = recipe, dataset, accelerator
        self.task = TASKS[recipe.task]
        self.featurizer = make_featurizer(recipe.model, dataset)
        self.vectors = trigram_vectors(recipe.model, self.featurizer, dataset, stages)
        self.pairs = open_pairs(dataset, self.featurizer, recipe.model.max_length, stages)

    def start(self) -> tuple[FineTuning, JudgedBatches]:
        """Make the objective and its batches."""
        training, self.validation = self.dataset.split(self.recipe.train.validation_fold)
        self.ranked_P = self._ranked()
        short = too_short(self.recipe.train, self.recipe.model, pairs_read(self.recipe.train, self.dataset, training))
        for said in filter(None, (short, other_split(self.recipe.model))):
            if self.accelerator.is_main_process:
                say_aside(said)
        model = build_model(self.recipe.model, self.featurizer, self.task, self.vectors)
        model.encoder.use_attention(self.recipe.train.attention)
        self.objective = FineTuning(model, self.recipe.objective)
        return self.objective, judged_batches(self.recipe, self.dataset, self.pairs, training, pack=model.encoder.packs)

    def _ranked(self) -> Bools:
        """Mark the held-out pairs that nDCG is measured on: of the small version, where it chooses the checkpoint."""
        rows, settings = self.validation, self.recipe.train
        version, measured = self.dataset.of_version(rows, None, ranking=settings.metric == "ndcg")
        said = f"nDCG is measured on the {version} version: {len(measured):,} of {len(rows):,} held-out pairs."
        if self.task.name != "substitute" and len(np.unique(self.dataset.list_row[measured])) == len(measured):
            version, said = "none", f"In validation {UNRANKED}."
            if settings.metric == "ndcg" and settings.keep == "best":
                problem = f"train.metric=ndcg chooses no weights here: in validation {UNRANKED}."
                raise UserError(problem, remedy="Use --set train.metric=loss.")
        if version != "all" and self.accelerator.is_main_process:
            say_aside(said)
        return np.isin(rows, measured)

    def logits(self, model: nn.Module) -> Floats:
        """Score the held-out pairs, ``[P, C]``."""
        assert isinstance(model, RelevanceModel)
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        process_P = np.unique(self.pairs.lists[self.validation], return_inverse=True)[1] % processes  # whole lists
        mine = predict(model, self.pairs, self.validation[process_P == rank])
        logits_PC = np.zeros((len(self.validation), self.task.outputs), np.float32)
        for part, logits in enumerate(gather_object([mine])):
            logits_PC[process_P == part] = logits
        return logits_PC

    def figures(self, model: nn.Module) -> Mapping[str, float]:
        """Measure a model on the held-out pairs."""
        labels_P, logits_PC = self.dataset.labels[self.validation], self.logits(model)
        query_ids = self.dataset.column(schema.QUERY_ID)[self.validation]
        prediction = self.task.predict(logits_PC)
        measured = measure(prediction, labels_P, query_ids)
        if measured.pop("ndcg", None) is not None:
            judged = ranked(prediction, labels_P, query_ids).select(self.ranked_P)
            measured |= {metric.name: metric(judged) for metric in measurable([nDCG()], judged)}
        targets_P = torch.from_numpy(self.task.targets(labels_P))
        loss = float(self.objective.loss(torch.from_numpy(logits_PC), targets_P).mean())
        return {"loss": loss, **{name: measured[name] for name in ("micro_f1", "macro_f1", "ndcg") if name in measured}}

    def finish(self, run: RunFolder, objective: nn.Module) -> None:
        """Write the predictions of the held-out pairs, the report and the model."""
        shipped = self.objective.shipped
        logits_PC = self.logits(shipped)
        if not self.accelerator.is_main_process:
            return
        if shipped is not self.objective.model:
            run.write_raw(self.objective.model.state_dict())
        judged = self.dataset.examples.take(pa.array(self.validation))
        write_parquet(run.path / PREDICTIONS_FILE, append_columns(judged, self.task.predict(logits_PC)))
        write_report(run.path)
        trained = TrainedModel(shipped, self.featurizer, self.recipe.model, self.task)
        run.write_result(self.result, trained.save)  # last: it says "done"


def judged_batches(recipe: Recipe, dataset: Dataset, pairs: Pairs, rows: Int64, *, pack: bool = False) -> JudgedBatches:
    """Lay out the steps that read these rows of the examples, with the task's targets and the sample weights."""
    settings, task = recipe.train, TASKS[recipe.task]
    targets = judged_targets(dataset, rows, task)
    if settings.soft_labels is not None:
        targets = settings.soft_labels.mix(dataset, rows, task, targets)
    ranking, lists = recipe.objective.ranking, settings.lists
    make = (
        JudgedBatches
        if lists is None
        else partial(
            ListBatches,
            lists=np.unique(dataset.list_row[rows], return_inverse=True)[1],
            gains=task.gains(targets, "esci" if ranking is None else ranking.gains),
            most=lists.most_candidates,
        )
    )
    return make(
        rows=rows,
        batch_size=settings.batch_size,
        seed=settings.seed,
        pairs=pairs,
        lengths=pairs.lengths[rows],
        budget=settings.micro_batch_tokens,
        targets=targets,
        weights=dataset.column(schema.WEIGHT)[rows].astype(np.float32),
        pack=pack,
    )


def _soft_label_tables(recipe: Recipe, dataset: Dataset) -> list[Path]:
    """Find the pool and the tables of soft labels, and say of which of them a model was trained on what it predicts."""
    soft, pool = recipe.train.soft_labels, recipe.train.pool_path
    tables = [] if pool is None else [pool]
    if soft is None:
        return tables
    for path, count in soft.seen(dataset).items():
        say_aside(
            f"{path}: the run that made it was trained on {count:,} of these pairs and is too sure of them. Runs of "
            "folds that did not see them teach better, unless it is a larger model."
        )
    return [*soft.tables(), *tables]


def open_tokenizer(settings: EncoderSettings, dataset: Dataset) -> PairTokenizer:
    """Open the encoder's tokenizer; the tiny one's is trained on the catalogue once."""
    tiny = settings.encoder == TINY
    tokenizer = catalogue_tokenizer(dataset, settings.tiny.pieces) if tiny else load_tokenizer(settings.encoder)
    return tokenizer.apart(settings.query_tokens)


def make_featurizer(settings: ModelSettings, dataset: Dataset) -> Featurizer:
    """Put the tokenizer and the vocabularies that a model asks for together."""
    return Featurizer.load(dataset.folder, settings.fields, settings.side_features, open_tokenizer(settings, dataset))


def trigram_vectors(
    settings: ModelSettings, featurizer: Featurizer, dataset: Dataset, stages: Stages | None = None
) -> TrigramVectors | None:
    """Read the vectors that the semantic unit starts from, made first where they are missing; none of a random start.

    Raises
    ------
    UserError
        When they are of another vocabulary, or missing with nothing there to make them.
    """
    if settings.trigram_start == "random":
        return None
    assert featurizer.trigrams is not None
    assert settings.trigrams is not None
    folder, size = dataset.folder / "vocabulary", settings.trigrams
    if not vectors_path(folder, size).is_file():
        command = f"zhichun word2vec {dataset.folder} --size {size}"
        if find_spec("gensim") is None:
            problem = f"trigrams start from Word2vec: there are no vectors of size {size}, and no gensim to make them."
            remedy = f"Make them with: pip install 'zhichun[word2vec]' && {command}"
            raise UserError(problem, file=folder, remedy=remedy)
        say_aside(f"Word2vec of the trigrams is made first, as by: {command}")
        train_trigram_vectors(dataset.folder, Word2VecSettings(size=size), progress=stages or no_progress)
    return TrigramVectors.load(folder, featurizer.trigrams, size)


def build_model(
    settings: ModelSettings, featurizer: Featurizer, task: Task, vectors: TrigramVectors | None = None
) -> RelevanceModel:
    """Make the network with its starting weights; the caller seeds torch.

    Parameters
    ----------
    settings
        What it consists of.
    featurizer
        Its tokenizer and vocabularies.
    task
        What it puts out.
    vectors
        From `trigram_vectors`, for a semantic unit that does not start at random.
    """
    assert (vectors is None) == (settings.trigram_start == "random")
    encoder = start_encoder(settings, featurizer.tokenizer)
    model = RelevanceModel(settings, encoder, vocabulary_sizes(featurizer), task.outputs, featurizer.tokenizer.layout)
    tables = PretrainedTables.beside(settings.encoder)
    if tables is not None and model.ids is not None:
        tables.start(model.ids, {"brand": featurizer.brands, "color": featurizer.colors})
    if vectors is not None:
        assert model.ngrams is not None
        model.ngrams.start_from(torch.from_numpy(vectors.table()))
    return model
