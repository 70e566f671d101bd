"""What is done for whole columns gives what is done for each text."""

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from zhichun.text.clean import clean_column, clean_text

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


@given(st.lists(st.none() | TEXT, max_size=8))
@settings(max_examples=300, deadline=None)
def test_cleaning_a_column_is_cleaning_its_texts(texts):
    expected = [None if text is None else clean_text(text) for text in texts]
    assert clean_column(pa.array(texts, pa.string())).to_pylist() == expected
