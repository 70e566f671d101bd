"""Batches of products for the pretext tasks, made on the fly: a pure function of seed, step, process and their number.

Legend: ``R`` training products, ``S`` products of a step, ``K`` tasks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from zhichun.fit.batches import epoch_order
from zhichun.objective.pretext.task import ITEMS, Arrays, Catalogue, Draw, Pretext, Reader, Rows
from zhichun.objective.pretraining import SEPARATOR, STEP_ITEMS


@dataclass(frozen=True)
class Examples:
    """The examples of all tasks for some products.

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
    catalogue: Catalogue
    reader: Reader

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


@dataclass(frozen=True)
class ProductBatches:
    """The steps of a pre-training.

    Parameters
    ----------
    examples
        What makes the arrays.
    rows
        Products to train on, ``[R]``.
    batch_size
        Products of a step, over all processes and micro-batches.
    micro_batch_size
        Products of a micro-batch, as nearly as they can be cut.
    seed
        Seed of the order and of the examples.
    """

    examples: Examples
    rows: Rows
    batch_size: int
    micro_batch_size: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Steps that read every product once."""
        return -(-len(self.rows) // self.batch_size)

    @property
    def smallest_step(self) -> int:
        """Products of the smallest step; the steps of an epoch differ by one at most."""
        return len(self.rows) // self.steps_per_epoch

    def size(self, step: int) -> int:
        """Products of a step over all processes."""
        return len(self.products(step))

    def products(self, step: int) -> Rows:
        """Rows of the products that a step reads, ``[S]``."""
        epoch, within = divmod(step, self.steps_per_epoch)
        order = epoch_order(len(self.rows), self.seed, epoch)
        return self.rows[np.array_split(order, self.steps_per_epoch)[within]]

    def micro_batches(self, step: int, rank: int, processes: int) -> Iterator[Arrays]:
        """Make one process's batches of a step; every process has as many, for they count together."""
        products = self.products(step)
        largest, smallest = -(-len(products) // processes), len(products) // processes
        count = min(-(-largest // self.micro_batch_size), smallest)
        draw = Draw(self.seed, step // self.steps_per_epoch)
        made = [self.examples.of(rows, draw) for rows in np.array_split(products[rank::processes], count)]
        step_items = np.sum([self.examples.counts(batch) for batch in made], axis=0)
        yield from ({**batch, STEP_ITEMS: step_items} for batch in made)
