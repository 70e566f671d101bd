"""Rounds: whose pairs are taken, how many, and that the fault of one request is not that of another."""

import asyncio
from collections import deque

import numpy as np
import pytest

pytest.importorskip("fastapi")
from zhichun.core import schema
from zhichun.serve import batcher
from zhichun.serve.batcher import SLICE, SMALL_CHARACTERS, Batcher, Job, PairColumns, take, waiting_pairs
from zhichun.serve.limits import Limits, Metrics, Refusal


class Panic(BaseException):
    """What the bindings of a library in another language raise when it panics."""


def pairs_of(name: str, count: int, *lengths: int) -> PairColumns:
    """Give pairs of one query whose titles differ and have 10 characters, or the given lengths in turn."""
    titles = [f"{place}".zfill((lengths or (10,))[place % (len(lengths) or 1)]) for place in range(count)]
    products = {column: [None] * count for column in schema.TEXT_COLUMNS} | {schema.TITLE: titles}
    return PairColumns([name] * count, products, ["us"] * count)


@pytest.fixture
def job():
    """Make a job of pairs; its loop ends with the test."""
    loop = asyncio.new_event_loop()
    yield lambda pairs: Job(pairs, {key: place for place, key in enumerate(pairs.keys)}, 10.0, loop.create_future())
    loop.close()


def test_jobs_take_turns_by_slices(job):
    jobs = deque()
    for name, count in (("large", 100), ("small", 3), ("other", 20)):
        jobs.append(job(pairs_of(name, count)))
    taken, of = take(jobs, characters=280, least=1, now=0.0)
    names = [pairs.queries[place] for pairs, place in taken.values()]
    assert names[: SLICE + 3] == ["large"] * SLICE + ["small"] * 3
    assert {name: names.count(name) for name in set(names)} == {"large": SLICE, "small": 3, "other": SLICE}
    assert len(of) == 3
    assert waiting_pairs(jobs) == 123 - len(taken)
    while take(jobs, characters=280, least=1, now=0.0)[0]:
        pass
    assert waiting_pairs(jobs) == len(jobs) == 0


def test_a_slice_is_of_like_length_and_the_longest_come_first(job):
    jobs = deque()
    jobs.append(job(pairs_of("a", 4 * SLICE, 10, 90, 20, 80)))
    slices = []
    while taken := take(jobs, characters=1, least=1, now=0.0)[0]:
        slices.append({len(pairs.products[schema.TITLE][place]) for pairs, place in taken.values()})
    assert slices == [{90}, {80}, {20}, {10}]


def test_short_pairs_fill_a_round_and_long_ones_do_not(job):
    for characters, count in ((10, 16), (5_000, 13), (SMALL_CHARACTERS, 1)):
        jobs = deque()
        jobs.append(job(pairs_of("a", 40, characters)))
        assert len(take(jobs, characters=1, least=16, now=0.0)[0]) == count


def test_nothing_is_taken_of_jobs_that_nobody_waits_for(job):
    jobs = deque()
    late, gone = job(pairs_of("late", 5)), job(pairs_of("gone", 5))
    for each in (late, gone):
        jobs.append(each)
    gone.done.cancel()
    assert take(jobs, characters=100, least=1, now=late.deadline) == ({}, [])
    assert waiting_pairs(jobs) == 0


@pytest.mark.parametrize("fault", [ValueError("secret"), Panic("secret")])
def test_the_fault_of_one_request_fails_no_other(monkeypatch, caplog, fault):
    rounds = []

    def score(_, pairs):
        rounds.append(len(pairs))
        if "poison" in pairs.queries:
            raise fault
        return np.full((len(pairs), 2), 0.5, np.float32)

    async def ask() -> list[object]:
        joined = Batcher(None, Limits(cached_scores=0), Metrics())
        asked = [joined.score(pairs_of(name, 3), 20.0) for name in ("good", "poison", "better")]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        again = await joined.score(pairs_of("again", 3), 20.0)
        await joined.close()
        return [*answers, again]

    monkeypatch.setattr(batcher, "score", score)
    good, poison, better, again = asyncio.run(ask())
    assert rounds[0] == 9, "all three were joined"
    assert isinstance(poison, Refusal)
    assert poison.status == 424
    for answer in (good, better, again):
        assert answer.tolist() == [[0.5, 0.5]] * 3
    assert "secret" not in caplog.text
