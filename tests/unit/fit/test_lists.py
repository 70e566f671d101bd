"""Steps of whole lists: what a step, a micro-batch and a process read, and what of a long list."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.data.dataset import Dataset
from zhichun.fit.batches import ListBatches, Lists, packed_steps
from zhichun.fit.train_settings import TrainSettings

RANDOM = np.random.default_rng(0)
SIZES = RANDOM.integers(1, 9, size=60)
LISTS = RANDOM.permutation(np.repeat(np.arange(60), SIZES))  # the rows of a query are not next to each other
LENGTHS = RANDOM.integers(5, 64, size=len(LISTS))
GAINS = RANDOM.choice(np.float32([0, 0.01, 0.1, 1]), size=len(LISTS))


class Collated:
    """What makes the arrays of pairs; here none."""

    def collate(self, rows, *, pack):
        return {}


def plan(lists=LISTS, gains=GAINS, **settings: int) -> ListBatches:
    rows = np.arange(len(lists))
    given = {"batch_size": 16, "budget": 200, "seed": 3, "most": 16, "lengths": LENGTHS[: len(rows)], **settings}
    ones = np.ones(len(rows), np.float32)
    return ListBatches(rows=rows, pairs=Collated(), targets=rows, weights=ones, lists=lists, gains=gains, **given)


def epoch(of: ListBatches, number: int = 0) -> list[np.ndarray]:
    first = number * of.steps_per_epoch
    return [of.places(step) for step in range(first, first + of.steps_per_epoch)]


@pytest.mark.parametrize("number", [0, 1, 7])
def test_an_epoch_reads_every_list_once_and_whole_in_steps_that_are_not_too_large(number):
    steps = epoch(plan(), number)
    assert sorted(np.concatenate(steps)) == list(range(len(LISTS)))
    assert max(map(len, steps)) <= 16
    assert len(np.concatenate([np.unique(LISTS[step]) for step in steps])) == 60  # no list is in two steps
    assert len(steps) <= -(-len(LISTS) // 16) + 1  # and hardly any place is free


def test_the_order_is_a_function_of_seed_and_step_alone_and_another_in_every_epoch():
    asked_late = plan().places(40).tolist()
    of = plan()
    assert [of.places(step).tolist() for step in range(41)][40] == asked_late
    assert plan(seed=4).places(40).tolist() != asked_late
    assert [step.tolist() for step in epoch(of)] != [step.tolist() for step in epoch(of, 1)]
    together = [{tuple(np.unique(LISTS[step])) for step in epoch(of, number)} for number in (0, 1)]
    assert len(together[0] & together[1]) < len(together[0]) / 2  # lists meet others, not the same ones each time


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_no_list_is_split_over_processes_or_micro_batches(processes):
    of = plan()
    for step in range(of.steps_per_epoch):
        shares = [of.parts(step, rank, processes) for rank in range(processes)]
        parts = [part for share in shares for part in share]
        assert sorted(np.concatenate(parts)) == sorted(of.places(step))
        assert len(np.concatenate([np.unique(LISTS[part]) for part in parts])) == len(np.unique(LISTS[of.places(step)]))
        for part in parts:
            alone = len(np.unique(LISTS[part])) == 1
            assert alone or len(part) * LENGTHS[part].max() <= 200
        tokens = [sum(int(LENGTHS[part].sum()) for part in share) for share in shares]
        longest = max(int(LENGTHS[one == LISTS].sum()) for one in np.unique(LISTS[of.places(step)]))
        assert max(tokens) - min(tokens) <= longest


def test_of_a_list_that_is_too_long_each_epoch_draws_others_with_different_grades():
    lists, gains = np.zeros(100, np.int64), np.float32([1] + [0] * 99)
    drawn = [epoch(plan(lists, gains, most=5), number)[0] for number in range(20)]
    assert all(len(places) == 5 == len(set(places)) for places in drawn)
    assert all(0 in places for places in drawn)  # the only pair of the other grade
    assert len(set(np.concatenate(drawn))) > 40
    one_grade = epoch(plan(lists, np.zeros(100, np.float32), most=5))[0]
    assert len(one_grade) == 5


def test_a_list_is_no_longer_than_a_step():
    of = plan(np.zeros(100, np.int64), GAINS[:100], most=50)
    assert [len(places) for places in epoch(of)] == [16]


def test_a_batch_says_which_pairs_are_a_list_and_what_each_weighs():
    lists, gains = np.array([0, 1, 0, 1, 2]), np.float32([1, 0.1, 0, 0.1, 1])
    of = replace(plan(lists, gains, budget=10_000), weights=np.float32([1, 5, 3, 5, 7]))
    (batch,) = of.micro_batches(0, 0, 1)
    places, weight = batch["target"], {0: 2.0, 1: 0.0, 2: 0.0}  # of one grade, and a list of one: nothing to rank
    assert batch["list"].tolist() == [0, 0, 1, 1, 2] or batch["list"].tolist() in ([0, 0, 1, 2, 2], [0, 1, 1, 2, 2])
    assert lists[places].tolist() == [lists[places][batch["list"] == one][0] for one in batch["list"]]
    assert batch["gain"].tolist() == gains[places].tolist()
    assert batch["list_weight"].tolist() == [weight[lists[places][batch["list"] == one][0]] for one in range(3)]
    assert batch["list_normaliser"] == 2
    assert batch["normaliser"] == 21


def test_a_process_without_a_list_computes_one_pair_that_weighs_nothing():
    of = plan(np.zeros(6, np.int64), GAINS[:6])
    busy, idle = (list(of.micro_batches(0, rank, 2)) for rank in (0, 1))
    assert [len(batch["target"]) for batch in busy] == [6]
    assert [(batch["weight"].tolist(), batch["list_weight"].tolist()) for batch in idle] == [([0], [0])]
    assert idle[0]["normaliser"] == busy[0]["normaliser"] == 3
    assert plan(np.arange(5), GAINS[:5], batch_size=1).smallest_step == 1


def test_steps_are_filled():
    assert packed_steps(np.array([3, 3, 2, 2, 4]), 5, np.arange(5)).tolist() == [0, 1, 1, 0, 2]


def test_a_pair_that_balancing_or_translation_made_is_in_no_list_of_a_query(tiny_dataset):
    dataset = Dataset.open(tiny_dataset)
    ids, lists = dataset.column(schema.QUERY_ID), dataset.list_row
    for one in np.unique(ids)[:5]:
        assert len(np.unique(lists[ids == one])) == 1
    assert len(np.unique(lists)) == len(np.unique(ids))
    origins = pa.array(["translated", "balanced", schema.TEACHER] + [schema.JUDGED] * (len(ids) - 3))
    place = dataset.examples.column_names.index(schema.ORIGIN)
    changed = replace(dataset, examples=dataset.examples.set_column(place, schema.ORIGIN, origins)).list_row
    assert [int((changed == one).sum()) for one in changed[:2]] == [1, 1]
    assert changed[2] == lists[2]


def test_lists_of_one_are_refused():
    with pytest.raises(UserError, match=r"train\.lists\.most_candidates=1 must be at least 2"):
        Lists(most_candidates=1)
    with pytest.raises(UserError, match=r"batch_size=1 leaves train\.lists nothing to rank(.|\n)*train\.batch_size=32"):
        TrainSettings(batch_size=1, lists=Lists())
    assert TrainSettings(batch_size=1).lists is None
    assert TrainSettings(batch_size=2, lists=Lists()).batch_size == 2
