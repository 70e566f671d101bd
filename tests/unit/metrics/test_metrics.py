"""Every metric against numbers worked out by hand, and every refusal."""

import math

import numpy as np
import pytest

from zhichun.core.errors import UserError
from zhichun.metrics import (
    F1,
    MRR,
    ExpectedCalibrationError,
    Judged,
    LogLoss,
    MacroF1,
    MicroF1,
    Precision,
    class_scores,
    confusion,
    label_codes,
    nDCG,
)

NAN = math.nan
LOG3 = math.log2(3)
E, S, C, I = range(4)  # noqa: E741


def judged(labels, scores=None, queries=None, **more):
    return Judged(np.zeros(len(labels), int) if queries is None else queries, label_codes(list(labels)), scores, **more)


def classified(labels, predictions, **more):
    return judged(labels, predictions=label_codes(list(predictions)), **more)


def test_ndcg_is_the_mean_over_queries_of_discounted_gain_over_the_best():
    pairs = judged("EIS", [0.2, 0.9, 0.5], queries=[7, 7, 3])
    queries, values = nDCG().per_query(pairs)
    assert queries.tolist() == [3, 7]
    assert values == pytest.approx([1, 1 / LOG3])
    assert nDCG()(pairs) == pytest.approx((1 + 1 / LOG3) / 2)


def test_ndcg_cut_ignores_later_ranks_in_both_orders():
    pairs = judged("SEE", [3, 2, 1])
    assert (nDCG() @ 1)(pairs) == pytest.approx(0.1)
    assert (nDCG() @ 2)(pairs) == pytest.approx((0.1 + 1 / LOG3) / (1 + 1 / LOG3))
    assert (nDCG() @ 3)(pairs) == (nDCG() @ 50)(pairs) == nDCG()(pairs)


def test_the_official_script_swaps_substitute_and_complement():
    complement_first = judged("SC", [1, 2])
    assert (nDCG("esci") @ 1)(complement_first) == pytest.approx(0.1)
    assert (nDCG("official-script") @ 1)(complement_first) == 1


def test_own_gains_decide():
    assert (nDCG({"E": 2, "S": 1, "C": 0, "I": 0}) @ 1)(judged("ES", [1, 2])) == 0.5


def test_a_query_without_gain_counts_as_zero():
    assert nDCG()(judged("IIE", [1, 2, 3], queries=[1, 1, 2])) == 0.5


def test_reciprocal_rank_and_precision_by_hand():
    pairs = judged("IESE" + "II", [4, 3, 2, 1, 1, 2], queries=list("aaaabb"))
    assert MRR()(pairs) == pytest.approx((1 / 2 + 0) / 2)
    assert (MRR() @ 1)(pairs) == 0
    assert (MRR(relevant=("E", "S")) @ 2).per_query(pairs)[1].tolist() == [0.5, 0]
    assert (Precision() @ 2)(pairs) == pytest.approx((1 / 2 + 0) / 2)
    assert (Precision(relevant=("E", "S")) @ 5).per_query(pairs)[1].tolist() == [3 / 5, 0]
    assert Precision().per_query(pairs)[1].tolist() == [2 / 4, 0]


def test_tied_documents_get_the_expected_value_over_their_orders():
    pairs = judged("EII", [1, 1, 1])
    assert nDCG()(pairs) == pytest.approx((1 + 1 / LOG3 + 1 / 2) / 3)
    assert MRR()(pairs) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert (Precision() @ 1)(pairs) == pytest.approx(1 / 3)


def test_scores_that_differ_in_the_last_bit_are_no_tie():
    assert MRR()(judged("EI", [1, np.nextafter(1, 2)])) == 1 / 2


def test_rounding_does_not_lift_a_perfect_ranking_above_1():
    assert nDCG()(judged("SSS", [1, 1, 1])) == 1


def test_a_random_order_is_one_big_tie():
    pairs = judged("EII", [3, 2, 1])
    assert nDCG()(pairs.in_random_order()) == pytest.approx((1 + 1 / LOG3 + 1 / 2) / 3)


