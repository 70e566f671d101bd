"""BM25: the figures of an example worked out by hand, ties, and what cannot be found."""

import math

import pytest

from zhichun.text.bm25 import PASSES, Documents, FirstStage


def index(*texts, progress=lambda done, total: None):
    documents = Documents()
    documents.add(texts[:1])
    documents.add(texts[1:])
    return FirstStage(documents, progress)


def test_scores_are_those_of_the_equation():
    # Three documents of 2, 3 and 1 terms, 2 in the mean; "red" is in two of them, "hat" in one.
    stage = index("red shoe", "red red hat", "lamp")
    red, hat = math.log(1 + 1.5 / 2.5), math.log(1 + 2.5 / 1.5)
    k1, b = 1.5, 0.75
    length = {2: k1, 3: k1 * (1 - b + b * 1.5)}
    expected = [(1, red * 2 / (2 + length[3]) + hat / (1 + length[3])), (0, red / (1 + length[2]))]
    found = stage.search("RED hat!", 10)
    assert [place for place, _ in found] == [1, 0]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], rel=1e-6)
    assert stage.search("RED hat!", 1) == found[:1]
    assert stage.scores("RED hat!").tolist() == [found[1][1], found[0][1], 0]
    assert stage.scores("sofa").tolist() == [0, 0, 0]


def test_equal_scores_stay_in_the_order_of_the_catalogue():
    stage = index(*["same words"] * 500, "other")
    assert [place for place, _ in stage.search("words", 7)] == list(range(7))
    assert [place for place, _ in stage.search("words", 1000)] == list(range(500))


@pytest.mark.parametrize("query", ["", "!!!", "shoe", "赤"])
def test_a_query_without_a_known_term_finds_nothing(query):
    assert index("red hat", "lamp").search(query, 10) == []


def test_documents_without_terms_are_never_found_and_an_index_of_nothing_else_finds_nothing():
    assert [place for place, _ in index("", "lamp", "…").search("lamp", 10)] == [1]
    assert index("", "…").search("lamp", 10) == []
    assert FirstStage(Documents()).search("lamp", 10) == []


def test_the_index_says_how_far_it_is():
    said = []
    index(*["a lamp"] * 10_000, progress=lambda done, total: said.append((done, total)))
    assert said == sorted(said)
    assert said[0] == (0, PASSES * 10_000)
    assert len(said) == 2 * PASSES
