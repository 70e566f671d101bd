"""What is done for whole columns gives what is done for each text."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from zhichun.data.prepare.vocabularies import LETTERS, CatalogueTrigrams
from zhichun.text.clean import clean_column, clean_text
from zhichun.text.trigrams import TrigramCounter

PIECES = st.sampled_from(
    [
        *"<>&; \n\t\r\u0301\u3099\u1161\u200b\xa0",
        "<br>",
        "&amp;",
        "&#65;",
        "&#１;",
        "]]>",
        "か",
        "가",
        *"\u00ad\u200c\u200d\ufe0f\u0915\u20e3👩❤\u2800\uffa0\u3164",
    ]
)
TEXT = st.lists(PIECES | st.characters(exclude_categories=["Cs"]), max_size=20).map("".join)
# Σ has another small form at the end of a word, and İ becomes two characters.
SIGNS = st.sampled_from([*LETTERS, *LETTERS.upper(), *"  ,.™-ΣσİǰßŸ日本語"]) | st.characters(exclude_categories=["Cs"])
COLUMNS = st.lists(st.lists(st.none() | st.text(SIGNS, max_size=8), max_size=5), max_size=3)


@given(st.lists(st.none() | TEXT, max_size=8))
@settings(max_examples=300, deadline=None)
def test_cleaning_a_column_is_cleaning_its_texts(texts):
    expected = [None if text is None else clean_text(text) for text in texts]
    assert clean_column(pa.array(texts, pa.string())).to_pylist() == expected


@given(COLUMNS)
@settings(deadline=None)
def test_trigrams_of_a_catalogue_are_those_of_its_texts(columns):
    fast, slow = CatalogueTrigrams(), TrigramCounter()
    for texts in columns:
        cleaned = clean_column(pa.array(texts, pa.string()))
        fast.update(cleaned)
        slow.update(cleaned.to_pylist())
    for counted, expected in zip(fast.counts(), slow.counts(), strict=True):
        np.testing.assert_array_equal(counted, expected)
