"""Dynamic batching: joins the pairs of requests into rounds, which one thread scores in turn.

A round takes slices of all queued requests in turn, as many pairs as take about `ROUND_SECONDS`, so that a large
request does not block small ones; the engine sorts them by length, splits them into batches under its token budget and
uses all cores. Nothing waits for further requests: a round starts when the previous one is done.

The pairs of a request are columns, which the scorer reads as they are; their scores are known by a hash of the content.

Legend: ``P`` pairs, ``F`` figures of a pair: score, tokens, and the probability of each class.
"""

import asyncio
import contextlib
import hashlib
import logging
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

import numpy as np

from zhichun.core import schema
from zhichun.core.tasks import Floats
from zhichun.score.scorer import PairScorer, tokens_read
from zhichun.serve.limits import Limits, Metrics, Refusal, failed, overloaded, timed_out, unavailable
from zhichun.text.features import HASH_BYTES, hash_texts
from zhichun.text.pairs import Columns, PairTexts, lists_of

ROUND_SECONDS: Final = 0.1
# A round holds at least so many pairs, since batches are worth something, and at most so many characters.
LEAST_PAIRS: Final = 16
FIRST_CHARACTERS, MOST_CHARACTERS = 16_000, 4_000_000
# What is no more than this is read in no time, whatever the model.
SMALL_CHARACTERS: Final = 64_000
# So many pairs of a request are taken when it is its turn.
SLICE: Final = 8
ENDING: Final = "the server is ending."
OF_A_LIST: Final = "a score of this model depends on the other documents of the request, which it reads as a list."
SCORE, TOKENS, PROBABILITIES = 0, 1, 2
log = logging.getLogger("zhichun.serve")


@dataclass(frozen=True, eq=False)
class PairColumns:
    """The pairs of one request, made once and kept until its reply, or those of one round.

    Parameters
    ----------
    queries, locales
        Of each pair.
    products
        Texts of each pair's product, by the catalogue's column names, and what else the model reads of it.
    warnings
        For the client.
    lists
        List of each pair, of a model that reads lists: a hash of all that is in it. ``None`` where each pair is scored
        by itself.
    """

    queries: Sequence[str]
    products: Columns
    locales: Sequence[str]
    warnings: list[str] = field(default_factory=list)
    lists: Sequence[bytes] | None = None

    def __len__(self) -> int:
        return len(self.queries)

    @cached_property
    def keys(self) -> list[bytes]:
        """A hash of all that decides each pair's score; the cache and the queue know it by this."""
        columns = zip(self.queries, self.locales, *self.products.values(), strict=True)
        pairs = [hash_texts(each) for each in columns]
        return pairs if self.lists is None else [one + pair for one, pair in zip(self.lists, pairs, strict=True)]

    def in_lists(self) -> "PairColumns":
        """Return the same pairs of one request, those of a query and locale in one list."""
        members: dict[tuple[str, str], set[bytes]] = {}
        given = lists_of(self.queries, self.locales)
        for one, key in zip(given, self.keys, strict=True):
            members.setdefault(one, set()).add(key)
        named = {one: hashlib.blake2b(b"".join(sorted(keys)), digest_size=HASH_BYTES) for one, keys in members.items()}
        lists = [named[one].digest() for one in given]
        return replace(self, lists=lists, warnings=[*self.warnings, OF_A_LIST])

    @cached_property
    def characters(self) -> list[int]:
        """How much text each pair has, which is what it takes to read it."""
        columns = [self.queries, *(self.products[name] for name in schema.TEXT_COLUMNS)]
        return np.sum([[len(text or "") for text in column] for column in columns], axis=0).tolist()

    @classmethod
    def of(cls, parts: Iterable[tuple["PairColumns", int]]) -> "PairColumns":
        """Put pairs of several requests together, each by its request and its place there."""
        chosen = list(parts)
        lists = [pairs.lists[place] for pairs, place in chosen if pairs.lists is not None]
        return cls(
            [pairs.queries[place] for pairs, place in chosen],
            {name: [pairs.products[name][place] for pairs, place in chosen] for name in chosen[0][0].products},
            [pairs.locales[place] for pairs, place in chosen],
            lists=lists or None,
        )


def score(scorer: PairScorer, pairs: PairColumns) -> Floats:
    """Score pairs; gives their figures, ``[P, F]``."""
    read = scorer.read(PairTexts(pairs.queries, pairs.products, pairs.locales, pairs.lists))
    prediction = scorer.predict(read)
    parts = [prediction.score[:, None], tokens_read(read)[:, None].astype(np.float32)]
    if prediction.probabilities is not None:
        parts.append(prediction.probabilities)
    return np.concatenate(parts, axis=1, dtype=np.float32)


# The pairs of a request, and the place of one of them.
Place = tuple[PairColumns, int]


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


