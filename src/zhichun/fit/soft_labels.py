"""Targets: what the judges said of a pair, and soft labels, which mix in what other models say of the same pairs.

``target = (1 - share) onehot + share p`` with ``p ∝ q^(1 / temperature)`` of the mean prediction ``q``; for the
regressor, gains in place of both. Predictions of a larger model make it distillation (Hinton et al., 2015); those of
models of the same kind, each trained without the pairs it speaks of, self-distillation, with which the contest's first
team in task 1 mixed 0.7 hard and 0.3 soft.

Legend: ``R`` rows that are trained on, ``E`` examples of the dataset, ``C`` classes.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.settings import require_range
from zhichun.core.tasks import Floats, Task
from zhichun.data.dataset.dataset import Dataset
from zhichun.data.dataset.predictions import find_tables, held_out_by, named_in, read_predictions

Targets = npt.NDArray[np.int64] | Floats
Rows = npt.NDArray[np.int64]


def judged_targets(dataset: Dataset, rows: Rows, task: Task) -> Targets:
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

    def mix(self, dataset: Dataset, rows: Rows, task: Task, targets: Targets) -> Floats:
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


def _not_told(rows: Rows, tables: list[Path], dataset: Dataset) -> UserError:
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
