"""Dynamic batching: joins the pairs of requests into rounds, which one thread scores in turn.

A round takes slices of all queued requests in turn, as many pairs as take about `ROUND_SECONDS`; the engine sorts them
by length, splits them into batches under its token budget and uses all cores. Nothing waits for further requests: a
round starts when the previous one is done.

Legend: ``P`` pairs, ``F`` figures of a pair.
"""

import asyncio
import contextlib
import logging
import time
import traceback
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from zhichun.core.tasks import Floats
from zhichun.score.scorer import PairScorer
from zhichun.serve.api.refusal import failed, overloaded, timed_out, unavailable
from zhichun.serve.http.counters import Metrics
from zhichun.serve.http.limits import Limits
from zhichun.serve.queue.jobs import Job, Jobs, Place
from zhichun.serve.queue.pairs import SCORE, PairColumns, ScoreCache, score

ROUND_SECONDS: Final = 0.1
# A round holds at least so many pairs, since batches are worth something, and at most so many characters.
LEAST_PAIRS: Final = 16
FIRST_CHARACTERS, MOST_CHARACTERS = 16_000, 4_000_000
ENDING: Final = "the server is ending."
log = logging.getLogger("zhichun.serve")


class Batcher:
    """Scores pairs for many requests at once; belongs to one event loop.

    Parameters
    ----------
    scorer
        The model.
    limits
        Of queue and cache.
    metrics
        Records rounds, pairs and cache hits.
    """

    def __init__(self, scorer: PairScorer, limits: Limits, metrics: Metrics) -> None:
        self.scorer, self.limits, self.metrics = scorer, limits, metrics
        self.cache = ScoreCache(limits.cached_scores)
        self.jobs = Jobs()
        self._characters, self._pairs_per_second = float(FIRST_CHARACTERS), 100.0
        self._wanted = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scoring")
        self._rounds = asyncio.create_task(self._run())

    async def score(self, pairs: PairColumns, seconds: float) -> Floats:
        """Score the pairs of one request; returns their figures, ``[P, F]``.

        Parameters
        ----------
        pairs
            The pairs, ``[P]``; duplicates are scored once.
        seconds
            That it may take.

        Raises
        ------
        Refusal
            When the queue is full, the timeout is exceeded, or the model fails.
        """
        places = {key: place for place, key in enumerate(pairs.keys)}
        figures = self.cache.get(places)
        self.metrics.pairs.inc(len(pairs))
        self.metrics.cached.inc(len(figures))
        for key in figures:
            del places[key]
        if places:
            figures |= await self._wait_for(pairs, places, seconds)
        return np.stack([figures[key] for key in pairs.keys])

    async def close(self) -> None:
        """Stop the rounds; queued requests are refused."""
        self._rounds.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._rounds
        for job in self.jobs.clear():
            job.fail(unavailable(ENDING))
        self._thread.shutdown(wait=True)

    async def _wait_for(self, pairs: PairColumns, places: dict[bytes, int], seconds: float) -> dict[bytes, Floats]:
        if self.jobs.pairs and self.jobs.pairs + len(places) > self.limits.queue_pairs:
            message = f"{self.jobs.pairs} pairs are queued, and the queue holds {self.limits.queue_pairs}."
            raise overloaded(message, self.jobs.pairs / self._pairs_per_second)
        loop = asyncio.get_running_loop()
        job = Job(pairs, places, loop.time() + seconds, loop.create_future())
        self.jobs.add(job)
        self._wanted.set()
        try:
            async with asyncio.timeout_at(job.deadline):
                await job.done
        except TimeoutError:
            raise timed_out(seconds) from None
        finally:
            self.jobs.remove(job)
        return job.figures

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wanted.wait()
            taken, jobs = self.jobs.take(int(self._characters), LEAST_PAIRS, loop.time())
            if not taken:
                self._wanted.clear()
                continue
            await self._round(taken, jobs)

    async def _round(self, taken: Mapping[bytes, Place], jobs: list[Job]) -> None:
        """Score pairs of several jobs; on failure, job by job, so that one job does not fail the others."""
        began, pairs = time.perf_counter(), PairColumns.of(taken.values())
        try:
            scoring = asyncio.get_running_loop().run_in_executor(self._thread, score, self.scorer, pairs)
            figures = dict(zip(taken, await scoring, strict=True))
        except asyncio.CancelledError:
            for job in jobs:
                job.fail(unavailable(ENDING))
            raise
        except BaseException as error:  # a panic of the tokenizer is no Exception, and may not end the rounds
            where = "".join(traceback.format_tb(error.__traceback__))  # what the error says may hold texts
            log.error("a round of %d pairs failed with %s\n%s", len(pairs), type(error).__name__, where)  # noqa: TRY400
            if len(jobs) == 1:
                jobs[0].fail(failed("the model could not score the pairs."))
            else:
                for job in jobs:
                    await self._round({key: place for key, place in taken.items() if key in job.places}, [job])
            return
        self._learn(pairs, time.perf_counter() - began)
        self._hand_out(figures, jobs)

    def _hand_out(self, figures: dict[bytes, Floats], jobs: list[Job]) -> None:
        broken = {key for key, figures_F in figures.items() if not np.isfinite(figures_F[SCORE])}
        self.cache.put({key: figures_F for key, figures_F in figures.items() if key not in broken})
        for job in jobs:
            if broken & job.places.keys():
                job.fail(failed("the model gave a score that is not a number."))
            job.give(figures)

    def _learn(self, pairs: PairColumns, seconds: float) -> None:
        """Set the next round's size by the duration of this one."""
        self.metrics.rounds.observe(len(pairs))
        self.metrics.round_seconds.observe(seconds)
        self._pairs_per_second += 0.2 * (len(pairs) / max(seconds, 1e-6) - self._pairs_per_second)
        ratio = min(2.0, max(0.5, ROUND_SECONDS / max(seconds, 1e-6)))
        if ratio < 1 or sum(pairs.characters) >= self._characters:
            self._characters = min(MOST_CHARACTERS, max(1.0, self._characters * ratio))
