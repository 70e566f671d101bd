"""One form for every kind of value."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from zhichun.text.fold import (
    fold_column,
    fold_grade,
    fold_locale,
    fold_locales,
    fold_name,
    fold_query,
    is_missing,
    value_text,
)


@pytest.mark.parametrize(
    ("country", "written"),
    [
        ("us", "us US en-US en_US EN-us en en_US.UTF-8 \ufeffus ＵＳ en-Latn-US"),
        ("jp", "jp JP ja ja-JP ja_jp ja_JP.UTF-8@x"),
        ("es", "es ES es-ES"),
        ("gb", "gb en-GB"),
        ("mx", "mx es_MX"),
        ("de", "de de-DE"),
        ("tw", "tw zh-Hant-TW"),
        ("fr-ca", "fr-CA fr_ca"),
        ("en-ca", "en-CA"),
        ("es-419", "es-419"),
        ("es-us", "es-US"),
        ("xx", "xx XX"),
    ],
)
def test_a_locale_is_one_however_it_is_written(country, written):
    assert {fold_locale(each) for each in written.split(" ")} == {country}
    assert fold_locale(f" {country.upper()} ") == country == fold_locale(country)


def test_a_column_of_locales_takes_the_folded_default():
    locales = pa.array(["US", None, " ", "ja-JP"], pa.large_string())
    assert fold_locales(locales, "en_GB", 4).to_pylist() == ["us", "gb", "gb", "jp"]
    assert fold_locales(None, "US", 2).to_pylist() == ["us", "us"]


@pytest.mark.parametrize(
    ("grade", "written"),
    [
        ("3", ["3", "3.0", " 3 ", "3,0", "3,", "+3", "3e0", "３", "03", "3\u200b", 3, 3.0, np.int64(3), np.float32(3)]),
        ("2.5", ["2.5", "2,5", "2.50", "2,500", 2.5, np.float64(2.5)]),
        ("0", ["0", "-0", "0.0", ".0", ",0"]),
        ("-1", ["-1", "-1.0", -1, "-1,00"]),
        ("e", ["E", "e", "Exact", "EXACT ", " exact"]),
        ("", ["", " ", "nan", "NaN", None, float("nan"), "None", "NULL", "<NA>", "\u200e"]),
        ("1.2.3", ["1.2.3"]),
        ("inf", ["inf"]),
        ("1_0", ["1_0"]),
        ("good", ["good", "Good"]),
    ],
)
def test_a_grade_is_one_however_it_is_written(grade, written):
    assert {fold_grade(each) for each in written} == {grade}


def test_a_query_is_one_in_any_case_width_and_space():
    written = [
        "Trail Shoe",
        "trail  shoe ",
        "TRAIL\tSHOE",
        "ｔｒａｉｌ shoe",
        "trail\u00ad shoe\u200e",
        "<b>trail</b> shoe",
    ]
    assert {fold_query(each) for each in written} == {"trail shoe"}
    assert fold_query("ｽﾆｰｶｰ") == fold_query("スニーカー")
    assert fold_query("\u3164") == fold_query("\uffa0\u200b") == ""


def test_names_are_one_without_case_spaces_underscores_and_hyphens():
    written = ["product_title", "Product Title", "product-title", "PRODUCTTITLE", "\ufeffproduct title "]
    assert {fold_name(each) for each in written} == {"producttitle"}


class NotAvailable:
    """As pandas' NA: does not say whether it equals anything."""

    def __eq__(self, other):
        return self

    __ne__ = __eq__

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")

    __hash__ = None


GAPS = [
    None,
    float("nan"),
    np.nan,
    np.float32("nan"),
    np.datetime64("NaT"),
    NotAvailable(),
    pa.scalar(None, pa.string()),
]


@pytest.mark.parametrize("gap", GAPS, ids=[type(gap).__name__ for gap in GAPS])
def test_a_gap_is_no_text(gap):
    assert value_text(gap) is None
    assert is_missing(gap) or isinstance(gap, pa.Scalar)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12345678901234567, "12345678901234567"),
        (np.int64(2**62 + 1), str(2**62 + 1)),
        (10**30, "1" + "0" * 30),
        (3.0, "3"),
        (2.5, "2.5"),
        (np.float64(501), "501"),
        (np.str_("a"), "a"),
        (Decimal("3.50"), "3.50"),
        (True, "true"),
        (["a", None, 2], "a\n2"),
        (np.array(["a", "b"]), "a\nb"),
        (pa.scalar("a"), "a"),
    ],
)
def test_a_value_is_its_text(value, text):
    assert value_text(value) == text
    assert type(value_text(value)) is str


@pytest.mark.parametrize("value", [{"a": 1}, b"a", object(), [{"a": 1}]])
def test_anything_else_is_no_text(value):
    with pytest.raises(TypeError):
        value_text(value)


def test_a_column_is_folded_once_for_each_different_text():
    asked = []
    column = pa.array(["A", None, "b", "A"])
    folded = fold_column(column, lambda text: asked.append(text) or text.lower())
    assert folded.to_pylist() == ["a", None, "b", "a"]
    assert asked == ["A", "b"]
