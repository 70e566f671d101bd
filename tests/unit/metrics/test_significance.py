"""The paired bootstrap: worked examples, seeds, and an error rate that is what it says."""

import itertools

import numpy as np
import pytest

from zhichun.metrics import Judged, MicroF1, paired_bootstrap


def test_a_constant_difference_is_certain():
    found = paired_bootstrap([0.5, 0.75, 1.0], [0.25, 0.5, 0.75], resamples=999)
    assert (found.mean, found.low, found.high) == (0.25, 0.25, 0.25)
    assert found.p == 1 / 1000
    assert found.queries == 3


def test_equal_models_do_not_differ():
    assert paired_bootstrap([0.1, 0.9], [0.1, 0.9], resamples=100).p == 1


@pytest.mark.parametrize(
    "gaps",
    [
        [0.3, 0.1, -0.1, 0.2],
        [0.2, 0.2, 0.2, -0.2],  # a third of its draws fall on the bound but for rounding
        [0.0, 0.2, 0.1, -0.3],  # no difference but for rounding
    ],
)
def test_p_and_interval_are_those_of_all_possible_draws(gaps):
    gaps = np.array(gaps)
    means = np.array([gaps[list(draw)].mean() for draw in itertools.product(range(4), repeat=4)])
    exact = (np.abs(means - gaps.mean()) >= gaps.mean() - 1e-9).mean()
    found = paired_bootstrap(gaps, np.zeros(4), resamples=40_000)
    assert found.p == pytest.approx(exact, abs=0.01)
    assert (found.low, found.high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.026)


def test_the_seed_decides_and_blocks_of_draws_do_not_repeat():
    one, other = np.random.default_rng(0).random((2, 3000))
    first, again, different = (paired_bootstrap(one, other, resamples=3000, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.low != different.low


def test_swapping_the_models_turns_the_sign():
    one, other = np.random.default_rng(0).random((2, 50))
    there, back = paired_bootstrap(one, other), paired_bootstrap(other, one)
    assert (there.mean, there.low, there.high, there.p) == pytest.approx((-back.mean, -back.high, -back.low, back.p))


def test_one_row_per_query_is_the_same_with_and_without_ids():
    one, other = np.random.default_rng(0).random((2, 50))
    assert paired_bootstrap(one, other) == paired_bootstrap(one, other, query_ids=np.arange(50))


def test_the_difference_in_micro_f1_is_over_pairs_and_drawn_by_query():
    first = Judged([1, 1, 1, 2], [0, 0, 0, 0], predictions=[0, 0, 0, 1])
    found = paired_bootstrap(
        MicroF1().per_pair(first), MicroF1().per_pair(first.always("S")), query_ids=first.query_ids, resamples=2000
    )
    assert found.mean == 3 / 4
    # The draws are (1, 1), (1, 2) twice and (2, 2): 6 of 6 pairs, 3 of 4 and 0 of 2.
    assert (found.low, found.high) == (0, 1)
    assert found.queries == 2


def test_pairs_of_one_query_are_worth_less_than_as_many_queries():
    gaps = np.repeat(np.random.default_rng(0).normal(size=50), 20)
    together = paired_bootstrap(gaps, 0 * gaps, query_ids=np.repeat(np.arange(50), 20), resamples=500)
    apart = paired_bootstrap(gaps, 0 * gaps, resamples=500)
    assert together.high - together.low > 3 * (apart.high - apart.low)


def test_where_there_is_no_difference_one_in_twenty_seems_significant():
    generator = np.random.default_rng(0)
    p = [paired_bootstrap(generator.normal(size=60), np.zeros(60), resamples=300).p for _ in range(400)]
    assert 0.03 < np.mean(np.array(p) < 0.05) < 0.08


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (([1, 2], [1]), {}, "same rows"),
        (([1, 2], [1, np.nan]), {}, "finite"),
        (([1], [1]), {}, "at least two queries"),
        (([1, 2], [1, 2]), {"query_ids": [1, 1]}, "at least two queries"),
        (([1, 2], [1, 2]), {"query_ids": [1]}, "query_ids has shape"),
        (([1, 2], [1, 2]), {"resamples": 0}, "resamples"),
        (([1, 2], [1, 2]), {"confidence": 95}, "confidence"),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments, settings, message):
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(*arguments, **settings)
