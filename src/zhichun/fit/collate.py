"""Batches of judged pairs, as the loop asks for them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zhichun.fit.batches import BatchPlan
from zhichun.score.token_batches import Rows
from zhichun.text.pairs import Pairs

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class JudgedBatches:
    """Judged pairs in the order of a plan.

    Parameters
    ----------
    plan
        Which places are read in which step.
    pairs
        Features of all pairs of the dataset.
    rows
        Which of them are trained on; a place of the plan is an index into these.
    targets, weights
        Target and sample weight of each of ``rows``.
    pack
        Whether the pairs of a micro-batch stand end to end in one row (`Encoder.use_attention`).
    """

    plan: BatchPlan
    pairs: Pairs
    rows: Rows
    targets: npt.NDArray[Any]
    weights: npt.NDArray[np.float32]
    pack: bool = False

    @property
    def steps_per_epoch(self) -> int:
        """Steps that read every pair once."""
        return self.plan.steps_per_epoch

    def size(self, step: int) -> int:
        """Pairs of a step over all processes."""
        return len(self.plan.step(step))

    def micro_batches(self, step: int, rank: int, processes: int) -> Iterator[Arrays]:
        """Make one process's batches of a step."""
        weight = self.weights[self.plan.step(step)].sum(dtype=np.float64)
        normaliser = (weight or 1.0) / processes  # a step of weights of zero teaches nothing, and is no fault
        for places in self.plan.micro_batches(step, rank, processes):
            yield {
                **self.pairs.collate(self.rows[places], pack=self.pack),
                "target": self.targets[places],
                "weight": self.weights[places],
                "normaliser": np.asarray(normaliser, np.float32),
            }
