"""Documents cut to a number of tokens."""

import pytest

pytest.importorskip("fastapi")
from zhichun.core import schema
from zhichun.score.scorer import load_scorer
from zhichun.serve.api.documents import cut_to_tokens

LONG = {"us": "red running shoes for men ", "es": "zapatillas de niña, rojas ", "jp": "赤いランニングシューズ"}


@pytest.fixture(scope="module")
def tokenizer(tiny_run):
    return load_scorer(tiny_run).tokenizer


def cut(tokenizer, most, **fields):
    columns = {name: [fields.get(name)] for name in schema.TEXT_COLUMNS}
    return {name: column[0] for name, column in cut_to_tokens(columns, most, tokenizer).items()}


@pytest.mark.parametrize("locale", LONG)
@pytest.mark.parametrize("most", [1, 2, 7, 30])
def test_the_first_tokens_of_a_long_text_are_those_of_the_whole(tokenizer, locale, most):
    text = LONG[locale] * 200
    whole = tokenizer.tokenizer.encode(text, add_special_tokens=False)
    assert cut(tokenizer, most, product_title=text)[schema.TITLE] == text[: whole.offsets[most - 1][1]]
    assert cut(tokenizer, 50, product_title="red")[schema.TITLE] == "red"


def test_fields_are_cut_in_the_order_in_which_they_are_read(tokenizer):
    first = cut(tokenizer, 3, product_title="red shoes")[schema.TITLE]
    fields = {"product_title": "red shoes", "product_brand": "Asa", "product_description": "long words " * 9}
    found = cut(tokenizer, 3, **fields)
    assert (found[schema.TITLE], found[schema.BRAND], found[schema.DESCRIPTION]) == (first, None, None)
    tokens = len(tokenizer.tokenizer.encode("red shoes", add_special_tokens=False).ids)
    found = cut(tokenizer, tokens + 1, **fields)
    assert found[schema.TITLE] == "red shoes"
    assert found[schema.BRAND] is not None
    assert found[schema.DESCRIPTION] is None


def test_the_rest_of_a_long_text_is_not_tokenised(tokenizer, monkeypatch):
    read, beginning = [], tokenizer.beginning
    monkeypatch.setattr(tokenizer, "beginning", lambda *given: read.append(beginning(*given)) or read[-1])
    cut(tokenizer, 4, product_title="word " * 20_000)
    assert sum(map(len, read)) < 200
