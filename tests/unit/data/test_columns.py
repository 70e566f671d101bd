import pytest

from zhichun.core.errors import UserError
from zhichun.data.readers.columns import match_columns


def match(given, examples=("query", "product_id", "label"), products=("product_id", "title")):
    names = {"examples": examples, "products": products}
    return match_columns(given, names, {"examples": "e.csv", "products": "p.csv"})


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
