"""The other side of `quality_esci.py`: sentence-transformers' `CrossEncoder`, trained by its own trainer.

What its documentation shows for pairs with classes: `num_labels`, `CrossEntropyLoss`, `CrossEncoderTrainer`, its own
collator and batches. Only what both sides must share is set: data, epochs, batch size, learning rate and its schedule,
weight decay, clipping, length, precision, seed, and that the best epoch by micro-F1 on the validation pairs is kept.

Legend: ``P`` pairs, ``C`` classes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from datasets import Dataset as Rows
from sentence_transformers.cross_encoder import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.evaluation import CrossEncoderClassificationEvaluator
from sentence_transformers.cross_encoder.losses import CrossEntropyLoss
from transformers import AutoTokenizer, set_seed

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.data.dataset.dataset import Dataset
from zhichun.fit.recipe import Recipe
from zhichun.fit.train_settings import TrainSettings
from zhichun.model.encoder import load_tokenizer
from zhichun.model.layers import has_bf16
from zhichun.score.engines.torch_engine import place_of
from zhichun.text.clean import clean_text
from zhichun.text.document import COLUMN_OF
from zhichun.text.pairs import Pairs


@dataclass(frozen=True)
class TextPairs:
    """Pairs of texts as `CrossEncoder` takes them, with their classes."""

    queries: list[str]
    documents: list[str]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.labels)

    def as_rows(self) -> Rows:
        """Give the pairs to train on."""
        return Rows.from_dict({"query": self.queries, "document": self.documents, "label": self.labels})

    def as_pairs(self) -> list[list[str]]:
        """Give the pairs to predict."""
        return [list(pair) for pair in zip(self.queries, self.documents, strict=True)]


def text_pairs(dataset: Dataset, rows: npt.NDArray[np.int64], recipe: Recipe) -> TextPairs:
    """Write each pair as the texts from which the encoder's tokenizer makes the ids that our model reads."""
    ours = load_tokenizer(recipe.model.encoder)
    # What stands between two texts of a pair: "[SEP]" for BERT, "</s></s>" for XLM-R.
    separator = "".join(map(ours.tokenizer.id_to_token, ours.layout.middle))
    products = pq.read_table(dataset.folder / schema.PRODUCTS_FILE).take(dataset.product_row[rows])
    fields = [pc.fill_null(products.column(COLUMN_OF[name]), "").to_pylist() for name in recipe.model.fields]
    queries = dataset.queries.take(dataset.query_row[rows]).to_pylist()
    return TextPairs(
        queries=[clean_text(query) for query in queries],
        documents=[separator.join(map(clean_text, document)) for document in zip(*fields, strict=True)],
        labels=dataset.labels[rows].tolist(),
    )


def require_same_tokens(texts: TextPairs, pairs: Pairs, rows: npt.NDArray[np.int64], recipe: Recipe) -> None:
    """Refuse to compare two systems that would read different tokens.

    Raises
    ------
    UserError
        Names the first pair that differs.
    """
    tokenizer = AutoTokenizer.from_pretrained(recipe.model.encoder, trust_remote_code=False)
    limits = {"truncation": "longest_first", "max_length": recipe.model.max_length}
    theirs = tokenizer(texts.queries, texts.documents, **limits)["input_ids"]
    for row, ids in zip(rows, theirs, strict=True):
        if pairs.collate(np.asarray([row]))["input_ids"][0].tolist() != ids:
            raise UserError(f"the two systems would read other tokens of pair {row + 1}.", file=recipe.model.encoder)


def fine_tune(recipe: Recipe, training: TextPairs, validation: TextPairs, out: Path) -> CrossEncoder:
    """Train a `CrossEncoder` with the values of our recipe; gives it with the weights of its best epoch."""
    settings, classes = recipe.train, schema.LABELS
    set_seed(settings.seed)  # the classification layer starts at random
    model = CrossEncoder(
        recipe.model.encoder, num_labels=len(classes), max_length=recipe.model.max_length, trust_remote_code=False
    )
    arguments = same_values(
        settings,
        out,
        bf16=in_bf16(settings),
        use_cpu=not torch.cuda.is_available(),  # without which it refuses bf16 on a CPU
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_validation_f1_micro",
    )
    evaluator = CrossEncoderClassificationEvaluator(
        validation.as_pairs(), validation.labels, name="validation", write_csv=False
    )
    CrossEncoderTrainer(
        model=model,
        args=arguments,
        train_dataset=training.as_rows(),
        loss=CrossEntropyLoss(model),
        evaluator=evaluator,
    ).train()
    return model


def same_values(settings: TrainSettings, out: Path, **own: Any) -> CrossEncoderTrainingArguments:
    """Give their trainer the values that ours trains with, and what is its own."""
    return CrossEncoderTrainingArguments(
        output_dir=str(out),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.clip or 0.0,
        seed=settings.seed,
        report_to="none",
        **own,
    )


def in_bf16(settings: TrainSettings) -> bool:
    """Tell whether our training computes in bf16 on this machine; theirs then does too."""
    return settings.precision == "bf16" or (settings.precision == "auto" and has_bf16(place_of(None)))


def score(model: CrossEncoder, pairs: TextPairs) -> npt.NDArray[np.float32]:
    """Give the logits of pairs, ``[P, C]``."""
    logits_PC: npt.NDArray[np.float32] = model.predict(pairs.as_pairs(), convert_to_numpy=True)
    return logits_PC
