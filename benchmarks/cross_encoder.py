"""The other side of the comparisons of quality: sentence-transformers' `CrossEncoder` and its own trainer.

What its documentation shows: `CrossEncoderTrainer`, its own losses, collator and batches; for classes `num_labels` and
`CrossEntropyLoss`, for grades one output and `BinaryCrossEntropyLoss`, `LambdaLoss` or `ListNetLoss`. Only what both
sides must share is set: data, epochs, batch size, learning rate and its schedule, weight decay, clipping, length,
precision, seed, and which weights are kept: `fine_tune` those of the best epoch by micro-F1 on the validation pairs,
`fine_tune_all` the last ones.

Legend: ``P`` pairs, ``C`` classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from datasets import Dataset as Rows
from sentence_transformers.cross_encoder import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.evaluation import CrossEncoderClassificationEvaluator
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss, CrossEntropyLoss, LambdaLoss, ListNetLoss
from transformers import AutoTokenizer, set_seed

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.data.dataset import Dataset
from zhichun.fit.recipe import Recipe
from zhichun.fit.train_settings import TrainSettings
from zhichun.model.encoder import load_tokenizer
from zhichun.model.layers import has_bf16
from zhichun.score.torch_engine import place_of
from zhichun.text.clean import clean_text
from zhichun.text.pairs import Pairs

# Their losses: which outputs each needs, and how. Those of lists see all pairs of a query at once.
LOSSES: Final[Mapping[str, Any]] = {
    "CrossEntropy": CrossEntropyLoss,
    "BinaryCrossEntropy": BinaryCrossEntropyLoss,
    "LambdaLoss": lambda model: LambdaLoss(model, mini_batch_size=-1),
    "ListNet": lambda model: ListNetLoss(model, mini_batch_size=-1),
}
OF_LISTS: Final = ("LambdaLoss", "ListNet")


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

    def as_graded_rows(self) -> Rows:
        """Give the pairs with grades of 1 for Exact, 2/3, 1/3 and 0 in place of classes."""
        graded = [grade / (len(schema.LABELS) - 1) for grade in self.grades]
        return Rows.from_dict({"query": self.queries, "document": self.documents, "label": graded})

    def as_lists(self) -> Rows:
        """Give a row for each query: its documents and their grades, 3 for Exact to 0."""
        lists: dict[str, tuple[list[str], list[float]]] = {}
        for query, document, grade in zip(self.queries, self.documents, self.grades, strict=True):
            documents, grades = lists.setdefault(query, ([], []))
            documents.append(document)
            grades.append(float(grade))
        documents, grades = zip(*lists.values(), strict=True)
        return Rows.from_dict({"query": list(lists), "docs": list(documents), "labels": list(grades)})

    @property
    def grades(self) -> list[int]:
        """The classes as grades: 3 for Exact to 0."""
        return [len(schema.LABELS) - 1 - label for label in self.labels]

    def as_pairs(self) -> list[list[str]]:
        """Give the pairs to predict."""
        return [list(pair) for pair in zip(self.queries, self.documents, strict=True)]


def text_pairs(dataset: Dataset, rows: npt.NDArray[np.int64], recipe: Recipe) -> TextPairs:
    """Write each pair as the texts from which the encoder's tokenizer makes the ids that our model reads."""
    ours = load_tokenizer(recipe.model.encoder)
    # What stands between two texts of a pair: "[SEP]" for BERT, "</s></s>" for XLM-R.
    separator = "".join(map(ours.tokenizer.id_to_token, ours.layout.middle))
    products = pq.read_table(dataset.folder / schema.PRODUCTS_FILE).take(dataset.product_row[rows])
    fields = [pc.fill_null(products.column(schema.COLUMN_OF[name]), "").to_pylist() for name in recipe.model.fields]
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
    settings = recipe.train
    model = _untrained(recipe, len(schema.LABELS))
    arguments = same_values(
        settings,
        out,
        **_precision(settings),
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


def fine_tune_all(recipe: Recipe, training: TextPairs, loss: str, out: Path) -> CrossEncoder:
    """Train a `CrossEncoder` with one of `LOSSES` for all epochs; gives it with its last weights."""
    settings, pairs = recipe.train, _rows_for(training, loss)
    model = _untrained(recipe, len(schema.LABELS) if loss == "CrossEntropy" else 1)
    arguments = same_values(settings, out, **_precision(settings), save_strategy="no", disable_tqdm=True)
    # As many pairs a step as the others have, in whole lists.
    arguments.per_device_train_batch_size = max(1, round(settings.batch_size * len(pairs) / len(training)))
    CrossEncoderTrainer(model=model, args=arguments, train_dataset=pairs, loss=LOSSES[loss](model)).train()
    return model


def _rows_for(training: TextPairs, loss: str) -> Rows:
    """Give the pairs in the form that a loss reads."""
    if loss in OF_LISTS:
        return training.as_lists()
    return training.as_rows() if loss == "CrossEntropy" else training.as_graded_rows()


def _untrained(recipe: Recipe, outputs: int) -> CrossEncoder:
    set_seed(recipe.train.seed)  # the classification layer starts at random
    length = recipe.model.max_length
    return CrossEncoder(recipe.model.encoder, num_labels=outputs, max_length=length, trust_remote_code=False)


def _precision(settings: TrainSettings) -> dict[str, bool]:
    # Without use_cpu it refuses bf16 on a CPU.
    return {"bf16": in_bf16(settings), "use_cpu": not torch.cuda.is_available()}


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
    raw = torch.nn.Identity()  # its sigmoid of one output would make ties of sure ones
    logits: npt.NDArray[np.float32] = model.predict(pairs.as_pairs(), convert_to_numpy=True, activation_fn=raw)
    return logits.reshape(len(pairs), -1)
