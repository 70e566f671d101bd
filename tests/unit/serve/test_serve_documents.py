"""Documents of requests: texts that are read as fields, texts that are not, and texts that were made to take time."""

import time

import pytest
import yaml

pytest.importorskip("fastapi")
from zhichun.serve.api.documents import fields_of
from zhichun.serve.api.requests import Document

TITLE = "Zapatillas: 'rojas' de niña\n\tpara correr " * 5
FIELDS = {"title": TITLE, "brand": "null", "color": "赤い", "bullets": "- a\n# b"}


@pytest.mark.parametrize("unicode", [False, True])
def test_the_yaml_of_a_product_is_its_fields(unicode):
    text = yaml.dump({**FIELDS, "description": None}, sort_keys=False, allow_unicode=unicode)
    assert fields_of(text) == FIELDS
    assert fields_of(f"---\n{text}") == FIELDS
    assert fields_of("title: Lamp") == {"title": "Lamp"}
    assert fields_of(Document(title="Lamp", brand=None, color=7)) == {"title": "Lamp", "color": "7"}


@pytest.mark.parametrize(
    "text",
    [
        "a lamp",
        "Title: a lamp",
        "title:a lamp",
        "title: a\nsize: 3",
        "title: a\ntitle: b",
        "title: [a, b]",
        "title: {a: b}",
        "title: &a x\nbrand: *a",
        "title: !!python/object/apply:os.getcwd []",
        "title: !!str a",
        "title: a: b",
        "title: 'a",
        "title: a\n---\ntitle: b",
        "title: a\n---\n[a]",
        "title: \x00",
        "",
    ],
)
def test_any_other_text_stays_a_text(text):
    assert fields_of(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "title: " + "[" * 99_000,
        "title: a\nbrand: " + "{a: " * 24_000,
        "title: a\n" + "a: b\n" * 19_000,
        "title: a\n---\n" + "[" * 99_000,
        "title: a\n? " + "- " * 49_000,
        "title: '" + "''" * 49_000,
    ],
)
def test_a_text_that_was_made_to_take_time_takes_none(text):
    began = time.perf_counter()
    fields_of(text)
    assert time.perf_counter() - began < 1
