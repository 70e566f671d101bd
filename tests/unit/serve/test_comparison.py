"""The two orders of the same products, as the page compares them."""

import numpy as np

from zhichun.core.tasks import TASKS
from zhichun.serve.search_page import compare


def test_equal_scores_keep_the_order_of_the_first_stage():
    products = [{"product_id": str(place), "title": "x", "locale": "us"} for place in range(5)]
    prediction = TASKS["esci"].of_probabilities(np.full((5, 4), 0.25))
    comparison = compare(products, [None] * 5, prediction, {"1": "S", "9": "E"})
    assert [(row.first, row.second, row.moved) for row in comparison.rows] == [(n, n, 0) for n in range(1, 6)]
    assert [row.judged for row in comparison.rows] == [None, "S", None, None, None]
    assert comparison.ndcg() is None
    assert comparison.exact_in_first(10) is None
    assert comparison.exact_in_first(2) == (2, 2)
