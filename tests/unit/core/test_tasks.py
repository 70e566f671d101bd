"""The three tasks by hand: what is learnt, what is ranked by, what is answered."""

import math

import numpy as np
import pytest

from zhichun.core.tasks import TASKS, gain_vector

E, S, C, I = range(4)  # noqa: E741


def logits_of(*probabilities):
    return np.log(np.asarray(probabilities, np.float32))


def test_four_classes_are_ranked_by_expected_gain_and_answered_by_the_likeliest():
    task = TASKS["esci"]
    assert task.outputs == 4
    assert task.targets(np.array([E, I, S])).tolist() == [E, I, S]
    # What is likeliest and what ranks first need not agree: the second has less of E and more of everything else.
    prediction = task.predict(logits_of([0.4, 0.3, 0.2, 0.1], [0.3, 0.5, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25]))
    assert prediction.probabilities.tolist() == [
        pytest.approx(row, abs=1e-6) for row in ([0.4, 0.3, 0.2, 0.1], [0.3, 0.5, 0.1, 0.1], [0.25] * 4)
    ]
    assert prediction.score.tolist() == pytest.approx([0.4 + 0.03 + 0.002, 0.3 + 0.05 + 0.001, 0.25 * 1.11], abs=1e-6)
    assert prediction.labels[:2] == ["E", "S"]
    assert list(prediction.columns()) == ["p_E", "p_S", "p_C", "p_I", "label", "gain"]
    assert prediction.columns()["p_C"].tolist() == pytest.approx([0.2, 0.1, 0.25], abs=1e-6)


def test_substitutes_are_told_from_all_others():
    task = TASKS["substitute"]
    assert task.outputs == 2
    assert task.targets(np.array([E, S, C, I])).tolist() == [0, 1, 0, 0]
    prediction = task.predict(logits_of([0.7, 0.3], [0.2, 0.8]))
    assert prediction.labels == ["other", "S"]
    assert prediction.score.tolist() == pytest.approx([0.3, 0.8])
    assert list(prediction.columns()) == ["p_other", "p_S", "label"]


def test_a_regressor_gives_the_gain_through_a_sigmoid():
    task = TASKS["gain"]
    assert task.outputs == 1
    assert task.targets(np.array([E, S, C, I])).tolist() == pytest.approx([1, 0.1, 0.01, 0])
    prediction = task.predict(np.array([[0.0], [math.log(3)], [-math.log(9)]], np.float32))
    assert prediction.score.tolist() == pytest.approx([0.5, 0.75, 0.1])
    assert prediction.labels is None
    assert list(prediction.columns()) == ["gain"]


@pytest.mark.parametrize("name", TASKS)
def test_huge_logits_neither_overflow_nor_warn(name):
    task = TASKS[name]
    extreme = np.array([[1e4, -1e4, 0, 0], [-1e4, 1e4, 0, 0]], np.float32)[:, : task.outputs]
    prediction = task.predict(extreme)
    assert np.isfinite(prediction.score).all()
    assert prediction.score.min() >= 0
    assert prediction.score.max() <= 1


def test_a_very_small_gain_is_not_rounded_to_zero():
    assert TASKS["gain"].predict(np.array([[-50.0]], np.float32)).score[0] == pytest.approx(math.exp(-50), rel=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_no_pairs_at_all(name):
    prediction = TASKS[name].predict(np.zeros((0, TASKS[name].outputs), np.float32))
    assert [len(column) for column in prediction.columns().values()] == [0] * len(prediction.columns())


def test_the_script_of_the_dataset_swaps_substitute_and_complement():
    assert gain_vector().tolist() == pytest.approx([1, 0.1, 0.01, 0])
    assert gain_vector("official-script").tolist() == pytest.approx([1, 0.01, 0.1, 0])
