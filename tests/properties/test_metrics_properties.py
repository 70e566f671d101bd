"""What holds for every input: bounds, ties as expected values, and what must never change a score."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhichun.core.schema import GAINS, LABELS
from zhichun.metrics import MRR, ExpectedCalibrationError, Judged, MacroF1, MicroF1, Precision, nDCG

RANKING = (nDCG(), nDCG() @ 3, MRR(), MRR(("E", "S")) @ 2, Precision(), Precision() @ 2)
GAIN = [GAINS["esci"][label] for label in LABELS]


@st.composite
def judged_pairs(draw, missing=True, longest=30):
    """Pairs of a few queries; few different scores, so that ties are common."""
    score = st.integers(-5, 5).map(float)
    row = st.tuples(st.integers(1, 4), st.integers(0, 3), score | st.just(math.nan) if missing else score)
    queries, labels, scores = zip(*draw(st.lists(row, min_size=1, max_size=longest)), strict=True)
    return Judged(queries, labels, scores)


def value_in_order(metric, labels, all_labels):
    """The metric of one query whose documents come in just this order: the definition, read off rank by rank."""
    cut = metric.k or len(all_labels)
    top = labels[:cut]
    if isinstance(metric, nDCG):
        best = sorted((GAIN[label] for label in all_labels), reverse=True)[:cut]
        ideal = sum(gain / math.log2(rank + 1) for rank, gain in enumerate(best, 1))
        dcg = sum(GAIN[label] / math.log2(rank + 1) for rank, label in enumerate(top, 1))
        return dcg / ideal if ideal else 0
    hits = [LABELS[label] in metric.relevant for label in top]
    if isinstance(metric, MRR):
        return 1 / (hits.index(True) + 1) if any(hits) else 0
    return sum(hits) / (metric.k or max(len(top), 1))


@settings(deadline=None)
@given(judged_pairs(longest=6))
def test_a_tie_is_the_mean_over_all_orders_that_the_scores_allow(pairs):
    one = Judged(np.ones(len(pairs.labels), int), pairs.labels, pairs.scores)
    returned = np.flatnonzero(~np.isnan(one.scores))
    orders = [
        order for order in itertools.permutations(returned) if all(np.diff(one.scores[list(order)]) <= 0)
    ]  # of nothing there is one order, the empty one
    for metric in RANKING:
        values = [value_in_order(metric, one.labels[list(order)].tolist(), one.labels.tolist()) for order in orders]
        assert metric(one) == pytest.approx(np.mean(values), abs=1e-12)


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 5), st.none() | st.integers(1, 70))
def test_reciprocal_rank_of_a_long_tie_is_the_hypergeometric_sum(size, relevant, before, k):
    relevant = min(size, relevant)
    labels = [3] * before + [0] * relevant + [3] * (size - relevant)
    scores = list(range(100, 100 - before, -1)) + [0] * size
    expected = sum(
        math.comb(size - place, relevant - 1) / math.comb(size, relevant) / (before + place)
        for place in range(1, size - relevant + 2)
        if k is None or before + place <= k
    )
    assert MRR(k=k)(Judged([1] * (before + size), labels, scores)) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(judged_pairs(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing_to_the_last_bit(pairs, random):
    order = list(range(len(pairs.labels)))
    random.shuffle(order)
    for metric in RANKING:
        assert metric(pairs.select(order)) == metric(pairs)


@settings(deadline=None)
@given(judged_pairs())
def test_only_the_order_of_the_scores_matters(pairs):
    for change in (
        lambda scores: scores + 7,
        lambda scores: 3 * scores,
        np.exp,
        np.cbrt,
        lambda s: s.astype(np.float32),
    ):
        changed = Judged(pairs.query_ids, pairs.labels, change(pairs.scores))
        for metric in RANKING:
            assert metric(changed) == metric(pairs)


@settings(deadline=None)
@given(judged_pairs())
def test_values_lie_between_0_and_1_and_there_is_one_per_query(pairs):
    for metric in RANKING:
        queries, values = metric.per_query(pairs)
        assert queries.tolist() == sorted(set(pairs.query_ids.tolist()))
        assert ((values >= 0) & (values <= 1)).all()
        assert metric(pairs) == pytest.approx(values.mean())


@settings(deadline=None)
@given(judged_pairs(missing=False))
def test_the_best_order_is_1_and_no_order_is_better_than_it_or_worse_than_its_reverse(pairs):
    best = Judged(pairs.query_ids, pairs.labels, -pairs.labels)
    worst = Judged(pairs.query_ids, pairs.labels, pairs.labels)
    with_gain = pairs.label_counts[:, :3].sum(axis=1) > 0
    for metric in (nDCG(), nDCG() @ 3):
        highest, value, lowest = (metric.per_query(each)[1] for each in (best, pairs, worst))
        assert highest == pytest.approx(with_gain.astype(float), abs=1e-12)
        assert (value <= highest + 1e-12).all()
        assert (value >= lowest - 1e-12).all()


@settings(deadline=None)
@given(judged_pairs())
def test_a_query_is_measured_by_itself(pairs):
    for metric in RANKING:
        for query, value in zip(*metric.per_query(pairs), strict=True):
            assert metric(pairs.select(pairs.query_ids == query)) == pytest.approx(value, abs=1e-12)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_f1_lies_between_0_and_1_and_is_1_only_when_all_is_right(rows):
    labels, predictions = zip(*rows, strict=True)
    pairs = Judged(range(len(rows)), labels, predictions=predictions)
    assert 0 <= MacroF1()(pairs) <= 1
    assert (MicroF1()(pairs) == 1) == (labels == predictions)
    swapped = Judged(range(len(rows)), predictions, predictions=labels)
    assert MacroF1()(swapped) == pytest.approx(MacroF1()(pairs))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=30))
def test_calibration_errors_are_bounded_and_nothing_for_a_sure_and_right_model(rows):
    labels, sure = (np.array(column) for column in zip(*rows, strict=True))
    pairs = Judged(range(len(rows)), labels, probabilities=np.stack([sure, 1 - sure], axis=1), classes=("yes", "no"))
    right = Judged(range(len(rows)), labels, probabilities=np.eye(2)[labels], classes=("yes", "no"))
    assert 0 <= ExpectedCalibrationError()(pairs) <= 1
    assert ExpectedCalibrationError()(right) == 0
