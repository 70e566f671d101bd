"""The examples of each step: a pure function of seed, step, process and number of processes.

No state is saved: a resume from step k starts at step k.

Steps of whole lists: a list is the candidates of one query, and the atom of a step. It is never split over steps,
micro-batches or processes. Its size, the order of its pairs and ids are never read.

Legend: ``R`` rows that are trained on, ``S`` rows of a step, of lists steps of an epoch, ``K`` pretext tasks, ``L``
lists, ``N`` rows that an epoch reads, ``B`` pairs of a batch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from zhichun.core.settings import require_range
from zhichun.core.tasks import Floats
from zhichun.data.feature_store import CatalogueTexts
from zhichun.objective.pretext.task import ITEMS, Draw, Pretext
from zhichun.objective.pretraining import SEPARATOR, STEP_ITEMS
from zhichun.score.engine import length_sorted
from zhichun.text.pairs import Arrays, Pairs, Rows, TextReader


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


@dataclass(frozen=True, kw_only=True)
class Lists:
    """Steps of whole lists.

    Parameters
    ----------
    most_candidates
        Candidates of a query that a step reads at most, and never more than `train.batch_size`. Of a longer list each
        epoch draws others, with different grades where it has any. A list that is longer than
        `train.micro_batch_tokens` is a micro-batch of its own all the same.
    """

    most_candidates: int = 16

    def __post_init__(self) -> None:
        off = "Train on pairs with train.lists=null."
        require_range(self, "most_candidates", least=2, prefix="train.lists.", remedy=off)


@dataclass(frozen=True, kw_only=True)
class ListBatches(JudgedBatches):
    """Judged pairs, list by list.

    Which sizes of lists a step holds is laid out once; each epoch deals the lists to places of their size anew. So all
    epochs have as many steps, and no step more than ``batch_size`` pairs.

    Parameters
    ----------
    lists
        List of each of ``rows``, from 0 on without gaps, ``[R]``.
    gains
        Expected gain of each target: where they are equal, a list has nothing to rank.
    most
        Pairs of a list at most.
    """

    lists: Rows
    gains: Floats
    most: int

    @property
    def steps_per_epoch(self) -> int:
        """Steps that read every list once."""
        return int(self._step_of_place.max()) + 1

    @property
    def smallest_step(self) -> int:
        """No step is too small: a process that gets no list computes one pair for nothing."""
        return self.batch_size

    def places(self, step: int) -> Rows:
        """Places in ``rows`` that a step reads, list by list."""
        epoch, within = divmod(step, self.steps_per_epoch)
        return self._epochs(epoch)[within]

    def parts(self, step: int, rank: int, processes: int) -> list[Rows]:
        """Cut one process's lists of a step into micro-batches; the lists are dealt out by their tokens."""
        places = self.places(step)
        lists = np.split(places, np.flatnonzero(np.diff(self.lists[places])) + 1)
        mine, work = [], [0] * processes
        for one in sorted(lists, key=lambda one: -int(self.lengths[one].sum())):
            least_busy = int(np.argmin(work))
            work[least_busy] += int(self.lengths[one].sum())
            if least_busy == rank:
                mine.append(one)
        cut: list[list[Rows]] = []
        longest = count = 0
        for one in sorted(mine, key=lambda one: -int(self.lengths[one].max())):
            count += len(one)
            if not cut or count * longest > self.budget:
                cut.append([])
                longest, count = int(self.lengths[one].max()), len(one)
            cut[-1].append(one)
        return [np.concatenate(part) for part in cut]

    def micro_batches(self, step: int, rank: int, processes: int) -> Iterator[Arrays]:
        """Make one process's batches of a step, with ``list`` and ``gain`` ``[B]`` and ``list_weight`` ``[L]``."""
        weight = self._of_lists(self.places(step))["list_weight"].sum(dtype=np.float64)
        normaliser = np.asarray((weight or 1.0) / processes, np.float32)
        for places, batch in self._batches(step, rank, processes):
            yield {**batch, **self._of_lists(places), "list_normaliser": normaliser}

    def _of_lists(self, places: Rows) -> Arrays:
        """Tell the lists of a batch apart; each weighs as its pairs on average, or nothing where grades are equal."""
        first_B = np.diff(self.lists[places], prepend=-1) != 0
        starts_L, gain_B = np.flatnonzero(first_B), self.gains[places]
        list_B = np.cumsum(first_B) - 1
        graded_L = np.minimum.reduceat(gain_B, starts_L) < np.maximum.reduceat(gain_B, starts_L)
        mean_L = np.add.reduceat(self.weights[places], starts_L) / np.bincount(list_B)
        return {"list": list_B, "gain": gain_B, "list_weight": (mean_L * graded_L).astype(np.float32)}

    @cached_property
    def _sizes(self) -> Rows:
        """Pairs that an epoch reads of each list, ``[L]``."""
        return np.minimum(np.bincount(self.lists), min(self.most, self.batch_size))

    @cached_property
    def _step_of_place(self) -> Rows:
        """Step of each place for a list, ``[L]``; place ``i`` is for a list of the size of list ``i``."""
        order = np.random.Generator(np.random.PCG64(self.seed)).permutation(len(self._sizes))
        return packed_steps(self._sizes, self.batch_size, order)

    @cached_property
    def _epochs(self) -> Callable[[int], list[Rows]]:
        return lru_cache(maxsize=2)(self._epoch)  # the loop and the thread that reads ahead may be in two

    def _epoch(self, epoch: int) -> list[Rows]:
        """Lay out the places of each step of an epoch, ``[S]``."""
        chance, steps = np.random.Generator(np.random.PCG64([self.seed, epoch])), self.steps_per_epoch
        places_N = self._drawn(chance)
        shuffled = chance.permutation(len(self._sizes))
        dealt = shuffled[np.argsort(self._sizes[shuffled], kind="stable")]
        step_of_list = np.empty(len(dealt), np.int64)
        step_of_list[dealt] = chance.permutation(steps)[self._step_of_place[np.argsort(self._sizes, kind="stable")]]
        step_N = step_of_list[self.lists[places_N]]
        by_step = np.argsort(step_N, kind="stable")
        return np.split(places_N[by_step], np.cumsum(np.bincount(step_N, minlength=steps))[:-1])

    def _drawn(self, chance: np.random.Generator) -> Rows:
        """Draw the pairs that an epoch reads, ``[N]``, list by list, in a random order within each."""
        turn_R = chance.random(len(self.lists))
        order = np.lexsort((turn_R, self.lists))
        starts = np.cumsum(np.bincount(self.lists)) - np.bincount(self.lists)
        # The first pair that differs in grade from the first of its list comes before all others.
        others = order[self.gains[order] != self.gains[order][starts][self.lists[order]]]
        turn_R[others[np.unique(self.lists[others], return_index=True)[1]]] = -1
        order = np.lexsort((turn_R, self.lists))
        return order[np.arange(len(order)) - starts[self.lists[order]] < self._sizes[self.lists[order]]]


def packed_steps(sizes: Rows, room: int, order: Rows) -> Rows:
    """Lay out steps of at most ``room`` pairs: each list in turn goes to the fullest step that it fits into."""
    steps_by_room: list[list[int]] = [[] for _ in range(room + 1)]
    step_of, steps = np.empty(len(sizes), np.int64), 0
    for one in order.tolist():
        size = int(sizes[one])
        left = next((left for left in range(size, room + 1) if steps_by_room[left]), None)
        if left is None:
            step, left, steps = steps, room, steps + 1
        else:
            step = steps_by_room[left].pop()
        step_of[one] = step
        steps_by_room[left - size].append(step)
    return step_of
