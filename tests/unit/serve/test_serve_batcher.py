"""The queue before the model: fair, bounded, in time, and forgetful of those who went."""

import asyncio
import threading
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("fastapi")

from zhichun.core import schema
from zhichun.core.tasks import TASKS, Prediction
from zhichun.serve.batcher import Batcher, PairColumns
from zhichun.serve.limits import Limits, Metrics, Refusal


class Model:
    """Gives each pair the length of its query, when it is let."""

    def __init__(self):
        self.rounds, self.open = [], threading.Event()
        self.open.set()
        self.fault = None

    def read(self, texts):
        queries = texts.queries
        self.rounds.append(list(queries))
        return (SimpleNamespace(lengths=np.ones(len(queries), np.int64), queries=queries),)

    def predict(self, read):
        queries = read[0].queries
        assert self.open.wait(20)
        if self.fault:
            raise self.fault
        scores_P = np.array([np.nan if query == "nan" else len(query) for query in queries], np.float32)
        return Prediction(TASKS["gain"], None, scores_P)


def pairs(*queries):
    products = {name: [None] * len(queries) for name in schema.TEXT_COLUMNS}
    return PairColumns(queries, products, ["us"] * len(queries))


def run(scenario, **limits):
    async def main():
        model = Model()
        batcher = Batcher(model, Limits(**limits), Metrics())
        try:
            await scenario(model, batcher)
        finally:
            model.open.set()
            await batcher.close()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_the_order_is_kept_and_a_pair_that_comes_twice_is_scored_once():
    async def scenario(model, batcher):
        scored = await batcher.score(pairs("aa", "b", "aa"), 10)
        assert scored[:, 0].tolist() == [2, 1, 2]
        assert sum(map(len, model.rounds)) == 2
        assert (await batcher.score(pairs("b"), 10))[:, 0].tolist() == [1]
        assert sum(map(len, model.rounds)) == 2

    run(scenario)


def test_a_full_queue_says_when_to_come_back():
    async def scenario(model, batcher):
        model.open.clear()
        first = asyncio.create_task(batcher.score(pairs("first"), 10))
        while not model.rounds:
            await asyncio.sleep(0.01)
        second = asyncio.create_task(batcher.score(pairs("a", "b", "c"), 10))
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as refused:
            await batcher.score(pairs("d", "e"), 10)
        assert refused.value.status == 429
        assert int(refused.value.headers["Retry-After"]) >= 1
        model.open.set()
        await asyncio.gather(first, second)

    run(scenario, queue_pairs=4)


def test_who_goes_or_is_late_leaves_the_queue():
    async def scenario(model, batcher):
        model.open.clear()
        first = asyncio.create_task(batcher.score(pairs("first"), 10))
        while not model.rounds:
            await asyncio.sleep(0.01)
        gone = asyncio.create_task(batcher.score(pairs("gone"), 10))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(Refusal) as refused:
            await batcher.score(pairs("late"), 0.01)
        assert refused.value.status == 504
        assert len(batcher.jobs) == 0
        model.open.set()
        await first
        assert model.rounds == [["first"]]

    run(scenario)


def test_a_large_request_does_not_hold_up_a_small_one():
    async def scenario(model, batcher):
        model.open.clear()
        first = asyncio.create_task(batcher.score(pairs("first"), 10))
        while not model.rounds:
            await asyncio.sleep(0.01)
        batcher._characters = 1.0
        large = asyncio.create_task(batcher.score(pairs(*(f"large {number}" for number in range(100))), 10))
        small = asyncio.create_task(batcher.score(pairs("small"), 10))
        await asyncio.sleep(0)
        model.open.set()
        await asyncio.gather(first, large, small)
        assert "small" in model.rounds[1]

    run(scenario)


def test_a_fault_or_no_number_is_said_and_the_next_request_is_answered():
    async def scenario(model, batcher):
        model.fault = ValueError("a secret text")
        with pytest.raises(Refusal) as refused:
            await batcher.score(pairs("a"), 10)
        assert refused.value.status == 424
        assert "secret" not in refused.value.message
        model.fault = None
        with pytest.raises(Refusal, match="not a number"):
            await batcher.score(pairs("nan"), 10)
        assert (await batcher.score(pairs("a"), 10))[0, 0] == 1

    run(scenario)
