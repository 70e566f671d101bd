"""The examples of each step: a pure function of seed, step, process and number of processes.

No state is saved: a resume from step k starts at step k.

Legend: ``R`` rows that are trained on, ``S`` rows of a step, ``K`` pretext tasks.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from zhichun.data.dataset.catalogue_store import CatalogueTexts
from zhichun.objective.pretext.task import ITEMS, Draw, Pretext
from zhichun.objective.pretraining import SEPARATOR, STEP_ITEMS
from zhichun.score.engines.engine import length_sorted
from zhichun.text.document import Rows
from zhichun.text.pairs import Arrays, Pairs, TextReader


@dataclass(frozen=True, kw_only=True)
class Steps(ABC):
    """The steps of a training run; those of an epoch differ in size by one at most.

    Parameters
    ----------
    rows
        Rows of what is trained on, ``[R]``.
    batch_size
        Rows of a step at most, over all processes and micro-batches.
    seed
        Seed of the order.
    """

    rows: Rows
    batch_size: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Steps that read every row once."""
        return -(-len(self.rows) // self.batch_size)

    @property
    def smallest_step(self) -> int:
        """Rows of the smallest step."""
        return len(self.rows) // self.steps_per_epoch

    def places(self, step: int) -> Rows:
        """Places in ``rows`` that a step reads, ``[S]``."""
        epoch, within = divmod(step, self.steps_per_epoch)
        return np.array_split(epoch_order(len(self.rows), self.seed, epoch), self.steps_per_epoch)[within]

    def size(self, step: int) -> int:
        """Rows of a step over all processes."""
        return len(self.places(step))

    @abstractmethod
    def micro_batches(self, step: int, rank: int, processes: int) -> Iterator[Arrays]:
        """Make one process's batches of a step."""


@dataclass(frozen=True, kw_only=True)
class JudgedBatches(Steps):
    """Judged pairs.

    Parameters
    ----------
    pairs
        Features of all pairs of the dataset; ``rows`` are those that are trained on.
    lengths, targets, weights
        Tokens, target and sample weight of each of ``rows``.
    budget
        Tokens of a padded micro-batch at most.
    pack
        Whether micro-batches are packed (`Encoder.use_attention`).
    """

    pairs: Pairs
    lengths: Rows
    targets: npt.NDArray[np.generic]
    weights: npt.NDArray[np.float32]
    budget: int
    pack: bool = False

    def parts(self, step: int, rank: int, processes: int) -> list[Rows]:
        """Cut one process's share of a step into places of similar length.

        The step's pairs are dealt out to the processes by length, so that all have the same work.
        """
        places = self.places(step)
        mine = places[np.argsort(-self.lengths[places], kind="stable")][rank::processes]
        return length_sorted(mine, self.lengths[mine], self.budget)

    def micro_batches(self, step: int, rank: int, processes: int) -> Iterator[Arrays]:
        """Make one process's batches of a step."""
        return (batch for _, batch in self._batches(step, rank, processes))

    def _batches(self, step: int, rank: int, processes: int) -> Iterator[tuple[Rows, Arrays]]:
        """Make one process's batches of a step, each with its places."""
        weight = self.weights[self.places(step)].sum(dtype=np.float64)
        normaliser = (weight or 1.0) / processes  # a step of weights of zero teaches nothing, and is no fault
        parts = self.parts(step, rank, processes)
        # A process without any computes one pair for nothing: the others wait for its gradient.
        for places in parts or [self.places(step)[:1]]:
            yield (
                places,
                {
                    **self.pairs.collate(self.rows[places], pack=self.pack),
                    "target": self.targets[places],
                    "weight": self.weights[places] * bool(parts),
                    "normaliser": np.asarray(normaliser, np.float32),
                },
            )


@dataclass(frozen=True)
class Examples:
    """The examples of all pretext tasks for some products.

    Parameters
    ----------
    tasks
        The pretext tasks.
    catalogue
        Where texts come from.
    reader
        What turns them into arrays.
    """

    tasks: Sequence[Pretext]
    catalogue: CatalogueTexts
    reader: TextReader

    def of(self, rows: Rows, draw: Draw) -> Arrays:
        """Make the arrays of one micro-batch, each with the name of its task before it.

        A task that scores nothing has no arrays.
        """
        texts = self.catalogue.take(rows)
        batch: Arrays = {}
        for task in self.tasks:
            made = task.examples(texts, self.catalogue, self.reader, draw)
            if int(made[ITEMS]):
                batch |= {f"{task.name}{SEPARATOR}{name}": array for name, array in made.items()}
        return batch

    def counts(self, batch: Arrays) -> Rows:
        """Count what each task scores in a micro-batch, ``[K]``."""
        names = [f"{task.name}{SEPARATOR}{ITEMS}" for task in self.tasks]
        return np.asarray([int(batch[name]) if name in batch else 0 for name in names], np.int64)


@dataclass(frozen=True, kw_only=True)
class ProductBatches(Steps):
    """Products with the examples of all pretext tasks, made on the fly.

    Parameters
    ----------
    examples
        What makes the arrays; the seed is theirs too.
    micro_batch_size
        Products of a micro-batch, as nearly as they can be cut.
    """

    examples: Examples
    micro_batch_size: int

    def micro_batches(self, step: int, rank: int, processes: int) -> Iterator[Arrays]:
        """Make one process's batches of a step; every process has as many, for they count together."""
        products = self.rows[self.places(step)]
        largest, smallest = -(-len(products) // processes), len(products) // processes
        count = min(-(-largest // self.micro_batch_size), smallest)
        draw = Draw(self.seed, step // self.steps_per_epoch)
        made = [self.examples.of(rows, draw) for rows in np.array_split(products[rank::processes], count)]
        step_items = np.sum([self.examples.counts(batch) for batch in made], axis=0)
        yield from ({**batch, STEP_ITEMS: step_items} for batch in made)


@lru_cache(maxsize=2)
def epoch_order(count: int, seed: int, epoch: int) -> Rows:
    """Return the order in which an epoch reads so many rows."""
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(count)


def dropout_seed(seed: int, step: int, micro_batch: int, rank: int) -> int:
    """Seed of torch's generators for one micro-batch, so that dropout is the same after a resume."""
    return int(np.random.SeedSequence([seed, step, micro_batch, rank]).generate_state(1, np.uint64)[0] >> 1)