def test_what_was_not_returned_is_unranked_but_counts_in_the_ideal():
    pairs = judged("EES", [1, NAN, 2])
    assert nDCG()(pairs) == pytest.approx((0.1 + 1 / LOG3) / (1 + 1 / LOG3 + 0.1 / 2))
    assert (Precision() @ 5)(pairs) == pytest.approx(1 / 5)
    assert Precision()(pairs) == 1 / 2
    assert MRR()(pairs) == 1 / 2


@pytest.mark.parametrize("metric", [nDCG(), nDCG() @ 1, MRR(), Precision(), Precision() @ 1])
def test_a_query_that_was_not_returned_counts_as_zero(metric):
    assert metric.per_query(judged("EEE", [NAN, 1, NAN], queries=[5, 6, 5]))[1].tolist() == [0, 1]
    assert metric(judged("E", [NAN])) == 0


def test_infinite_scores_rank_first_and_last_and_tie_with_their_like():
    assert nDCG()(judged("EIS", [math.inf, -math.inf, 0])) == 1
    assert MRR()(judged("EI", [math.inf, math.inf])) == pytest.approx(3 / 4)


def test_an_unjudged_document_takes_a_place_and_gains_nothing():
    pairs = Judged([1, 1], [-1, E], scores=[2, 1])
    assert nDCG()(pairs) == pytest.approx(1 / LOG3)
    assert MRR()(pairs) == (Precision() @ 2)(pairs) == 1 / 2
    with pytest.raises(ValueError, match="a judgement for every pair"):
        MicroF1()(pairs.always("E"))


def test_what_was_not_returned_counts_and_what_was_not_judged_takes_a_place():
    pairs = Judged(["q1", "q1", "q2", "q1"], [E, S, E, -1], scores=[NAN, 1, NAN, 2])
    assert MRR(relevant=("S",)).per_query(pairs)[1].tolist() == [1 / 2, 0]


def test_classification_by_hand():
    pairs = classified("EEESC", "EESEE")
    expected = np.zeros((4, 4), int)
    expected[E, E], expected[E, S], expected[S, E], expected[C, E] = 2, 1, 1, 1
    np.testing.assert_array_equal(confusion(pairs), expected)
    scores = class_scores(confusion(pairs))
    assert scores.precision.tolist() == [2 / 4, 0, 0, 0]
    assert scores.recall.tolist() == [2 / 3, 0, 0, 0]
    assert scores.support.tolist() == [3, 1, 1, 0]
    assert MicroF1()(pairs) == 2 / 5
    assert F1("E")(pairs) == pytest.approx(4 / 7)
    assert F1("I")(pairs) == 0
    assert MacroF1()(pairs) == pytest.approx(1 / 7)


def test_always_one_label_is_right_as_often_as_it_is_true():
    assert MicroF1()(judged("EESI").always("E")) == 1 / 2


def test_two_classes_of_another_task():
    pairs = Judged([1, 1, 2], [0, 1, 1], predictions=[0, 1, 0], classes=("substitute", "other"))
    assert F1("substitute")(pairs) == F1("other")(pairs) == pytest.approx(2 / 3)


def test_calibration_by_hand():
    pairs = Judged([1, 2], [0, 1], probabilities=[[0.9, 0.1], [0.6, 0.4]], classes=("yes", "no"))
    assert ExpectedCalibrationError(bins=10)(pairs) == pytest.approx((0.1 + 0.6) / 2)
    assert ExpectedCalibrationError(bins=1)(pairs) == pytest.approx(0.75 - 0.5)
    assert LogLoss()(pairs) == pytest.approx(-(math.log(0.9) + math.log(0.4)) / 2)


def test_a_probability_on_the_edge_of_two_bins_belongs_to_the_lower():
    pairs = Judged([1, 2], [0, 1], probabilities=[[0.5, 0.5], [0.9, 0.1]], classes=("yes", "no"))
    assert ExpectedCalibrationError(bins=2)(pairs) == pytest.approx((0.5 + 0.9) / 2)


def test_a_sure_and_wrong_answer_has_a_finite_log_loss():
    pairs = Judged([1], [1], probabilities=[[1.0, 0.0]], classes=("yes", "no"))
    assert LogLoss()(pairs) == pytest.approx(36.04, abs=0.01)


