"""Documents cut to a number of tokens."""

import time

import pytest

pytest.importorskip("fastapi")
from zhichun.score.load import load_scorer
from zhichun.serve.api.cut import cut, first_tokens

LONG = {"us": "red running shoes for men ", "es": "zapatillas de niña, rojas ", "jp": "赤いランニングシューズ"}


@pytest.fixture(scope="module")
def scorer(tiny_run):
    return load_scorer(tiny_run)


@pytest.mark.parametrize("locale", LONG)
@pytest.mark.parametrize("most", [1, 2, 7, 30])
def test_the_first_tokens_of_a_long_text_are_those_of_the_whole(scorer, locale, most):
    tokenizer = scorer.tokenizer.tokenizer
    text = LONG[locale] * 200
    whole = tokenizer.encode(text, add_special_tokens=False)
    kept, tokens = first_tokens(text, most, tokenizer)
    assert tokens == most
    assert kept == text[: whole.offsets[most - 1][1]]
    assert first_tokens("red", 50, tokenizer)[0] == "red"
    assert first_tokens("red", 0, tokenizer) == (None, 0)


def test_fields_are_cut_in_the_order_in_which_they_are_read(scorer):
    product = {"description": "long words " * 9, "title": "red shoes", "product_brand": "Asa", "locale": "us"}
    (cut_product,) = cut(scorer, [product], 3)
    first, tokens = first_tokens("red shoes", 3, scorer.tokenizer.tokenizer)
    assert cut_product["title"] == first
    assert cut_product["description"] is None
    assert cut_product["locale"] == "us"
    assert tokens == 3
    assert cut(scorer, ["red shoes"], scorer.max_length) == ["red shoes"]


def test_the_rest_of_a_long_text_costs_nothing(scorer):
    began = time.perf_counter()
    cut(scorer, ["word " * 20_000] * 100, 4)
    assert time.perf_counter() - began < 2
