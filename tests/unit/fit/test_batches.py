"""The plan of a training run: which pairs each step and process reads, and how they are cut."""

import numpy as np
import pytest

from zhichun.fit.batches import JudgedBatches, dropout_seed
from zhichun.fit.recipe import load_recipe
from zhichun.score.engine import length_sorted

LENGTHS = np.random.default_rng(0).integers(5, 64, size=103)


def plan(**settings: int) -> JudgedBatches:
    given = {"lengths": LENGTHS, "batch_size": 16, "budget": 200, "seed": 3, **settings}
    rows = np.arange(len(given["lengths"]))
    return JudgedBatches(rows=rows, pairs=None, targets=rows, weights=np.ones(len(rows), np.float32), **given)


def epoch(of: JudgedBatches, number: int = 0) -> list[np.ndarray]:
    first = number * of.steps_per_epoch
    return [of.places(step) for step in range(first, first + of.steps_per_epoch)]


def test_an_epoch_reads_every_pair_once_in_steps_of_like_size():
    steps = epoch(plan())
    assert sorted(np.concatenate(steps)) == list(range(103))
    assert sorted({len(places) for places in steps}) == [14, 15]  # 103 pairs in 7 steps of at most 16


def test_the_order_is_a_function_of_seed_and_step_alone():
    asked_late = plan().places(9).tolist()
    in_order = [plan().places(step).tolist() for step in range(10)]
    assert asked_late == in_order[9]
    assert plan(seed=4).places(9).tolist() != asked_late


def test_every_epoch_has_an_order_of_its_own():
    first, second = (np.concatenate(epoch(plan(), number)).tolist() for number in (0, 1))
    assert sorted(first) == sorted(second)
    assert first != second


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_share_a_step_without_overlap_and_evenly(processes):
    shares = [np.concatenate(plan().parts(5, rank, processes)) for rank in range(processes)]
    assert sorted(np.concatenate(shares)) == sorted(plan().places(5))
    tokens = [LENGTHS[share].sum() for share in shares]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert max(tokens) - min(tokens) <= LENGTHS.max()  # dealt out by length, they differ by one pair at most


def test_a_padded_micro_batch_keeps_to_the_budget():
    cut = plan().parts(0, 0, 1)
    assert len(cut) > 1
    assert all(len(places) * LENGTHS[places].max() <= 200 for places in cut)


def test_a_micro_batch_of_the_paper_s_recipe_holds_a_whole_step():
    train, most = load_recipe("kdd2022:task2").train, load_recipe("kdd2022:task2").model.max_length
    of = plan(lengths=np.full(320, most), batch_size=train.batch_size, budget=train.micro_batch_tokens)
    assert [len(places) for places in of.parts(0, 0, 1)] == [32]


def test_little_is_padding_though_the_pairs_of_a_step_are_random():
    """Lengths as pairs of queries and products have them: half of them short, some as long as may be."""
    lengths = np.minimum(np.random.default_rng(1).lognormal(4.8, 0.7, size=640), 256).astype(np.int64)
    of = plan(lengths=lengths, batch_size=32, budget=1024)
    cut = [places for step in range(of.steps_per_epoch) for places in of.parts(step, 0, 1)]
    computed = sum(len(places) * lengths[places].max() for places in cut)
    uncut = sum(len(places) * lengths[places].max() for places in epoch(of))
    assert lengths.sum() / computed > 0.8
    assert lengths.sum() / uncut < 0.6


def test_labels_of_a_step_do_not_go_with_length():
    """Steps are drawn before anything looks at a length: one class being longer does not gather it in some steps."""
    labels = np.arange(6400) % 4
    of = plan(lengths=10 + 20 * labels, batch_size=64)
    share_SC = np.array([np.bincount(labels[places], minlength=4) / len(places) for places in epoch(of)])
    drawn = np.random.default_rng(0)
    chance = np.array([np.bincount(drawn.permutation(labels)[:64], minlength=4) / 64 for _ in range(len(share_SC))])
    assert np.abs(share_SC.mean(axis=0) - 0.25).max() < 1e-9
    assert share_SC.std(axis=0).max() < 1.4 * chance.std(axis=0).max()


def test_a_pair_longer_than_the_budget_is_a_batch_by_itself():
    assert [part.tolist() for part in length_sorted(np.arange(3), np.array([5, 90, 8]), 20)] == [[1], [2, 0]]


def test_dropout_has_its_own_seed_for_every_step_micro_batch_and_process():
    seeds = {dropout_seed(*place) for place in np.ndindex(2, 5, 3, 2)}
    assert len(seeds) == 60
    assert all(0 <= seed < 2**63 for seed in seeds)
