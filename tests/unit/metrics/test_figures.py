"""The figures of a run, on six pairs of two queries that are worked out by hand."""

import json
import math

import numpy as np
import pytest

from zhichun.core.tasks import TASKS
from zhichun.metrics.figures import by_list_size, measure

E, S, C, I = range(4)  # noqa: E741
LABELS = np.array([E, S, C, I, E, E])
QUERIES = np.array([1, 1, 1, 1, 2, 2])
LOCALES = np.array(["us", "us", "us", "us", "jp", "jp"])
PROBABILITIES = [
    [0.6, 0.2, 0.1, 0.1],  # E as E
    [0.7, 0.1, 0.1, 0.1],  # S as E, and ranked above the one before
    [0.1, 0.1, 0.6, 0.2],  # C as C
    [0.1, 0.6, 0.1, 0.2],  # I as S
    [0.4, 0.3, 0.2, 0.1],  # E as E
    [0.2, 0.6, 0.1, 0.1],  # E as S
]


def four_classes():
    return TASKS["esci"].predict(np.log(np.array(PROBABILITIES, np.float32)))


@pytest.fixture(scope="module")
def measured():
    return measure(four_classes(), LABELS, QUERIES, LOCALES)


def test_classification(measured):
    assert (measured["pairs"], measured["queries"]) == (6, 2)
    assert measured["micro_f1"] == pytest.approx(3 / 6)
    # E: 2 right of 3 predicted and 3 judged; C: 1 of 1 and 1; S and I: none right.
    f1 = {"E": 2 / 3, "S": 0, "C": 1, "I": 0}
    assert {name: measured[f"f1.{name}"] for name in f1} == {name: pytest.approx(value) for name, value in f1.items()}
    assert measured["macro_f1"] == pytest.approx(sum(f1.values()) / 4)
    assert measured["confusion"] == [[2, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0]]
    right = [0.6, 0.1, 0.6, 0.2, 0.4, 0.2]
    assert measured["log_loss"] == pytest.approx(-sum(map(math.log, right)) / 6, rel=1e-5)


def test_always_exact(measured):
    always = measured["always_exact"]
    assert always["micro_f1"] == pytest.approx(3 / 6)
    assert always["f1.E"] == pytest.approx(2 * 3 / (3 + 6))
    assert always["macro_f1"] == pytest.approx(always["f1.E"] / 4)


def test_ranking_by_expected_gain(measured):
    # The first query is ranked S, E, I, C (by 0.711, 0.621, 0.161, 0.116); the second has nothing but E.
    discount = [1 / math.log2(rank + 1) for rank in (1, 2, 3, 4)]
    ideal = discount[0] + 0.1 * discount[1] + 0.01 * discount[2]
    first = (0.1 * discount[0] + discount[1] + 0.01 * discount[3]) / ideal
    assert measured["ndcg"] == pytest.approx((first + 1) / 2)
    assert measured["ndcg@10"] == measured["ndcg"]
    swapped = (0.01 * discount[0] + discount[1] + 0.1 * discount[3]) / ideal
    assert measured["ndcg.official-script"] == pytest.approx((swapped + 1) / 2)
    assert measured["mrr"] == pytest.approx((1 / 2 + 1) / 2)
    assert measured["precision@1"] == pytest.approx((0 + 1) / 2)


def test_a_random_order_gets_the_mean_gain_at_every_rank(measured):
    discount = [1 / math.log2(rank + 1) for rank in (1, 2, 3, 4)]
    ideal = discount[0] + 0.1 * discount[1] + 0.01 * discount[2]
    first = 1.11 / 4 * sum(discount) / ideal
    assert measured["random_order"]["ndcg"] == pytest.approx((first + 1) / 2)


def test_substitutes_from_four_classes(measured):
    # P(S) is above one half for the fourth and the last pair; only the second is a substitute.
    assert measured["substitute"]["micro_f1"] == pytest.approx(3 / 6)
    assert measured["substitute"]["f1.S"] == 0
    assert measured["substitute"]["macro_f1"] == pytest.approx((2 * 3 / (5 + 4)) / 2)


