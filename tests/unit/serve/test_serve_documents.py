"""Documents of requests: texts, objects, YAML, ids, what cannot be read, and texts that were made to take time."""

from types import SimpleNamespace

import pyarrow as pa
import pytest
import yaml

pytest.importorskip("fastapi")
from zhichun.core import schema
from zhichun.serve.api import documents
from zhichun.serve.api.documents import read_documents, yaml_fields
from zhichun.serve.batcher import PairColumns
from zhichun.serve.catalogue_search import Catalogue
from zhichun.serve.limits import Refusal
from zhichun.serve.service import Service

TITLE = "Zapatillas: 'rojas' de niña\n\tpara correr " * 5
FIELDS = {"title": TITLE, "brand": "null", "color": "赤い", "bullets": "- a\n# b"}


def read(*given, locale=None, catalogue=None, most=1000, fields=None, own=()):
    return read_documents(["red"] * len(given), list(given), locale, "us", catalogue, most, fields, own)


def row(document, **options):
    """Give the texts of one document, without those that are missing."""
    columns = read(document, **options).products
    return {name.removeprefix("product_"): text for name, (text,) in columns.items() if text is not None}


def test_each_kind_of_document_fills_the_same_columns():
    products = read(
        "a lamp", {"title": "Lamp", "color": 7}, {"text": "Lamp", "product_brand": "Asa"}, "brand: Asa\ntitle: x"
    )
    assert products.products == {
        schema.TITLE: ["a lamp", "Lamp", "Lamp", "x"],
        schema.DESCRIPTION: [None] * 4,
        schema.BULLETS: [None] * 4,
        schema.BRAND: [None, None, "Asa", "Asa"],
        schema.COLOR: [None, "7", None, None],
    }
    assert products.warnings == []


def test_names_and_locales_are_folded_and_values_are_texts():
    assert row({"Product-Title": "Lamp", "BRAND": None, "bullets": ["a", "b"]}) == {
        "title": "Lamp",
        "bullet_point": "a\nb",
    }
    assert read("a", {"title": "a", "locale": "ja-JP"}, locale="en_US").locales == ["us", "jp"]
    assert read("a").locales == ["us"]


def test_a_text_beside_a_title_is_a_part_of_the_description():
    assert row({"title": "Lamp", "text": "It shines."}) == {"title": "Lamp", "description": "It shines."}
    both = {"description": "Bright.", "text": "It shines.", "title": "Lamp"}
    assert row(both)["description"] == "Bright. It shines."


def test_fields_that_are_ranked_by_are_read_and_no_others():
    document = {"title": "Lamp", "color": "red", "snippet": "It shines.", "url": "http://x", "locale": "es"}
    assert row(document, fields=["title", "snippet"]) == {"title": "Lamp", "description": "It shines."}
    assert row(document, fields=["snippet"]) == {"title": "It shines."}
    assert read(document, fields=["title"]).locales == ["es"]
    with pytest.raises(Refusal, match="has no text: give author"):
        read({"author": "A"}, {"title": "b"}, fields=["author"])


def test_beside_a_text_other_fields_are_passed_over_with_a_warning():
    products = read({"text": "Lamp", "url": "http://x"}, {"text": "Sofa", "url": "y", "z" * 99: {"deep": 1}})
    assert products.products[schema.TITLE] == ["Lamp", "Sofa"]
    (warning,) = products.warnings
    assert warning.startswith("2 fields beside the text were ignored: 'url', 'zzz")
    assert len(warning) < 150


