"""What a caller in Python gives to be scored: the rules are those of files and requests."""

import numpy as np
import pyarrow as pa
import pytest

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.score.given import catalogue_of, columns_of, locale_of, query_of

TITLE = schema.TITLE


class Frame:
    """As a data frame of pandas: its iteration gives the names of its columns."""

    columns = ("Title", "brand")

    def __iter__(self):
        return iter(self.columns)

    def to_dict(self, orient):
        assert orient == "records"
        return [{"Title": "a", "brand": np.nan}, {"Title": None, "brand": "x"}]


class Series(list):
    """As a series of pandas, which is like a mapping but is none."""

    keys = items = None


@pytest.mark.parametrize(
    ("products", "titles"),
    [
        ("Trail shoe", ["Trail shoe"]),
        (np.str_("Trail shoe"), ["Trail shoe"]),
        (np.array("Trail shoe"), ["Trail shoe"]),
        ({"title": "a"}, ["a"]),
        ([], []),
        ([None, "a", np.nan], [None, "a", None]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array(["a", None, 3.0], object), ["a", None, "3"]),
        (Series(["a", float("nan")]), ["a", None]),
        (pa.array(["a", None]), ["a", None]),
        (pa.chunked_array([["a"], [None]]), ["a", None]),
        (pa.table({"title": ["a", None]}), ["a", None]),
        (Frame(), ["a", None]),
        ((title for title in "ab"), ["a", "b"]),
        ({"x": {"title": "a"}}.values(), ["a"]),
        ([501, 2.0, 12345678901234567], ["501", "2", "12345678901234567"]),
        ([{"title": 12345678901234567}], ["12345678901234567"]),
        ([{"Title": "a"}, {"product title": "b"}, {"PRODUCT_TITLE": "c"}], ["a", "b", "c"]),
        ([{"title": None, "product_title": "b"}, {"product_title": "b", "title": np.nan}], ["b", "b"]),
        ([{"title": ["a", "b"]}], ["a\nb"]),
    ],
)
def test_products_come_in_whatever_holds_them(products, titles):
    assert columns_of(products)[0][TITLE] == titles


def test_data_frames_and_series_of_pandas_with_gaps():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"title": ["a", pandas.NA, None], "brand": ["x", np.nan, pandas.NaT], "id": [1, 2, None]})
    for products in (frame, frame.to_dict("records"), [row for _, row in frame.iterrows()]):
        columns, _ = columns_of(products)
        assert (columns[TITLE], columns[schema.BRAND]) == (["a", None, None], ["x", None, None])
    assert columns_of(frame["title"])[0][TITLE] == ["a", None, None]
    assert columns_of(frame["id"].astype("Int64"))[0][TITLE] == ["1", "2", None]
    assert catalogue_of(frame[:2]).column(schema.PRODUCT_ID).to_pylist() == ["1", "2"]


@pytest.mark.parametrize("products", [None, np.nan, 5, b"Trail shoe", object()])
def test_what_holds_no_products_is_refused(products):
    with pytest.raises(UserError, match=r"are no products\.\nGive a list of texts"):
        columns_of(products)


@pytest.mark.parametrize(
    ("product", "message"),
    [
        ({"titel": "a"}, r"product 2 has a field 'titel', which is none\.\nDid you mean 'title'"),
        ({"title": "a", "price": 3}, r"has a field 'price', which is none"),
        ({"title": {"a": 1}}, r"product 2: its 'title' is \{'a': 1\}, which is no text"),
        (b"a", r"product 2 is b'a', which is no text"),
        ({"title": "a", "product_title": "b"}, r"product 2 has a second 'product_title' under another name"),
        ({"title": "a", "locale": ["us", {}]}, r"product 2: its 'locale'"),
    ],
)
def test_a_product_that_cannot_be_read_is_named(product, message):
    with pytest.raises(UserError, match=message):
        columns_of(["a", product])


def test_locales_are_folded_and_a_products_own_goes_first():
    products = ["a", {"title": "b", "locale": "ja-JP"}, {"title": "c", "product_locale": np.nan}]
    assert columns_of(products, "en_US")[1] == ["us", "jp", "us"]
    assert columns_of(products, "ES")[1] == ["es", "jp", "es"]
    assert columns_of(products)[1] == ["us", "jp", "us"]
    assert locale_of(None) == locale_of(np.nan) == locale_of("") == "us"
    with pytest.raises(UserError, match=r"the locale is b'us', which is no text"):
        locale_of(b"us")


@pytest.mark.parametrize("query", [None, np.nan, "", "  ", "<br>", "\u200e", "\u3164", "\u00ad\ufeff", pa.scalar(None)])
def test_an_empty_query_is_refused(query):
    with pytest.raises(UserError, match="the query is empty"):
        query_of(query)


def test_a_query_is_a_text_or_a_number():
    assert query_of("shoe ") == "shoe "
    assert query_of(np.str_("shoe")) == "shoe"
    assert query_of(501) == "501"
    for several in (["red", "hat"], ("red",), np.array(["red", "hat"])):
        with pytest.raises(UserError, match=r"several queries were given\.\nScore the products of one query"):
            query_of(several)
    with pytest.raises(UserError, match="the query is b'shoe', which is no text"):
        query_of(b"shoe")


def test_a_catalogue_may_be_products_with_ids():
    products = [{"id": 1, "title": "a", "locale": "US"}, {"product_id": " 2 "}]
    for given in (products, iter(products)):
        made = catalogue_of(given, "es")
        assert made.column(schema.PRODUCT_ID).to_pylist() == ["1", "2"]
        assert made.column(schema.LOCALE).to_pylist() == ["us", "es"]
    assert catalogue_of(made).equals(made)
    place, raw = made.column_names.index(schema.LOCALE), pa.array(["en-US", None], pa.string())
    assert catalogue_of(made.set_column(place, schema.LOCALE, raw), "es").equals(made)
    with pytest.raises(UserError, match=r"product 2 has no product_id"):
        catalogue_of([{"id": 1}, "a"])


def test_columns_of_the_user_s_own_are_known_where_the_scorer_reads_them():
    columns, _ = columns_of([{"title": "a", "Price": 12.5}, "b"], own=("price",))
    assert columns["price"] == ["12.5", None]
    with pytest.raises(UserError, match="product 1 has a field 'Price', which is none"):
        columns_of([{"title": "a", "Price": 12.5}])
