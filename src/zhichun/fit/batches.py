"""Which pairs each step reads: a pure function of seed, step, process and number of processes.

Nothing needs to be saved: to go on from step k is to ask for step k.

Legend: ``P`` training pairs, ``S`` pairs of a step.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from zhichun.score.token_batches import Rows, length_sorted


@dataclass(frozen=True)
class BatchPlan:
    """The steps of a training run.

    Parameters
    ----------
    lengths
        Tokens of each training pair, ``[P]``.
    batch_size
        Pairs of a step, over all processes and micro-batches.
    budget
        Tokens of a padded micro-batch at most.
    seed
        Seed of the order.
    """

    lengths: Rows
    batch_size: int
    budget: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Steps that read every pair once."""
        return -(-len(self.lengths) // self.batch_size)

    def step(self, step: int) -> Rows:
        """Places of the pairs that a step reads, ``[S]``; an epoch's steps differ in size by one at most."""
        epoch, within = divmod(step, self.steps_per_epoch)
        return np.array_split(epoch_order(len(self.lengths), self.seed, epoch), self.steps_per_epoch)[within]

    def micro_batches(self, step: int, rank: int, processes: int) -> list[Rows]:
        """Cut one process's share of a step into batches of like length.

        The step's pairs are dealt out to the processes by length, so that all have the same work.
        """
        places = self.step(step)
        places = places[np.argsort(-self.lengths[places], kind="stable")][rank::processes]
        return length_sorted(places, self.lengths[places], self.budget)


@lru_cache(maxsize=2)
def epoch_order(count: int, seed: int, epoch: int) -> Rows:
    """Give the order in which an epoch reads so many places."""
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(count)


def dropout_seed(seed: int, step: int, micro_batch: int, rank: int) -> int:
    """Seed of torch's generators for one micro-batch, so that dropout is the same after a resume."""
    return int(np.random.SeedSequence([seed, step, micro_batch, rank]).generate_state(1, np.uint64)[0] >> 1)