def test_each_locale_has_the_figures_of_its_own_pairs(measured):
    assert set(measured["by_locale"]) == {"us", "jp"}
    alone = measure(four_classes(), LABELS, QUERIES)
    assert "by_locale" not in alone
    for locale, figures in measured["by_locale"].items():
        rows = locale == LOCALES
        logits = np.log(np.array(PROBABILITIES, np.float32))[rows]
        assert figures == measure(TASKS["esci"].predict(logits), LABELS[rows], QUERIES[rows])
        assert set(figures) == set(alone)


def test_all_of_it_can_be_written_as_json(measured):
    assert json.loads(json.dumps(measured, allow_nan=False)) == measured


def test_a_substitute_model_is_measured_by_its_two_classes_and_not_as_a_ranking():
    prediction = TASKS["substitute"].predict(np.array([[0, 1], [0, 1], [1, 0], [1, 0], [1, 0], [1, 0]], np.float32))
    measured = measure(prediction, LABELS, QUERIES, LOCALES)
    assert measured["micro_f1"] == pytest.approx(5 / 6)
    assert measured["f1.S"] == pytest.approx(2 / 3)
    assert measured["f1.other"] == pytest.approx(2 * 4 / (4 + 5))
    assert measured["always_other"]["micro_f1"] == pytest.approx(5 / 6)
    assert measured["confusion"] == [[4, 1], [0, 1]]
    assert not {name for name in measured if name.startswith(("ndcg", "mrr", "random", "substitute", "f1.E"))}


def test_a_regressor_is_measured_as_a_ranking_only():
    prediction = TASKS["gain"].predict(np.array([[3], [2], [1], [0], [0], [0]], np.float32))
    measured = measure(prediction, LABELS, QUERIES, LOCALES)
    assert measured["ndcg"] == pytest.approx(1)
    assert measured["random_order"]["ndcg"] < 1
    assert not {name for name in measured if name.startswith(("micro", "macro", "f1", "confusion", "log", "always"))}
    assert set(measured["by_locale"]["jp"]) == set(measured) - {"by_locale"}


def test_lists_and_singletons_are_measured_apart():
    queries = np.array([1, 1, 1, 1, 2, 3])
    found = measure(four_classes(), LABELS, queries, by_list=True)["by_list"]
    assert {name: part["pairs"] for name, part in found.items()} == {"lists": 4, "singletons": 2}
    assert found["singletons"]["micro_f1"] == 0.5
    assert "singletons" not in measure(four_classes(), LABELS, QUERIES, by_list=True)["by_list"]


def test_what_the_size_of_a_list_alone_tells():
    """Known: alone, 3 E and 1 I; of two, 3 I and 1 E. A list of four is nearest to those of two."""
    labels, queries = np.array([E, E, E, I, I, I, I, E]), np.array([1, 2, 3, 4, 5, 5, 6, 6])
    asked, of = np.array([E, I, I, E, I]), np.array([1, 2, 2, 2, 2])
    found = by_list_size(TASKS["esci"], (labels, queries), asked, of)
    assert found["micro_f1"] == 4 / 5
    # E alone 3/4; in the list of four I 3/4 twice, E 1/4, I 3/4.
    assert found["log_loss"] == pytest.approx(-(4 * math.log(0.75) + math.log(0.25)) / 5)
    gain = by_list_size(TASKS["gain"], (labels, queries), asked, of)
    assert gain["ndcg"] == pytest.approx(found["ndcg"]), "all of a list are tied"


def test_where_every_query_has_one_product_there_is_no_figure_of_ranking():
    ids = np.arange(6)
    alone = measure(four_classes(), LABELS, ids, LOCALES, by_list=True)
    assert alone["micro_f1"] == 0.5
    assert not {"ndcg", "ndcg@10", "mrr", "precision@1", "random_order"} & {*alone, *alone["by_list"]["singletons"]}
    ids[1] = ids[0]
    two = measure(four_classes(), LABELS, ids, LOCALES, by_list=True)
    assert {"ndcg", "mrr", "random_order"} <= {*two}
    assert ("ndcg" in two["by_locale"]["us"], "ndcg" in two["by_locale"]["jp"]) == (True, False)
    assert ("ndcg" in two["by_list"]["lists"], "ndcg" in two["by_list"]["singletons"]) == (True, False)
