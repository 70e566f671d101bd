"""Agreement by hand, against scikit-learn's kappa and the package krippendorff, and the ceiling of simulated raters."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhichun.metrics import MacroF1, MicroF1, nDCG
from zhichun.metrics.agreement import Ratings, agreement, alpha, human_level, kappa, majority
from zhichun.metrics.ceiling import RaterModel, best_possible, ceiling
from zhichun.metrics.significance import Interval

PRIOR = np.array([0.4, 0.1, 0.1, 0.4])
# A rater says any of the four at random in a quarter of all cases.
CONFUSION = np.eye(4) * 0.75 + 0.25 / 4
METRICS = (nDCG(), MicroF1(), MacroF1())


def simulated(pairs=400, raters=3, queries=40, seed=0, gaps=0.0):
    rng = np.random.default_rng(seed)
    truth = rng.choice(4, size=pairs, p=PRIOR)
    noisy = np.where(rng.random((pairs, raters)) < 0.25, rng.integers(4, size=(pairs, raters)), truth[:, None])
    codes = np.where(rng.random((pairs, raters)) < gaps, -1, noisy)
    return Ratings(codes, np.sort(rng.integers(queries, size=pairs)))


def test_kappa_by_hand():
    confusion = np.array([[20.0, 5.0], [10.0, 15.0]])
    assert kappa(confusion) == pytest.approx(0.4)  # 0.7 agree, 0.5 by chance
    assert kappa(np.diag([3.0, 4.0, 5.0])) == 1
    three = np.array([[2.0, 0, 1], [0, 2, 0], [0, 0, 2]])
    # Squares: 4 of one pair; by chance 7 pairs of (3, 2, 2) against (2, 2, 3).
    by_chance = (3 * 2 + 3 * 3 * 4 + 2 * 2 + 2 * 3 + 2 * 2 * 4 + 2 * 2) / 7
    assert kappa(three, quadratic=True) == pytest.approx(1 - 4 / by_chance)
    assert math.isnan(kappa(np.diag([5.0, 0.0])))
    np.testing.assert_allclose(kappa(np.stack([confusion, 2 * confusion])), [0.4, 0.4])


def test_alpha_by_hand():
    # Two raters, pairs (0, 0), (1, 1), (0, 1): 6 ratings; 2 of 6 disagree, 3 * 3 * 2 / (6 * 5) of them by chance.
    coincidence = np.array([[2.0, 1.0], [1.0, 2.0]])
    assert alpha(coincidence) == pytest.approx(1 - (2 / 6) / (18 / 30))


@given(st.integers(0, 2**32), st.integers(2, 4), st.sampled_from([0.0, 0.3]))
@settings(max_examples=25, deadline=None)
def test_figures_are_those_of_other_libraries(seed, raters, gaps):
    krippendorff, sklearn = pytest.importorskip("krippendorff"), pytest.importorskip("sklearn.metrics")
    ratings = simulated(pairs=60, raters=raters, seed=seed, gaps=gaps)
    found = agreement(ratings, draws=2)
    table = np.where(ratings.codes_PJ < 0, np.nan, ratings.codes_PJ).T
    for name, level in (("alpha", "nominal"), ("ordinal_alpha", "ordinal")):
        theirs = krippendorff.alpha(table, level_of_measurement=level, value_domain=[0, 1, 2, 3])
        assert found[name].value == pytest.approx(theirs, abs=1e-9)
    both = (ratings.codes_PJ[:, :2] >= 0).all(axis=1)
    one, other = ratings.codes_PJ[both, 0], ratings.codes_PJ[both, 1]
    for name, weights in (("kappa.0-1", None), ("quadratic_kappa.0-1", "quadratic")):
        theirs = sklearn.cohen_kappa_score(one, other, labels=[0, 1, 2, 3], weights=weights)
        assert found[name].value == pytest.approx(theirs, abs=1e-9)


def test_the_interval_holds_the_figure_and_draws_whole_queries():
    found = agreement(simulated(), draws=300)
    assert all(each.low <= each.value <= each.high for each in found.values())
    alone = agreement(simulated(queries=1), draws=20)  # every draw would be the same
    assert all(math.isnan(each.low) and math.isnan(each.high) and each.value < 1 for each in alone.values())


def test_what_is_defined_nowhere_has_no_interval_and_raters_who_share_nothing_no_kappa():
    nothing, some = Interval.of(np.array([np.nan, 1.0]), np.array([[np.nan, np.nan], [np.nan, 1.0]]))
    assert math.isnan(nothing.low)
    assert (some.low, some.high) == (1, 1)
    codes = np.array([[0, 0, -1], [3, 3, -1], [-1, 1, 1], [-1, 2, 1]])
    found = agreement(Ratings(codes, np.arange(4)), draws=10)
    assert math.isnan(found["kappa.0-2"].value)
    assert found["kappa"].value == pytest.approx((1 + 0) / 2)  # 0-1 agree; of 1-2 one in two does, as by chance
    assert human_level(Ratings(np.array([[0, 0, -1]]), np.zeros(1, int)), draws=2)[2] == {}


def test_a_crowd_has_no_kappa_of_each_two():
    assert set(agreement(simulated(raters=13), draws=2)) == {"unanimous", "alpha", "ordinal_alpha"}


def test_the_majority_is_the_least_relevant_of_several():
    assert majority(np.array([[0, 1, 1, 1], [0, 2, 1, 0], [1, 1, 0, 0]])).tolist() == [3, 1, 1]


def test_a_rater_is_measured_against_the_others_as_a_model_is():
    codes = np.array([[0, 0, 0], [3, 0, 0], [3, 3, 3], [0, 3, 3]])
    first, second, _ = human_level(Ratings(codes, np.array([0, 0, 1, 1])), METRICS, draws=10)
    assert first["micro_f1"].value == 0.5
    assert second["micro_f1"].value == 0.75  # of the second pair one says I, one E: their majority is the less relevant
    assert first["ndcg"].value == 0.5  # the first query's others say E of all, the second's I


def test_the_raters_that_made_ratings_are_found_again():
    sets, times = np.unique(simulated(pairs=20_000).counts_PK, axis=0, return_counts=True)
    found = RaterModel.fit(sets, np.stack([times, 2 * times]).astype(float))
    np.testing.assert_allclose(found.prior_SK, [PRIOR, PRIOR], atol=0.03)
    np.testing.assert_allclose(found.confusion_SKK[0], CONFUSION, atol=0.04)
    np.testing.assert_allclose(found.majority(3).sum(axis=2), 1)


def test_the_chance_of_a_majority_is_that_of_simulated_raters():
    rng = np.random.default_rng(0)
    ratings = (rng.random((200_000, 3, 1)) > np.cumsum(CONFUSION[2])).sum(axis=2)
    counts = np.stack([(ratings == grade).sum(axis=1) for grade in range(4)], axis=1)
    shares = np.bincount(majority(counts), minlength=4) / len(counts)
    np.testing.assert_allclose(RaterModel(PRIOR[None], CONFUSION[None]).majority(3)[0, 2], shares, atol=0.005)


def test_two_raters_leave_no_ceiling_as_many_models_of_them_fit():
    codes, queries = simulated().codes_PJ.copy(), simulated().query_P
    assert ceiling(Ratings(codes[:, :2], queries), draws=2) == {}
    codes[: len(codes) // 3, 2] = -1
    assert ceiling(Ratings(codes, queries), draws=2)


def test_raters_who_always_agree_leave_a_ceiling_of_one():
    ratings = simulated()
    agreed = Ratings(np.repeat(ratings.codes_PJ[:, :1], 3, axis=1), ratings.query_P)
    found = ceiling(agreed, METRICS, draws=10)
    assert min(found[metric.name].value for metric in METRICS) > 0.97


def test_the_model_that_knows_all_names_the_likeliest_label_and_ties_what_it_cannot_tell_apart():
    labels = RaterModel(PRIOR[None], CONFUSION[None]).majority(3)
    # Two queries with 50,000 pairs whose truth is known: E and I.
    pairs, truth, by_truth = np.full(2, 50_000), np.eye(4)[[0, 3]], np.repeat(labels, 2, axis=0)
    best = best_possible(np.arange(2), pairs, truth, by_truth, np.random.default_rng(0))
    assert set(best.predictions[best.query_ids == 0]) == {0}
    assert len(set(best.scores.tolist())) == 2
    assert MicroF1()(best) == pytest.approx((labels[0, 0, 0] + labels[0, 3, 3]) / 2, abs=0.005)


@pytest.mark.parametrize("raters", [3, 5])
def test_the_interval_of_the_ceiling_covers_the_truth(raters):
    # benchmarks/ceiling.py does 1,000 of these, with nDCG too.
    labels = RaterModel(PRIOR[None], CONFUSION[None]).majority(raters)[0]
    truth = PRIOR @ labels.max(axis=1)
    found = [
        ceiling(simulated(raters=raters, seed=seed), [MicroF1()], draws=40, seed=seed)["micro_f1"] for seed in range(20)
    ]
    assert sum(each.low <= truth <= each.high for each in found) >= 17
    assert np.mean([each.value for each in found]) == pytest.approx(truth, abs=0.015)


def test_one_query_leaves_no_interval_and_queries_of_one_product_no_figure_of_ranking():
    one = simulated(queries=1)
    for found in (*human_level(one, METRICS, draws=10), ceiling(one, METRICS, draws=10)):
        assert all(0 < each.value <= 1 and math.isnan(each.low) and math.isnan(each.high) for each in found.values())
    alone = Ratings(one.codes_PJ, np.arange(len(one.codes_PJ)))
    for found in (*human_level(alone, METRICS, draws=10), ceiling(alone, METRICS, draws=10)):
        assert list(found) == ["micro_f1", "macro_f1"]
        assert not any(math.isnan(each.low) for each in found.values())