def test_long_texts_are_cut_and_that_is_said():
    products = read("a" * 30, {"title": "b", "brand": "c" * 11}, "d" * 10, most=10)
    assert products.products[schema.TITLE] == ["a" * 10, "b", "d" * 10]
    assert products.products[schema.BRAND] == [None, "c" * 10, None]
    assert products.warnings == ["2 texts were truncated to 10 characters."]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (None, "documents.1 is null: give a text or an object."),
        (7, "documents.1 is a number: give a text or an object."),
        (True, "documents.1 is true or false: give a text or an object."),
        (["a"], "documents.1 is a list: give a text or an object."),
        ({}, "documents.1 has no text: give text, title, brand, color, bullets, description."),
        ({"locale": "us"}, "documents.1 has no text"),
        ({"titel": "a"}, "documents.1 has a field 'titel' that no product has."),
        ({"x" * 10**6: "a"}, "documents.1 has a field 'xxx"),
        ({"brand": "a", "product_brand": "b"}, "documents.1 has a second 'product_brand' under another name"),
        ({"title": {"a": 1}}, "documents.1 has an object as 'title': give a text."),
        ({"title": "a", "locale": "x" * 17}, "documents.1 has a locale of more than 16 characters."),
        ({"id": "B1"}, "documents.1 has only an id, and this server was started without --products."),
        ("\ud800", "documents.1 has an unpaired surrogate"),
        ({"brand": "a\udfff"}, "documents.1 has an unpaired surrogate"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(document, said):
    with pytest.raises(Refusal) as refused:
        read("a", document)
    assert refused.value.status == 422
    assert refused.value.message.startswith(said)
    assert len(refused.value.message) < 400


@pytest.fixture(scope="module")
def shop():
    rows = [("b1", "us", "Lamp"), ("b1", "es", "Lámpara"), ("e2", "es", "Mesa")]
    columns = dict(
        zip((schema.PRODUCT_ID, schema.LOCALE, schema.TITLE), map(list, zip(*rows, strict=True)), strict=True)
    )
    return Catalogue(pa.table({**columns, **{name: pa.nulls(3, pa.string()) for name in schema.TEXT_COLUMNS[1:]}}))


def test_ids_are_looked_up_in_their_locale_or_the_first_that_has_them(shop):
    given = [{"id": "b1"}, "a text", {"product_id": "e2"}, {"id": "b1", "locale": "ES"}, {"id": "b1", "title": "own"}]
    products = read(*given, catalogue=shop)
    assert products.products[schema.TITLE] == ["Lamp", "a text", "Mesa", "Lámpara", "own"]
    assert products.locales == ["us", "us", "es", "es", "us"]
    assert read({"id": "b1"}, catalogue=shop, locale="es-ES").products[schema.TITLE] == ["Lámpara"]
    for document, locale, said in (({"id": "x"}, None, "product."), ({"id": "e2"}, "us", "product in 'us'.")):
        with pytest.raises(Refusal, match=f"the catalogue has no such {said}"):
            read("a", document, catalogue=shop, locale=locale)


def test_columns_of_the_user_s_own_are_read_from_documents_and_for_ids_from_the_catalogue():
    rows = {schema.PRODUCT_ID: ["b1"], schema.LOCALE: ["us"], "unit price": ["9.5"]}
    shop = Catalogue(pa.table({**rows, **{name: ["Lamp"] for name in schema.TEXT_COLUMNS}}), own=("unit price",))
    given = [{"title": "a", "Unit_Price": 3.0}, "a text", {"id": "b1"}, {"id": "b1", "unit price": 7}]
    found = read(*given, catalogue=shop, own=("unit price",))
    assert found.products["unit price"] == ["3", None, "9.5", "7"]
    assert found.products[schema.TITLE] == ["a", "a text", "Lamp", "Lamp"]
    assert len(set(found.keys)) == 4  # and scores are known by them
    assert PairColumns.of([(found, 2)]).products["unit price"] == ["9.5"]
    with pytest.raises(Refusal, match="has no text"):
        read({"unit price": 3}, own=("unit price",))
    with pytest.raises(Refusal, match=r"has a field 'Unit_Price' that no product has\. Possible"):
        read(*given)


def test_the_columns_that_a_scorer_reads_are_asked_for():
    service = Service("stack", _batcher=SimpleNamespace(scorer=SimpleNamespace(own=("price",), reads_lists=False)))
    assert service.ask(["red"], [{"title": "a", "price": 2}]).products["price"] == ["2"]


def test_all_ids_of_a_request_are_looked_up_at_once(shop, monkeypatch):
    calls, rows = [], shop._lookup.rows
    monkeypatch.setattr(shop._lookup, "rows", lambda *given: calls.append(len(given[1])) or rows(*given))
    read(*[{"id": "b1"}] * 1000, catalogue=shop, locale="us")
    assert calls == [1000]


@pytest.mark.parametrize("unicode", [False, True])
def test_the_yaml_of_a_product_is_its_fields(unicode):
    text = yaml.dump({**FIELDS, "description": None}, sort_keys=False, allow_unicode=unicode)
    assert yaml_fields(text) == FIELDS
    assert yaml_fields(f"---\n{text}") == FIELDS
    assert yaml_fields("title: Lamp") == {"title": "Lamp"}


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
    assert row(text).get("title") == text


@pytest.mark.parametrize(
    "text",
    [
        "title: " + "[" * 99_000,
        "title: a\nbrand: " + "{a: " * 24_000,
        "title: a\n" + "a: b\n" * 19_000,
        "title: a\n---\n" + "[" * 99_000,
        "title: a\n? " + "- " * 49_000,
    ],
)
def test_a_text_that_was_made_to_take_time_is_read_no_further_than_it_is_a_product(text, monkeypatch):
    events, parse = [], yaml.parse
    counted = lambda *given, **options: (events.append(each) or each for each in parse(*given, **options))  # noqa: E731
    monkeypatch.setattr(documents.yaml, "parse", counted)
    assert yaml_fields(text) is None
    assert len(events) < 10
