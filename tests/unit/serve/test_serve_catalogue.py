"""The catalogue behind a server: lookups, searches by locale, and queries to try."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.data.dataset import Dataset
from zhichun.serve.catalogue_search import Catalogue

PRODUCTS = """product_id,locale,title,brand,color,bullets,description
b2,us,Running shoes,Ardmoti,Red,,Light
b1,us,Lamp,,,"<b>Warm</b> light",
b1,es,Lámpara de mesa,,Rojo,,
j1,jp,赤い 靴,,,,
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    path = tmp_path_factory.mktemp("catalogue") / "products.csv"
    path.write_text(PRODUCTS, "utf-8")
    return Catalogue.open(path, shown=False)


def product(catalogue, name, locale=None):
    row = catalogue.find([name], [locale])
    return catalogue.products(row)[0] if row[0] >= 0 else None


def titles(catalogue, query, locale, top=10):
    return [hit.product["title"] for hit in catalogue.search(query, locale, top)]


def test_a_product_is_found_by_its_id_and_its_locale(shop):
    assert len(shop) == 4
    assert product(shop, "b2", "us") == {
        "product_id": "b2",
        "locale": "us",
        "title": "Running shoes",
        "brand": "Ardmoti",
        "color": "Red",
        "bullets": None,
        "description": "Light",
    }
    assert product(shop, "b1", "us")["bullets"] == "Warm light"
    assert product(shop, "b1", "es")["title"] == "Lámpara de mesa"
    assert product(shop, "b1")["locale"] == "us"
    assert product(shop, " b1\n", "us") == product(shop, "b1", "us")  # as in files


@pytest.mark.parametrize(("name", "locale"), [("b1", "jp"), ("b", None), ("zz", None), ("", None), ("b2", "es")])
def test_what_is_not_there_is_none(shop, name, locale):
    assert product(shop, name, locale) is None


def test_a_search_stays_in_its_locale_and_reads_all_fields_but_the_description(shop):
    assert shop.locales == ("us", "es", "jp")
    assert titles(shop, "LAMP", "us") == ["Lamp"]
    assert titles(shop, "lampara roja rojo", "es") == ["Lámpara de mesa"]
    assert titles(shop, "赤い靴", "jp") == ["赤い 靴"]
    assert titles(shop, "ardmoti", "us") == titles(shop, "red", "us") == ["Running shoes"]
    assert titles(shop, "warm", "us") == ["Lamp"]
    assert titles(shop, "light", "us") == ["Lamp"]
    assert titles(shop, "lamp", "jp") == titles(shop, "lamp", "fr") == titles(shop, "nothing", "us") == []
    (hit,) = shop.search("shoes", "us", 1)
    assert hit.product["product_id"] == "b2"
    assert hit.score > 0


def test_without_judgements_the_beginnings_of_titles_are_examples(shop):
    assert shop.examples("us") == ["Running shoes", "Lamp"]
    assert shop.examples("us", 1) == ["Running shoes"]
    assert shop.examples("fr") == []
    assert shop.judgements("Lamp", "us") == {}


def test_products_that_a_step_made_are_in_no_shop():
    rows = [("b1", "Lamp", "us", schema.CATALOGUE), ("b1~", "Lamp cut", "us", "balanced"), ("t", "Luz", "es", "made")]
    columns = dict(
        zip((schema.PRODUCT_ID, schema.TITLE, schema.LOCALE, schema.ORIGIN), zip(*rows, strict=True), strict=True)
    )
    table = pa.table({**columns, **{name: pa.nulls(3, pa.string()) for name in schema.TEXT_COLUMNS[1:]}})
    catalogue = Catalogue(table)
    assert (len(catalogue), catalogue.locales) == (1, ("us",))
    assert product(catalogue, "b1~") is None
    assert titles(catalogue, "lamp", "us") == ["Lamp"]


def test_a_catalogue_without_products_finds_nothing():
    catalogue = Catalogue(pa.table({name: pa.array([], pa.string()) for name in schema.PRODUCT_COLUMNS}))
    assert (len(catalogue), catalogue.locales, product(catalogue, "x")) == (0, (), None)
    assert catalogue.search("x", "us", 5) == catalogue.examples("us") == []


def test_a_dataset_folder_offers_test_queries_with_their_judgements(tiny_dataset):
    catalogue = Catalogue.open(tiny_dataset, shown=False)
    table = Dataset.open(tiny_dataset).examples
    pairs = [pair for pair in table.to_pylist() if pair[schema.SPLIT] == schema.TEST]
    for locale in catalogue.locales:
        examples = catalogue.examples(locale, 3)
        of = {q: {p[schema.PRODUCT_ID]: p[schema.LABEL] for p in pairs if p[schema.QUERY] == q} for q in examples}
        assert of == {query: catalogue.judgements(query, locale) for query in examples}
        kinds = [len(set(labels.values())) for labels in of.values()]
        assert kinds == sorted(kinds, reverse=True)
        assert product(catalogue, next(iter(of[examples[0]])), locale)
    assert catalogue.judgements("no such query", "us") == {}
    assert catalogue.judged("no such query", "us") == []


def test_judged_products_come_in_the_order_of_the_first_stage_found_or_not(tiny_dataset):
    catalogue = Catalogue.open(tiny_dataset, shown=False)
    assert catalogue.has_judged
    for locale in catalogue.locales:
        (query,) = catalogue.examples(locale, 1)
        judged = catalogue.judged(query, locale)
        labels = catalogue.judgements(query, locale)
        assert {hit.product["product_id"] for hit in judged} == set(labels)
        searched = [hit for hit in catalogue.search(query, locale, 10**6) if hit.product["product_id"] in labels]
        assert [(hit.product, hit.score) for hit in judged if hit.score] == [
            (hit.product, hit.score) for hit in searched
        ]
        assert all(hit.score == 0 for hit in judged[len(searched) :])


def test_a_folder_in_the_official_layout_offers_cleaned_queries(tmp_path):
    product = {schema.PRODUCT_ID: ["1"], schema.LOCALE: ["us"], schema.TITLE: ["Shoe"]}
    product |= {name: [None] for name in schema.TEXT_COLUMNS[1:]}
    pq.write_table(pa.table(product), tmp_path / schema.OFFICIAL_PRODUCTS_FILE)
    pair = {schema.QUERY: " red &amp; shoe ", schema.PRODUCT_ID: "1", schema.LOCALE: "us", schema.LABEL: "E"}
    pq.write_table(pa.Table.from_pylist([{**pair, schema.SPLIT: "train"}]), tmp_path / schema.OFFICIAL_EXAMPLES_FILE)
    catalogue = Catalogue.open(tmp_path, shown=False)
    assert catalogue.examples("us") == ["red & shoe"]
    assert catalogue.judgements("red & shoe", "us") == {"1": "E"}


def test_a_catalogue_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(UserError):
        Catalogue.open(tmp_path / "none.csv", shown=False)
