import unicodedata

import pyarrow as pa
import pytest

from zhichun.text.clean import PLAIN_RANGES, clean_column, clean_text

RANGES = [[int(code, 16) for code in each.split("-")] for each in PLAIN_RANGES.split()]
PLAIN = [chr(code) for first, last in RANGES for code in range(first, last + 1)]


def test_plain_characters_are_those_that_cleaning_never_touches():
    assert [sign for sign in PLAIN if clean_text(f"a{sign}b {sign}") != f"a{sign}b {sign}"] == []


def test_plain_characters_never_combine_with_the_one_before():
    assert [sign for sign in PLAIN if unicodedata.combining(sign)] == []
    pairs = [unicodedata.decomposition(chr(code)).split() for code in range(0x110000)]
    seconds = {chr(int(pair[1], 16)) for pair in pairs if len(pair) == 2 and not pair[0].startswith("<")}
    # Hangul syllables are composed by rule, not by table: their vowels and final consonants.
    seconds |= {chr(code) for code in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}
    assert seconds.isdisjoint(PLAIN)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_a_column_is_cleaned_as_its_texts_are(kind):
    texts = [
        "a",
        None,
        "",
        " b ",
        "c\nd",
        "e \nf",
        "R&D",
        "R&amp;D",
        "<b>g</b>",
        "3 < 4",
        "é",
        "e\u0301",
        "日本　語",
        "\u200b",
    ]
    column = pa.array(texts, kind)
    expected = [None if text is None else clean_text(text) for text in texts]
    assert clean_column(column).to_pylist() == expected
    assert clean_column(pa.chunked_array([column[:5], column[5:5], column[5:]])).to_pylist() == expected
    assert clean_column(column[3:7]).to_pylist() == expected[3:7]
    assert clean_column(column).type == pa.large_string()


def test_a_column_without_rows_is_cleaned_too():
    assert clean_column(pa.array([], pa.string())).to_pylist() == []
    assert clean_column(pa.array([None], pa.string())).to_pylist() == [None]
