"""The queue: requests split into slices that take turns, so that a large one does not block small ones.

Legend: ``F`` figures of a pair.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from zhichun.core.tasks import Floats
from zhichun.serve.api.refusal import Refusal
from zhichun.serve.queue.pairs import PairColumns

# The pairs of a request, and the place of one of them.
Place = tuple[PairColumns, int]
SLICE: Final = 8
# What is no more than this is read in no time, whatever the model.
SMALL_CHARACTERS: Final = 64_000


@dataclass(eq=False)
class Job:
    """The pairs of one request that are not in the cache.

    Parameters
    ----------
    pairs
        All pairs of the request.
    places
        Positions of the unknown pairs, by their keys.
    deadline
        On the event loop's clock.
    done
        Set when all are scored, or the job has failed.
    figures
        Of those that are scored.
    """

    pairs: PairColumns
    places: dict[bytes, int]
    deadline: float
    done: asyncio.Future[None]
    figures: dict[bytes, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A round is small, and its batches are padded: slices of similar length leave them little to pad.
        characters = self.pairs.characters
        self.waiting = deque(sorted(self.places, key=lambda key: -characters[self.places[key]]))

    def give(self, figures: Mapping[bytes, Floats]) -> None:
        """Store the figures of its pairs from a round."""
        self.figures |= {key: figures_F for key, figures_F in figures.items() if key in self.places}
        if len(self.figures) == len(self.places) and not self.done.done():
            self.done.set_result(None)

    def fail(self, refusal: Refusal) -> None:
        """Mark as failed."""
        if not self.done.done():
            self.done.set_exception(refusal)


class Jobs:
    """A round-robin queue of jobs; belongs to one event loop."""

    def __init__(self) -> None:
        self._turns: deque[Job] = deque()

    def __len__(self) -> int:
        return len(self._turns)

    @property
    def pairs(self) -> int:
        """Number of queued pairs."""
        return sum(len(job.waiting) for job in self._turns)

    def add(self, job: Job) -> None:
        """Add a job to the queue."""
        self._turns.append(job)

    def remove(self, job: Job) -> None:
        """Remove a cancelled job; its pairs in the current round are still computed."""
        if job in self._turns:
            self._turns.remove(job)

    def clear(self) -> list[Job]:
        """Remove all jobs, and return them."""
        jobs = list(self._turns)
        self._turns.clear()
        return jobs

    def take(self, characters: int, least: int, now: float) -> tuple[dict[bytes, Place], list[Job]]:
        """Take the pairs of the next round, a slice of each job in turn."""
        taken: dict[bytes, Place] = {}
        jobs: dict[Job, None] = {}
        read = 0
        while self._turns and (read < characters or (len(taken) < least and read < SMALL_CHARACTERS)):
            job = self._turns.popleft()
            if job.done.done() or job.deadline <= now:
                continue
            for _ in range(min(SLICE, len(job.waiting))):
                if taken and read >= max(characters, SMALL_CHARACTERS):
                    break
                key = job.waiting.popleft()
                if key not in taken:
                    place = job.places[key]
                    taken[key] = job.pairs, place
                    read += job.pairs.characters[place]
            jobs[job] = None
            if job.waiting:
                self._turns.append(job)
        return taken, list(jobs)