@pytest.mark.parametrize(
    ("metric", "text", "name"),
    [
        (nDCG(), "nDCG(gains='esci')", "ndcg"),
        (nDCG("official-script") @ 10, "nDCG(gains='official-script') @ 10", "ndcg.official-script@10"),
        (nDCG({"E": 3, "S": 0.5}), "nDCG(gains={'E': 3.0, 'S': 0.5})", "ndcg.E3-S0.5"),
        (MRR(("E", "S")), "MRR(relevant=('E', 'S'))", "mrr.ES"),
        (Precision() @ 5, "Precision(relevant=('E',)) @ 5", "precision@5"),
        (F1("E"), "F1(label='E')", "f1.E"),
        (MicroF1(), "MicroF1()", "micro_f1"),
        (MacroF1(), "MacroF1()", "macro_f1"),
        (ExpectedCalibrationError(bins=10), "ExpectedCalibrationError(bins=10)", "ece"),
        (LogLoss(), "LogLoss()", "log_loss"),
    ],
)
def test_a_metric_is_a_value_whose_repr_makes_it_again(metric, text, name):
    assert repr(metric) == text
    assert eval(text) == metric
    assert hash(eval(text)) == hash(metric)
    assert metric.name == name


def test_selected_pairs_keep_all_their_arrays():
    pairs = classified("EIS", "EES", scores=[1, 2, 3], probabilities=np.full((3, 4), 0.25))
    some = pairs.select(np.array([True, False, True]))
    assert some.labels.tolist() == some.predictions.tolist() == [E, S]
    assert some.scores.tolist() == [1, 3]
    assert some.probabilities.shape == (2, 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Judged([], []), "no judged pairs"),
        (lambda: label_codes(["E", "X"]), "Unknown label 'X' in row 2"),
        (lambda: label_codes(["e"]), "Possible: C, E, I, S"),
        (lambda: nDCG("esic"), "Did you mean 'esci'"),
        (lambda: nDCG({"E": -1.0}), "The gain of 'E' is -1.0"),
        (lambda: nDCG({"E": NAN}), "The gain of 'E' is nan"),
        (lambda: nDCG({"E": 1.0})(judged("ES", [1, 2])), "no gain for the label 'S'"),
        (lambda: nDCG() @ 0, "cut at rank 0"),
        (lambda: nDCG() @ 2.5, "cut at rank 2.5"),
        (lambda: MRR(relevant="E"), "'E' is not a tuple"),
        (lambda: MRR(relevant=()), r"\(\) is not a tuple"),
        (lambda: MRR(relevant=("Exact",))(judged("E", [1])), "no label 'Exact'"),
        (lambda: F1("X")(classified("E", "E")), "no label 'X'"),
        (lambda: ExpectedCalibrationError(bins=0), "bins=0: must be at least 1"),
        (lambda: Judged(np.array(["a", None], dtype=object), [0, 0]).queries, "some are missing"),
    ],
)
def test_what_a_user_got_wrong_is_said(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Judged([1], [0, 1]), "labels has shape"),
        (lambda: Judged([1], [0], scores=[1, 2]), "scores has shape"),
        (lambda: Judged([1], [0], probabilities=[0.5]), "probabilities has shape"),
        (lambda: Judged([1], [0], probabilities=[[0.5, 0.5, 0.5, 0.5]]), "add up to 1"),
        (lambda: Judged([1], [0], probabilities=[[NAN, 0, 0, 1]]), "add up to 1"),
        (lambda: Judged([1], [0], probabilities=[[-1, 2, 0, 0]]), "add up to 1"),
        (lambda: Judged([1], ["E"]), "labels must be indices"),
        (lambda: Judged([1], [4]), "labels must lie in -1..3"),
        (lambda: Judged([1], [0], predictions=[-1]), "predictions must lie in 0..3"),
        (lambda: Judged([1.5], [0]), "query_ids must be"),
        (lambda: Judged([[1]], [0]), "query_ids must be"),
        (lambda: nDCG()(judged("E")), "needs scores"),
        (lambda: MicroF1()(judged("E")), "needs predictions"),
        (lambda: MacroF1()(judged("E")), "needs predictions"),
        (lambda: LogLoss()(judged("E")), "needs probabilities"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
