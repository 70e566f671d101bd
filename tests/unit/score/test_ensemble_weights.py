"""Weights: the paper's where nothing is fitted, and otherwise what holds on pairs that no member was trained on."""

import numpy as np
import pytest

from zhichun.core.tasks import TASKS, Prediction, gain_vector
from zhichun.score.ensemble_weights import (
    HeldOutByAll,
    Judgements,
    against_best,
    difference,
    equal_weights,
    gain_weights,
    likelihood_weights,
    onto_simplex,
)

ESCI, GAIN = TASKS["esci"], TASKS["gain"]
PAIRS = 2000


@pytest.fixture
def judgements():
    random = np.random.default_rng(0)
    return Judgements(random.choice(4, PAIRS, p=[0.6, 0.2, 0.05, 0.15]), np.arange(PAIRS) // 10)


def classifier(judgements, right, seed, sure=0.9):
    """Knows the label of a share of the pairs, draws one for the others, and is equally sure of all."""
    random = np.random.default_rng(seed)
    known = random.random(PAIRS) < right
    said = np.where(known, judgements.labels_P, random.integers(4, size=PAIRS))
    return ESCI.of_probabilities(np.where(np.arange(4) == said[:, None], sure, (1 - sure) / 3))


def regressor(judgements, noise, seed):
    gains = gain_vector()[judgements.labels_P] + noise * np.random.default_rng(seed).normal(size=PAIRS)
    return Prediction(GAIN, None, np.clip(gains, 0, 1).astype(np.float32))


def test_equal_weights_give_both_kinds_the_same():
    assert equal_weights([True, True, True]) == pytest.approx([1 / 3] * 3)
    assert equal_weights([True, False, False]) == pytest.approx([1 / 2, 1 / 4, 1 / 4])
    assert equal_weights([False, True, False, False, True, True]) == pytest.approx([1 / 6] * 6)


def test_the_nearest_weights_are_found():
    assert onto_simplex(np.array([0.5, 0.5])) == pytest.approx([0.5, 0.5])
    assert onto_simplex(np.array([1.0, 0.6, -3.0])) == pytest.approx([0.7, 0.3, 0])


def test_the_likelihood_of_a_mixture_is_at_its_top():
    # Derivative of 3 log(0.8 w + 0.2 (1 - w)) + log(0.2 w + 0.8 (1 - w)): 1.8 / (0.2 + 0.6 w) = 0.6 / (0.8 - 0.6 w)
    truth = np.array([[0.8, 0.2]] * 3 + [[0.2, 0.8]])
    assert likelihood_weights(truth) == pytest.approx([11 / 12, 1 / 12], abs=1e-4)


def test_the_nearest_mean_gain_is_found():
    given = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert gain_weights(given, given @ [0.3, 0.7]) == pytest.approx([0.3, 0.7], abs=1e-6)
    assert gain_weights(given, np.array([1.0, 0.0, 1.0])).tolist() == [1, 0], "outside, the nearest is at the edge"


@pytest.mark.parametrize("kinds", ["classifiers", "both", "regressors"])
def test_a_good_member_among_bad_ones_is_recovered(judgements, kinds):
    bad = [classifier(judgements, 0.1, seed) for seed in (1, 2)] if kinds != "regressors" else []
    bad += [regressor(judgements, 5.0, seed) for seed in (3, 4)] if kinds != "classifiers" else []
    good = classifier(judgements, 0.9, 5) if kinds != "regressors" else regressor(judgements, 0.1, 5)
    held_out = HeldOutByAll((*bad, good), judgements)
    weights = held_out.fit()
    assert weights.sum() == pytest.approx(1)
    assert weights.min() >= 0
    assert weights[-1] > 0.8
    plain, fitted = held_out.combine(np.full(len(weights), 1 / len(weights))), held_out.cross_fitted()
    gained = difference(fitted, plain, judgements)["ndcg"]
    assert gained["low"] > 0
    names = [*map(str, range(len(bad))), "good"]
    beside = against_best(fitted, dict(zip(names, held_out.predictions, strict=True)), judgements)
    assert beside["ndcg"]["member"] == "good"
    alone = {"regressor": regressor(judgements, 0.1, 3)}  # beside the trees of a stack, which know labels
    assert "micro_f1" not in against_best(fitted, alone, judgements)
    assert against_best(fitted, alone, judgements)["ndcg"]["member"] == "regressor"


def test_what_weights_gain_is_measured_on_queries_that_they_were_not_fitted_to(judgements):
    """Each half is combined by weights of the other: so a member that is right in one half only counts in the other."""
    in_first = judgements.halves()
    right, wrong = classifier(judgements, 0.99, 1).probabilities, classifier(judgements, 0.01, 2).probabilities
    sides = [np.where((in_first == side)[:, None], right, wrong).astype(np.float64) for side in (True, False)]
    held_out = HeldOutByAll(tuple(ESCI.of_probabilities(side) for side in sides), judgements)
    fitted = held_out.cross_fitted()
    assert difference(fitted, held_out.combine(np.array([0.5, 0.5])), judgements)["micro_f1"]["high"] < 0


def test_an_extreme_half_without_classifiers_leaves_no_probabilities(judgements):
    held_out = HeldOutByAll((classifier(judgements, 0.1, 1), regressor(judgements, 0.0, 2)), judgements)
    assert held_out.fit().tolist() == [0, 1]
    made = held_out.cross_fitted()
    assert (made.task, made.probabilities) == (GAIN, None)
    assert made.score.tobytes() == held_out.predictions[1].score.tobytes()
