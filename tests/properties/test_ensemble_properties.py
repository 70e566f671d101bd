"""The order of an ensemble's members never changes a score, whatever they say and weigh."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from zhichun.core.tasks import TASKS
from zhichun.score.ensemble import average


@st.composite
def ensembles(draw):
    """Members that are sure or unsure, agree or not, tie exactly or nearly, and weigh anything."""
    seed, members, pairs = draw(st.integers(0, 2**32)), draw(st.integers(1, 7)), draw(st.integers(1, 40))
    task = TASKS[draw(st.sampled_from(["esci", "substitute"]))]
    random = np.random.default_rng(seed)
    logits = random.normal(size=(members, pairs, task.outputs)) * draw(st.sampled_from([0.0, 1e-6, 0.5, 3.0, 30.0]))
    logits += draw(st.sampled_from([0.0, 1.0, 6.0])) * random.normal(size=(1, pairs, task.outputs))
    if draw(st.booleans()):
        logits = np.round(logits)
    weights = draw(st.lists(st.floats(1e-3, 1), min_size=members, max_size=members))
    if draw(st.booleans()):
        weights = [1.0] * members
    return [task.predict(member.astype(np.float32)) for member in logits], [w / sum(weights) for w in weights]


@settings(max_examples=50, deadline=None)
@given(ensembles(), st.randoms(use_true_random=False))
def test_another_order_moves_no_score_by_more_than_rounding(ensemble, random):
    predictions, weights = ensemble
    order = random.sample(range(len(weights)), len(weights))
    one, other = (
        average(predictions, weights),
        average([predictions[at] for at in order], [weights[at] for at in order]),
    )
    assert np.abs(one.score - other.score).max() < 1e-6
