"""The mean of several models against numbers worked out by hand."""

import numpy as np
import pytest

from zhichun.core.tasks import TASKS, Prediction
from zhichun.score.ensemble import average

ESCI, GAIN, SUBSTITUTE = TASKS["esci"], TASKS["gain"], TASKS["substitute"]


def classifier(*probabilities, task=ESCI):
    return task.of_probabilities(np.asarray(probabilities, np.float64))


def regressor(*gains):
    return Prediction(GAIN, None, np.asarray(gains, np.float32))


def test_classifiers_are_averaged_by_their_probabilities():
    made = average([classifier([0.7, 0.3, 0, 0]), classifier([0.1, 0.1, 0.4, 0.4])], [0.5, 0.5])
    assert made.task == ESCI
    assert made.probabilities == pytest.approx(np.array([[0.4, 0.2, 0.2, 0.2]]))
    assert made.score == pytest.approx([0.4 + 0.02 + 0.002])
    assert made.labels == ["E"]


def test_regressors_are_averaged_by_their_gains():
    made = average([regressor(0.2, 1.0), regressor(0.6, 0.0)], [0.25, 0.75])
    assert (made.task, made.probabilities) == (GAIN, None)
    assert made.score == pytest.approx([0.5, 0.25])


def test_both_together_score_half_of_mean_expected_gain_plus_mean_gain():
    sure, unsure = classifier([1, 0, 0, 0]), classifier([0, 0, 0.5, 0.5])
    made = average([sure, unsure, regressor(0.3)], [0.25, 0.25, 0.5])
    assert made.task == ESCI
    assert made.score == pytest.approx([((1 + 0.005) / 2 + 0.3) / 2])
    assert made.probabilities == pytest.approx(np.array([[0.5, 0, 0.25, 0.25]])), "regressors have no say in them"


def test_substitutes_are_ranked_by_their_mean_probability():
    made = average([classifier([0.8, 0.2], task=SUBSTITUTE), classifier([0.4, 0.6], task=SUBSTITUTE)], [0.5, 0.5])
    assert made.score == pytest.approx([0.4])
    assert made.labels == ["other"]


@pytest.mark.parametrize("alone", [classifier([0.1, 0.2, 0.3, 0.4], [1 / 3, 1 / 3, 0, 1 / 3]), regressor(0.1, 0.7)])
@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_one_member_is_itself_bit_for_bit(alone, weight):
    made = average([alone], [weight])
    assert made.score.tobytes() == alone.score.tobytes()
    assert made.task == alone.task
    if alone.probabilities is not None:
        assert made.probabilities.tobytes() == alone.probabilities.tobytes()
