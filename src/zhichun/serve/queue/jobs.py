"""What waits for the model: requests cut into slices that take turns, so that a large one does not hold up small ones.

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
    """The pairs of one request that are not known yet.

    Parameters
    ----------
    pairs
        All pairs of the request.
    places
        Where those that are not known stand among them, by their keys.
    deadline
        On the event loop's clock.
    done
        Set when all are scored, or none of them will be.
    figures
        Of those that are scored.
    """

    pairs: PairColumns
    places: dict[bytes, int]
    deadline: float
    done: asyncio.Future[None]
    figures: dict[bytes, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A round is small, and its batches are padded: slices of like length leave them little to pad.
        characters = self.pairs.characters
        self.waiting = deque(sorted(self.places, key=lambda key: -characters[self.places[key]]))

    def give(self, figures: Mapping[bytes, Floats]) -> None:
        """Take the figures of its pairs from those of a round."""
        self.figures |= {key: figures_F for key, figures_F in figures.items() if key in self.places}
        if len(self.figures) == len(self.places) and not self.done.done():
            self.done.set_result(None)

    def fail(self, refusal: Refusal) -> None:
        """Give up."""
        if not self.done.done():
            self.done.set_exception(refusal)


class Jobs:
    """Jobs that take turns; belongs to one event loop."""

    def __init__(self) -> None:
        self._turns: deque[Job] = deque()

    def __len__(self) -> int:
        return len(self._turns)

    @property
    def pairs(self) -> int:
        """How many pairs wait."""
        return sum(len(job.waiting) for job in self._turns)

    def add(self, job: Job) -> None:
        """Let a job wait for its turns."""
        self._turns.append(job)

    def remove(self, job: Job) -> None:
        """Forget a job whose answer nobody waits for any more; what is being computed of it goes on."""
        if job in self._turns:
            self._turns.remove(job)

    def clear(self) -> list[Job]:
        """Forget all, and give those that waited."""
        jobs = list(self._turns)
        self._turns.clear()
        return jobs

    def take(self, characters: int, least: int, now: float) -> tuple[dict[bytes, Place], list[Job]]:
        """Take the pairs of the next round, a slice of each job in turn.

        Parameters
        ----------
        characters
            After so many, no more pairs are taken.
        least
            But so many pairs are, where there are so many and they are not long.
        now
            On the event loop's clock; of a job whose time is over nothing is taken.

        Returns
        -------
        tuple
            By the keys of pairs, where each stands, and the jobs that they are of.
        """
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
