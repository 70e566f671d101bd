"""What a run said of each pair, from ``scored.parquet``.

Legend: ``P`` pairs, ``C`` classes.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zhichun.core import schema
from zhichun.core.tasks import Task
from zhichun.data.dataset.dataset import read_parquet
from zhichun.metrics import label_codes


@dataclass(frozen=True)
class Scored:
    """Scored pairs.

    Parameters
    ----------
    task
        What the run predicts.
    pairs
        ``scored.parquet``: the judged pairs with probabilities, label and gain.
    """

    task: Task
    pairs: pa.Table

    @classmethod
    def read(cls, path: Path, task: Task) -> "Scored | None":
        """Read ``scored.parquet``; None where it is missing or is of another task."""
        if not path.is_file():
            return None
        pairs = read_parquet(path)
        needed = [f"p_{name}" for name in task.classes] or ["gain"]
        return cls(task, pairs) if set(needed) <= set(pairs.column_names) else None

    @property
    def probabilities(self) -> npt.NDArray[np.float64] | None:
        """Probability of each class, ``[P, C]``; a regressor gives none."""
        if not self.task.classes:
            return None
        columns = [self.pairs.column(f"p_{name}").to_numpy() for name in self.task.classes]
        return np.stack(columns, axis=1).astype(np.float64)

    @property
    def score(self) -> npt.NDArray[np.float64]:
        """What pairs are ranked by, ``[P]``: the gain, or the probability of a substitute."""
        name = "p_S" if self.task.name == "substitute" else "gain"
        score: npt.NDArray[np.float64] = self.pairs.column(name).to_numpy().astype(np.float64)
        return score

    @property
    def labels(self) -> npt.NDArray[np.intp]:
        """Judgements as places in `schema.LABELS`, ``[P]``."""
        return label_codes(self.pairs.column(schema.LABEL).to_pylist())

    @property
    def truth(self) -> npt.NDArray[np.float64]:
        """Judgements as the task's targets, ``[P]``: places in its classes, or gains."""
        return np.asarray(self.task.targets(self.labels), np.float64)
