import unicodedata
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from zhichun.text.trigrams import TrigramVocabulary, key_to_text, text_to_key, trigram_keys
from zhichun.text.vocabulary import normalise

# All of Unicode with lone surrogates, and often what is hard: blanks, case that changes length, composition, sigma.
HARD = "aB  -\n\x00\u00a0İßΣǰJ\u030cﬁ日本。｡❤\ufe0f\ud800\udc00\U0001f600\U0010ffff"
TEXT = st.text(st.one_of(st.sampled_from(HARD), st.characters(categories=None)), max_size=20)
TEXTS = st.lists(st.none() | TEXT, max_size=8)


def reference(text):
    """Cut a text as the definition says, one character after the other."""
    folded = ""
    for char in (text or "").lower():
        blank = unicodedata.category(char)[0] in "PSZC" or char in "\ufe0e\ufe0f"
        folded += " " if blank else char
    folded = folded.strip(" ")
    while "  " in folded:
        folded = folded.replace("  ", " ")
    if len(folded) <= 3:
        return [folded] if folded else []
    return [folded[start : start + 3].strip(" ") for start in range(len(folded) - 2)]


@settings(deadline=None)  # the first call builds the table of blanks
@given(TEXTS)
def test_a_batch_equals_the_definition_text_by_text(texts):
    keys, offsets = trigram_keys(texts)
    trigrams = key_to_text(keys)
    assert [trigrams[start:end] for start, end in pairwise(offsets)] == list(map(reference, texts))
    np.testing.assert_array_equal(text_to_key(trigrams), keys)


@settings(deadline=None)
@given(TEXTS)
def test_keys_sort_like_their_trigrams(texts):
    keys = np.unique(trigram_keys(texts)[0])
    assert key_to_text(keys) == sorted(key_to_text(keys))


@settings(deadline=None)
@given(TEXTS, TEXTS, st.data())
def test_ids_keep_exactly_the_known_trigrams_in_order(corpus, texts, data):
    seen = sorted({trigram for text in corpus + texts for trigram in reference(text)})
    known = data.draw(st.lists(st.sampled_from(seen), unique=True) if seen else st.just([]))
    vocabulary = TrigramVocabulary(text_to_key(known), np.ones(len(known), np.int64))
    ids, offsets = vocabulary.ids(texts)
    expected = [[known.index(trigram) + 1 for trigram in reference(text) if trigram in known] for text in texts]
    assert [ids[start:end].tolist() for start, end in pairwise(offsets)] == expected


@settings(deadline=None)
@given(st.lists(st.tuples(TEXT, st.none() | TEXT, TEXT), max_size=5))
def test_a_bag_is_its_fields_one_after_the_other(rows):
    fields = list(zip(*rows, strict=True)) or [(), (), ()]
    known = sorted({trigram for row in rows for text in row for trigram in reference(text)})
    vocabulary = TrigramVocabulary(text_to_key(known), np.ones(len(known), np.int64))
    ((ids, offsets),) = vocabulary.bags(fields).chunks
    expected = [[known.index(trigram) + 1 for text in row for trigram in reference(text)] for row in rows]
    assert [ids[start:end].tolist() for start, end in pairwise(offsets)] == expected


@settings(deadline=None)
@given(TEXT)
def test_normalising_again_changes_nothing(text):
    once = normalise(text)
    assert normalise(once) == once == once.strip()