def waiting_pairs(jobs: Iterable[Job]) -> int:
    """Count the pairs that wait."""
    return sum(len(job.waiting) for job in jobs)


def take(jobs: deque[Job], characters: int, least: int, now: float) -> tuple[dict[bytes, Place], list[Job]]:
    """Take the pairs of the next round, a slice of each job in turn; those that nobody waits for leave the queue."""
    taken: dict[bytes, Place] = {}
    of: dict[Job, None] = {}
    read = 0
    while jobs and (read < characters or (len(taken) < least and read < SMALL_CHARACTERS)):
        job = jobs.popleft()
        if job.done.done() or job.deadline <= now:
            continue
        whole = job.pairs.lists is not None  # a list is scored at once
        for _ in range(len(job.waiting) if whole else min(SLICE, len(job.waiting))):
            if taken and read >= max(characters, SMALL_CHARACTERS) and not whole:
                break
            key = job.waiting.popleft()
            if key not in taken:
                place = job.places[key]
                taken[key] = job.pairs, place
                read += job.pairs.characters[place]
        of[job] = None
        if job.waiting:
            jobs.append(job)
    return taken, list(of)


class Batcher:
    """Scores pairs for many requests at once; belongs to one event loop.

    Parameters
    ----------
    scorer
        The model.
    limits
        Of queue and cache.
    metrics
        Records rounds, pairs, cache hits and the queue.
    """

    def __init__(self, scorer: PairScorer, limits: Limits, metrics: Metrics) -> None:
        self.scorer, self.limits, self.metrics = scorer, limits, metrics
        self.cache: OrderedDict[bytes, Floats] = OrderedDict()  # the figures, [F], of pairs, the latest last
        self.jobs: deque[Job] = deque()
        self._characters, self._pairs_per_second = float(FIRST_CHARACTERS), 100.0
        self._wanted = asyncio.Event()
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="scoring")
        self._rounds = asyncio.create_task(self._run())
        metrics.gauge("zhichun_queue_pairs", "Pairs that wait for the model.", lambda: waiting_pairs(self.jobs))
        metrics.gauge("zhichun_queue_requests", "Requests that wait for the model.", lambda: len(self.jobs))
        metrics.gauge("zhichun_kept_scores", "Pairs whose scores are kept.", lambda: len(self.cache))

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
        figures = {key: self.cache[key] for key in places if key in self.cache}
        if pairs.lists is not None and len(figures) < len(places):
            figures = {}  # a list is scored as a whole
        self.metrics.pairs.inc(len(pairs))
        self.metrics.cached.inc(len(figures))
        for key in figures:
            self.cache.move_to_end(key)
            del places[key]
        if places:
            figures |= await self._wait_for(pairs, places, seconds)
        return np.stack([figures[key] for key in pairs.keys])

    async def close(self) -> None:
        """Stop the rounds; queued requests are refused."""
        self._rounds.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._rounds
        for job in self.jobs:
            job.fail(unavailable(ENDING))
        self.jobs.clear()
        self.thread.shutdown(wait=True)

    async def _wait_for(self, pairs: PairColumns, places: dict[bytes, int], seconds: float) -> dict[bytes, Floats]:
        queued = waiting_pairs(self.jobs)
        if queued and queued + len(places) > self.limits.queue_pairs:
            message = f"{queued} pairs are queued, and the queue holds {self.limits.queue_pairs}."
            raise overloaded(message, queued / self._pairs_per_second)
        loop = asyncio.get_running_loop()
        job = Job(pairs, places, loop.time() + seconds, loop.create_future())
        self.jobs.append(job)
        self._wanted.set()
        try:
            async with asyncio.timeout_at(job.deadline):
                await job.done
        except TimeoutError:
            raise timed_out(seconds) from None
        finally:
            if job in self.jobs:  # its pairs in the current round are still computed
                self.jobs.remove(job)
        return job.figures

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wanted.wait()
            taken, jobs = take(self.jobs, int(self._characters), LEAST_PAIRS, loop.time())
            if not taken:
                self._wanted.clear()
                continue
            await self._round(taken, jobs)

    async def _round(self, taken: Mapping[bytes, Place], jobs: list[Job]) -> None:
        """Score pairs of several jobs; on failure, job by job, so that one job does not fail the others."""
        began, pairs = time.perf_counter(), PairColumns.of(taken.values())
        try:
            scoring = asyncio.get_running_loop().run_in_executor(self.thread, score, self.scorer, pairs)
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
        if self.limits.cached_scores:  # a row of a batch would keep the whole batch
            self.cache |= {key: figures_F.copy() for key, figures_F in figures.items() if key not in broken}
        while len(self.cache) > self.limits.cached_scores:
            self.cache.popitem(last=False)
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
