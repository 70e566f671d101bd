import re
from pathlib import Path

import pytest

from zhichun.core.errors import UserError
from zhichun.data.readers.sources import describe_columns, match_columns, match_pairs


class Named:
    """A table of which only the names are looked at."""

    def __init__(self, path, names):
        self.path, self.names, self.notes = Path(path), list(names), []


def match(given, examples=("query", "product_id", "label"), products=("product_id", "title")):
    return match_columns(given, {"examples": Named("e.csv", examples), "products": Named("p.csv", products)})


def test_columns_are_found_by_given_official_and_short_names():
    matched = match(
        {"query": "search_term", "product_title": "name", "products.product_id": "sku"},
        examples=("search_term", "product_id", "esci_label", "split"),
        products=("sku", "name", "brand", "product_locale"),
    )
    assert matched["examples"] == {
        "query": "search_term",
        "product_id": "product_id",
        "esci_label": "esci_label",
        "split": "split",
    }
    assert matched["products"] == {
        "product_id": "sku",
        "product_title": "name",
        "product_brand": "brand",
        "product_locale": "product_locale",
    }


@pytest.mark.parametrize(
    ("given", "examples", "message"),
    [
        ({"querry": "q"}, ("query",), "there is no column 'querry' to map\nDid you mean 'query'?"),
        (
            {"label": "grad"},
            ("query", "product_id", "grade"),
            "e.csv: no column 'grad', which was named for 'label'; the",
        ),
        ({"label": "grad"}, ("query", "product_id", "grade"), "'query', 'product_id', 'grade'\nDid you mean 'grade'?"),
        (
            {},
            ("q", "product_id", "label"),
            "e.csv: no column 'query'; the file has 'q', 'product_id', 'label'",
        ),
        ({"shop.query": "q"}, ("q",), "there is no table 'shop' in 'shop.query'"),
        ({"examples.title": "q"}, ("q",), "examples have no column 'title'"),
    ],
)
def test_wrong_columns_are_answered_with_what_there_is(given, examples, message):
    with pytest.raises(UserError) as error:
        match(given, examples)
    assert message in str(error.value)


def test_products_need_an_id_and_one_text():
    with pytest.raises(UserError, match=r"p\.csv: no column 'product_id'"):
        match({}, products=("title",))
    with pytest.raises(UserError, match=r"p\.csv: no column 'product_title' \(or 'title'\); the file has 'product_id'"):
        match({}, products=("product_id", "price"))


@pytest.mark.parametrize(
    ("name", "official"),
    [
        ("Title", "product_title"),
        ("PRODUCT TITLE", "product_title"),
        ("product-title", "product_title"),
        ("Name", "product_title"),
        ("product_color_name", "product_color"),
        ("Colour", "product_color"),
        ("Bullet Points", "product_bullet_point"),
        ("product_bullet_point", "product_bullet_point"),
        ("Body (HTML)", "product_description"),
        ("Vendor", "product_brand"),
        ("query_locale", "product_locale"),
        ("\uff34itle", "product_title"),
    ],
)
def test_names_match_in_any_case_and_under_those_that_shops_use(name, official):
    assert (
        match({}, products=("id", "title" if "itle" not in name and name != "Name" else "brand", name))["products"][
            official
        ]
        == name
    )


def test_an_id_alone_is_a_product_id_in_catalogues_only():
    assert match({}, products=("ID", "title"))["products"]["product_id"] == "ID"
    assert match({}, products=("id", "sku", "title"))["products"]["product_id"] == "sku"
    with pytest.raises(UserError, match=r"e\.csv: no column 'product_id'"):
        match({}, examples=("query", "id", "label"))


def test_names_given_by_hand_are_found_in_any_case_too():
    assert match({"Title": "NAME of it"}, products=("product_id", "name_of_it"))["products"]["product_title"] == (
        "name_of_it"
    )


def test_it_is_said_which_columns_are_used_and_which_are_not():
    table = Named("p.csv", ["SKU", "Title", "product_description", "Brnd", "price", "Main colour of it"])
    table.notes = ["is compressed with gzip, and was unpacked"]
    matched = match_columns({}, {"products": table})["products"]
    assert describe_columns("products", matched, table) == [
        "p.csv is compressed with gzip, and was unpacked",
        "p.csv: uses product_id (SKU), title (Title), description; leaves unused: Brnd, price, Main colour of it. "
        "Did you mean --columns brand=Brnd,color=Main colour of it?",
    ]
    kept = describe_columns("products", matched, table, keep=["Price"])[-1]
    assert "description; keeps: price; leaves unused: Brnd, Main colour of it. Did" in kept


def test_pairs_take_texts_or_with_a_catalogue_ids():
    table = Named("p.csv", ["Query", "product_id", "Title", "note"])
    assert match_pairs({}, table, catalogue=False) == {"query": "Query", "product_title": "Title"}
    matched = match_pairs({}, table, catalogue=True)
    assert matched == {"query": "Query", "product_id": "product_id"}
    assert describe_columns("pairs", matched, table) == ["p.csv: uses query (Query), product_id; keeps: Title, note"]


def test_of_very_many_columns_the_first_are_named():
    table = Named("p.csv", ("product_id", "title", *(f"attribute {number}" for number in range(5000))))
    (line,) = describe_columns("products", match_columns({}, {"products": table})["products"], table)
    assert line.endswith("attribute 28, attribute 29 and 4,970 more")
    with pytest.raises(UserError) as error:
        match_columns({}, {"examples": table})
    assert "'attribute 27' and 4,972 more" in str(error.value)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("names", "remedy"),
    [
        (("001", "Red shoe"), "No name is known: the names must be the first line"),
        (("query,product_id,label",), "No name is known"),
        (("query", "docid", "Ann's rating", "Bo's rating"), "write a row for each, with the columns judge and label."),
    ],
)
def test_a_missing_column_is_answered_by_why_it_may_be_missing(names, remedy):
    with pytest.raises(UserError, match=re.escape(remedy)):
        match({}, names)


def test_a_name_for_one_table_goes_before_one_for_all_in_whatever_order():
    given = {"products.product_id": "sku", "product_id": "id"}
    matched = match(given, ("query", "id", "label"), ("id", "sku", "title"))
    assert (matched["examples"]["product_id"], matched["products"]["product_id"]) == ("id", "sku")
