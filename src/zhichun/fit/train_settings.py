"""Settings of the training loop.

Targets are what the judges said of a pair; soft labels mix in what other models say of the same pairs:

``target = (1 - share) onehot + share p`` with ``p ∝ q^(1 / temperature)`` of the mean prediction ``q``; for the
regressor, gains in place of both. Predictions of a larger model make it distillation (Hinton et al., 2015); those of
models of the same kind, each trained without the pairs it speaks of, self-distillation, with which the contest's first
team in task 1 mixed 0.7 hard and 0.3 soft.

Legend: ``R`` rows that are trained on, ``E`` examples of the dataset, ``C`` classes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from zhichun.core import schema
from zhichun.core.arrays import Int64
from zhichun.core.errors import UserError
from zhichun.core.settings import require_range
from zhichun.core.tasks import Floats, Task
from zhichun.data.dataset import Dataset
from zhichun.data.predictions import find_tables, held_out_by, named_in, read_predictions
from zhichun.fit.batches import Lists

Targets = Int64 | Floats


def judged_targets(dataset: Dataset, rows: Int64, task: Task) -> Targets:
    """Return what pairs are trained towards, as they were judged."""
    columns = dataset.examples.column_names
    if schema.LABEL_SHARES in columns:
        shares = dataset.examples.column(schema.LABEL_SHARES).combine_chunks()
        return task.soft_targets(shares.flatten().to_numpy().reshape(-1, len(schema.LABELS))[rows])
    if schema.JUDGED_GAIN in columns and not task.classes:
        gains: Floats = dataset.column(schema.JUDGED_GAIN)[rows]
        return gains
    return task.targets(dataset.labels[rows])


@dataclass(frozen=True, kw_only=True)
class SoftLabels:
    """Targets mixed with predictions.

    Pairs that balancing or translation made keep their hard label where the tables do not name them: out-of-fold
    predictions are of judged pairs only, and a piece of a text is not the product that was predicted.

    Parameters
    ----------
    predictions
        What to mix in: run folders (their `predictions.parquet`), the folder of the runs of all folds
        (`fold-*/predictions.parquet`), or tables of `zhichun score`. Where several name a pair, their mean counts.
    share
        Share of the predictions in the target, above 0 and at most 1.
    temperature
        Above 1 it makes the probabilities more even, below 1 sharper; 1 leaves them.
    """

    predictions: tuple[str, ...]
    share: float = 0.3
    temperature: float = 1.0

    def __post_init__(self) -> None:
        off = "Switch them off with train.soft_labels=null."
        if not self.predictions:
            raise UserError("train.soft_labels.predictions names nothing.", remedy=f"Name runs or tables. {off}")
        require_range(self, "share", above=0, most=1, prefix="train.soft_labels.", remedy=off)
        require_range(self, "temperature", above=0, prefix="train.soft_labels.", remedy="1 leaves them as they are.")

    def tables(self) -> list[Path]:
        """Find the tables of predictions."""
        return find_tables(self.predictions)

    def mix(self, dataset: Dataset, rows: Int64, task: Task, targets: Targets) -> Floats:
        """Mix predictions into targets."""
        tables = self.tables()
        said = read_predictions(tables, dataset, task)
        told_R = said.times_E[rows] > 0
        judged_R = dataset.column(schema.ORIGIN)[rows] == schema.JUDGED
        if (judged_R & ~told_R).any():
            raise _not_told(rows[judged_R & ~told_R], tables, dataset)
        soft_RC = said.mean_EC[rows] ** (1 / self.temperature)
        if task.classes:
            soft_RC /= np.maximum(soft_RC.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
            hard_RC = targets if targets.ndim == 2 else np.eye(task.outputs)[targets]
        else:
            hard_RC = np.asarray(targets, np.float64)[:, None]
        share_R1 = self.share * told_R[:, None]
        mixed_RC: Floats = ((1 - share_R1) * hard_RC + share_R1 * soft_RC).astype(np.float32)
        return mixed_RC if task.classes else mixed_RC[:, 0]

    def seen(self, dataset: Dataset) -> dict[Path, int]:
        """Count, for each table in a run's folder, the pairs that this run was trained on itself.

        Of those it is surer than of any other, so that they teach little. `predictions.parquet` has none; what
        `zhichun evaluate --split train` writes beside it has.
        """
        return {path: count for path in self.tables() if (count := _seen(path, dataset))}


def _seen(path: Path, dataset: Dataset) -> int:
    if not (path.parent / "recipe.json").is_file():
        return 0
    trained_E = (dataset.column(schema.SPLIT) == schema.TRAIN) & ~dataset.held_out(held_out_by(path.parent))
    return int((trained_E & named_in(path, dataset)).sum())


def _not_told(rows: Int64, tables: list[Path], dataset: Dataset) -> UserError:
    row = int(rows[0])
    example = dataset.column(schema.EXAMPLE_ID)[row]
    names = str(tables[0]) if len(tables) == 1 else f"{tables[0]} and {len(tables) - 1} more"
    return UserError(
        f"{names}: no prediction of the pair with the {schema.EXAMPLE_ID} {example}"
        + (f", nor of {len(rows) - 1:,} more that are trained on." if len(rows) > 1 else ", which is trained on."),
        file=dataset.folder / schema.EXAMPLES_FILE,
        row=row + 1,
        remedy="Give the runs of all folds, or score all training pairs with `zhichun score`.",
    )


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """Settings of training and pre-training.

    Parameters
    ----------
    epochs
        Passes over what is trained on; `auto`, for fine-tuning, fits them to the number of pairs.
    batch_size
        Examples of one step, over all processes and micro-batches.
    learning_rate
        Highest learning rate (AdamW); reached after the warm-up, then a cosine down to zero. `auto`, for fine-tuning,
        fits it to the encoder's size.
    warmup
        Share of all steps in which the learning rate rises.
    weight_decay
        Decoupled weight decay; never on biases and norms.
    clip
        Maximum gradient norm; null is off.
    precision
        `fp32`, `bf16`, or `auto`: bf16 on a GPU or CPU with hardware bf16, fp32 otherwise.
    seed
        Seed of weights, order and dropout.
    evaluations
        Evaluations per epoch.
    keep
        Weights that are shipped: `best`, of the evaluation with the best metric, or `last`, of the last step, chosen by
        nothing; `zhichun train --folds` has `last`, or the fold would have chosen what predicts it.
    patience
        Stop after this many evaluations without improvement; null never stops early.
    checkpoint_minutes
        Minutes between checkpoints; there is one at each evaluation too.
    layer_decay
        Factor on the learning rate from each of the encoder's layers to the one below, such as 0.9; what is above the
        encoder has the whole rate; null is off.
    activation_checkpointing
        `layers` keeps only what goes into each of the encoder's layers and computes the rest again in the backward
        pass: less memory, a third more time; null is off.
    compile
        Whether to compile the encoder with `torch.compile` at the first step, which takes a minute or more:
        for long training on a GPU; no gain on a CPU.
    trackers
        What is told the figures of `metrics.jsonl` too: a list of `tensorboard`, `wandb` and `mlflow`; null is none.
    """

    epochs: Literal["auto"] | int = 5
    batch_size: int = 32
    learning_rate: Literal["auto"] | float = 1e-5
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float | None = 1.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0
    evaluations: int = 1
    keep: Literal["best", "last"] = "best"
    patience: int | None = None
    checkpoint_minutes: float = 10.0
    layer_decay: float | None = None
    activation_checkpointing: Literal["layers"] | None = None
    compile: bool = False
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("epochs", "learning_rate") if getattr(self, name) != "auto"]
        require_range(self, *given, "batch_size", "evaluations", above=0, prefix="train.")
        require_range(self, "seed", "weight_decay", "checkpoint_minutes", least=0, prefix="train.")
        require_range(self, "seed", most=2**32 - 1, prefix="train.", remedy="No generator takes more.")
        require_range(self, "warmup", least=0, below=1, prefix="train.", remedy="It is a share of all steps.")
        require_range(self, "clip", above=0, prefix="train.", remedy="Switch it off with train.clip=null.")
        require_range(self, "patience", least=1, prefix="train.", remedy="Switch it off with train.patience=null.")
        if self.keep == "last" and self.patience is not None:
            remedy = "Switch it off with train.patience=null."
            raise UserError(f"train.patience={self.patience} has no effect with train.keep=last.", remedy=remedy)
        off = "Give one such as 0.9, or train.layer_decay=null, which is off."
        require_range(self, "layer_decay", above=0, below=1, prefix="train.", remedy=off)

    def numbers(self) -> tuple[int, float]:
        """Return epochs and learning rate, once training has put numbers for `auto`."""
        assert self.epochs != "auto"
        assert self.learning_rate != "auto"
        return self.epochs, self.learning_rate


@dataclass(frozen=True, kw_only=True)
class TrainSettings(LoopSettings):
    """Settings of fine-tuning: those of every training, and those of judged pairs.

    Parameters
    ----------
    micro_batch_tokens
        Tokens of a micro-batch at most, padding included; a step is split into micro-batches.
    attention
        `packed` concatenates the pairs of a micro-batch in one row, so that no padding is computed;
        `padded` pads them to the longest; `auto` is packed for encoders that support it (BERT, XLM-R and
        ModernBERT). Results are the same.
    validation_fold
        Fold of queries held out for validation, or a list of them; null holds out one twentieth of the queries.
    metric
        Metric that selects the best checkpoint: `micro_f1`, `macro_f1`, `ndcg` (on the small version of the dataset,
        where it has one), or `loss` (lower is better); of equal ones, the one with the lower loss.
    soft_labels
        Predictions of other runs to mix into the targets: distillation and self-distillation; null is off.
    pool
        Table of `zhichun pool`: pairs with a teacher's labels, to train on beside the judged ones; null is off.
    lists
        Lists: a step is made of whole lists, the candidates of a query each, as ranking losses and the list head need;
        null is steps of pairs.
    """

    micro_batch_tokens: int = 4096
    attention: Literal["auto", "padded", "packed"] = "auto"
    validation_fold: tuple[int, ...] | int | None = None
    metric: Literal["micro_f1", "macro_f1", "ndcg", "loss"] = "micro_f1"
    soft_labels: SoftLabels | None = None
    pool: str | None = None
    lists: Lists | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range(self, "micro_batch_tokens", above=0, prefix="train.")
        held_out = self.validation_fold if isinstance(self.validation_fold, tuple) else (self.validation_fold,)
        if any(fold is not None and (type(fold) is not int or fold < 0) for fold in held_out):
            raise UserError(f"train.validation_fold={self.validation_fold} must be at least 0, each a whole number.")
        if self.lists is not None and self.batch_size < 2:
            remedy = "Use --set train.batch_size=32, or train on pairs with train.lists=null."
            raise UserError(
                "train.batch_size=1 leaves train.lists nothing to rank: a list is never split.", remedy=remedy
            )

    @property
    def pool_path(self) -> Path | None:
        """Where the pool is."""
        return None if self.pool is None else Path(self.pool)


@dataclass(frozen=True, kw_only=True)
class PretrainSettings(LoopSettings):
    """Settings of pre-training: those of every training, and those of a catalogue.

    Parameters
    ----------
    micro_batch_size
        Products whose examples are computed at once, which decides how much memory is needed; a step is cut into as
        many micro-batches as it needs. Negatives in the batch are from the same micro-batch.
    held_out
        Share of the products that is held out to validate on, by a hash of locale and product id.
    validation_fold
        Fold of queries that `pair_mlm` does not read, since fine-tuning will validate on it; null leaves out the one
        twentieth that fine-tuning holds out by default.
    metric
        Metric that selects the best checkpoint, lower is better: `mlm.loss`, `product2query.loss`, or `loss`, the
        total.
    """

    micro_batch_size: int = 8
    held_out: float = 0.01
    validation_fold: int | None = None
    metric: Literal["mlm.loss", "product2query.loss", "loss"] = "mlm.loss"

    def __post_init__(self) -> None:
        super().__post_init__()
        if "auto" in (self.epochs, self.learning_rate):
            raise UserError("`auto` is for fine-tuning alone.", remedy="Give train.epochs and train.learning_rate.")
        require_range(self, "micro_batch_size", above=0, prefix="train.")
        require_range(self, "validation_fold", least=0, prefix="train.")
        require_range(self, "held_out", above=0, below=1, prefix="train.", remedy="It is a share of the products.")
