import unicodedata

from hypothesis import example, given, settings
from hypothesis import strategies as st

from zhichun.data.dataset import in_test, query_bucket, query_fold
from zhichun.text.clean import clean_text
from zhichun.text.fold import fold_query

# Pieces from which markup, also broken and escaped markup, comes about often.
PIECES = st.sampled_from(
    [
        "<",
        ">",
        "</",
        "<br>",
        "b",
        "br",
        "i",
        "p",
        "/",
        "&",
        ";",
        "amp",
        "lt",
        "gt",
        "#60",
        "#38",
        "x",
        "=",
        '"',
        "'",
        "!--",
        "--",
        "script",
        "]]>",
        "<![CDATA[",
        "?",
        "o:p",
    ]
) | st.sampled_from(
    " e\u0301\u0338\u037e\x00\u200b\u3000\ud800"
    "\u00ad\u200c\u200d\ufe0f\u0915\u20e31👩❤🏴\U000e0067\U000e007f\u2800\u3164"
)
MARKUP = st.lists(PIECES, max_size=40).map("".join)
TEXT = st.text(st.characters(), max_size=60) | MARKUP
QUERY = st.text(max_size=30)
# Letters and signs that nobody sees, which cleaning takes away.
BLANK_LETTERS = "\u115f\u1160\u3164\uffa0\u2800"


@settings(deadline=None)
@given(TEXT)
@example("\u2126\ufe0f")  # the ohm sign, which stands for a letter
@example("\u2100\u200d\u2800")  # a sign joined to what is a space
def test_cleaning_twice_is_cleaning_once(text):
    assert clean_text(clean_text(text)) == clean_text(text)


@settings(deadline=None)
@given(TEXT)
def test_cleaned_text_is_one_normal_encodable_line(text):
    cleaned = clean_text(text)
    cleaned.encode("utf-8")
    assert unicodedata.is_normalized("NFC", cleaned)
    assert cleaned == " ".join(cleaned.split())


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters=f"<&{BLANK_LETTERS}", categories=("L", "N", "P", "S")), max_size=40))
def test_text_without_markup_keeps_every_character(text):
    assert clean_text(text) == unicodedata.normalize("NFC", text)


@settings(deadline=None)
@given(QUERY, st.integers(2, 40))
def test_what_differs_only_in_space_and_unicode_form_shares_fold_and_split(query, folds):
    for same in (f"  {query}\t", query.replace(" ", " \n "), unicodedata.normalize("NFD", query)):
        assert query_fold(same, folds) == query_fold(query, folds)
        assert in_test(same, 0.3) == in_test(query, 0.3)


@settings(deadline=None)
@given(st.text(st.characters(max_codepoint=0x7F), max_size=30))
def test_case_and_space_never_change_the_key(query):
    assert fold_query(query.upper()) == fold_query(query.lower()) == fold_query(f" {query}  ")


@settings(deadline=None)
@given(QUERY, st.integers(2, 127))
def test_folds_are_in_range(query, folds):
    assert 0 <= query_fold(query, folds) < folds


@settings(deadline=None)
@given(QUERY)
def test_buckets_are_nested_in_folds(query):
    assert query_fold(query, 5) == query_bucket(query, 20) // 4 == query_bucket(query, 20) // 2 // 2
    assert query_fold(query, 10) // 2 == query_fold(query, 5)


@settings(deadline=None)
@given(QUERY, st.floats(0, 1), st.floats(0, 1))
def test_a_larger_test_set_holds_every_smaller_one(query, share, other):
    small, large = sorted((share, other))
    assert in_test(query, large) or not in_test(query, small)
