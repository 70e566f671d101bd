import unicodedata

import numpy as np
import pytest

from zhichun.core.errors import UserError
from zhichun.text import vocabulary as words
from zhichun.text.trigrams import TrigramVocabulary, key_to_text, text_to_key, trigram_keys
from zhichun.text.vocabulary import blank_code_points, write_counted


def trigrams(text):
    keys, offsets = trigram_keys([text])
    assert offsets.tolist() == [0, len(keys)]
    return key_to_text(keys)


def vocabulary_of(*known):
    return TrigramVocabulary(text_to_key(known), np.arange(len(known), 0, -1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", ["a"]),
        ("ab", ["ab"]),
        ("abc", ["abc"]),
        ("abcd", ["abc", "bcd"]),  # the last window counts
        ("a b", ["a b"]),
        ("a b c", ["a b", "b", "b c"]),
        ("Red  Shoe", ["red", "ed", "d s", "sh", "sho", "hoe"]),
        ("USB-C, 2m!", ["usb", "sb", "b c", "c", "c 2", "2m"]),
        ("aaaa", ["aaa", "aaa"]),
        ("Sofá\u00a0niño", ["sof", "ofá", "fá", "á n", "ni", "niñ", "iño"]),
        ("「日本語」の本", ["日本語", "本語", "語 の", "の本"]),
        ("ﾊﾟﾅ", ["ﾊﾟﾅ"]),
        ("I ❤️ NY 🗽", ["i n", "ny"]),  # no heart, no statue, and no presentation selector left behind
        ("tab\tand\x00nul", ["tab", "ab", "b a", "an", "and", "nd", "d n", "nu", "nul"]),
        ("x\ud800y", ["x y"]),  # a lone surrogate
        ("İ", ["i\u0307"]),
        ("ΟΔΟΣ ΟΔΟΣ", ["οδο", "δος", "ος", "ς ο", "οδ", "οδο", "δος"]),  # final sigmas
        ("", []),
        (None, []),
        ("  \n", []),
        ("?!… ™", []),
    ],
)
def test_trigrams_of_one_text(text, expected):
    assert trigrams(text) == expected


def test_each_text_of_a_batch_keeps_its_own_trigrams():
    keys, offsets = trigram_keys(["ab", None, "!", "c", "defg", "", "hi"])
    assert key_to_text(keys) == ["ab", "c", "def", "efg", "hi"]
    assert offsets.tolist() == [0, 1, 1, 1, 2, 4, 4, 5]
    assert (keys.dtype, offsets.dtype) == (np.uint64, np.int64)


@pytest.mark.parametrize("texts", [[], [None], ["", "!"]])
def test_texts_without_trigrams(texts):
    keys, offsets = trigram_keys(texts)
    assert (keys.dtype, keys.tolist(), offsets.tolist()) == (np.uint64, [], [0] * (len(texts) + 1))
    assert key_to_text(keys) == []


def test_a_key_is_three_code_points_of_21_bits():
    assert text_to_key(["ab", "\U0010ffff本c"]).tolist() == [97 << 42 | 98 << 21, 0x10FFFF << 42 | ord("本") << 21 | 99]


@pytest.mark.parametrize("wrong", ["", "abcd"])
def test_only_one_to_three_characters_have_a_key(wrong):
    with pytest.raises(ValueError, match=rf"'{wrong}' has {len(wrong)} characters"):
        text_to_key(["abc", wrong])


def test_letters_digits_and_marks_are_not_blank():
    blank = blank_code_points()
    assert not any(blank[ord(char)] for char in "aZ9é日ゞ々ー²\u0301")
    assert all(blank[ord(char)] for char in "-_+$®。\u3000\u200d\x7f\ue000\U0001f600\ufe0f")


def test_outside_of_the_assigned_planes_all_is_blank():
    others = [code for code in range(0x110000) if not any(first <= code < end for first, end in words.ASSIGNED)]
    assert {unicodedata.category(chr(code))[0] for code in others} == {"C"}
    assert blank_code_points()[others].all()


def test_ids_leave_out_unknown_trigrams():
    ids, offsets = vocabulary_of("bcd", "xyz", "abc").ids(["abcd", "unknown", None, "xyz xyz"])
    assert ids.tolist() == [3, 1, 2, 2]
    assert offsets.tolist() == [0, 2, 2, 2, 4]
    assert (ids.dtype, offsets.dtype) == (np.int32, np.int64)


def test_an_empty_vocabulary_knows_nothing():
    empty = vocabulary_of()
    ids, offsets = empty.ids(["abc", "\U0010ffff"])
    assert (len(empty), ids.tolist(), offsets.tolist()) == (1, [], [0, 0, 0])


def test_a_bag_holds_all_fields_of_a_row_and_no_trigram_across_them():
    vocabulary = vocabulary_of("ab", "cd", "b c", "abc", "e")
    ((ids, offsets),) = vocabulary.bags([["ab", None, "e"], ["cd", "abc", "e"]]).chunks
    assert ids.tolist() == [1, 2, 4, 5, 5]
    assert offsets.tolist() == [0, 2, 3, 5]


def test_a_saved_vocabulary_is_the_same_again(tmp_path):
    path = tmp_path / "trigrams.parquet"
    saved = vocabulary_of("abc", "日", "b c", "🇦本")
    saved.save(path)
    loaded = TrigramVocabulary.load(path)
    assert loaded.keys_V.tolist() == saved.keys_V.tolist()
    assert loaded.counts_V.tolist() == saved.counts_V.tolist()
    assert loaded.fingerprint == saved.fingerprint != vocabulary_of("日", "abc", "b c", "🇦本").fingerprint
    assert [entry.name for entry in tmp_path.iterdir()] == ["trigrams.parquet"]


def test_a_file_of_longer_texts_is_no_trigram_vocabulary(tmp_path):
    path = tmp_path / "trigrams.parquet"
    write_counted(path, "trigram", ["abcd"], np.ones(1, np.int64))
    with pytest.raises(UserError, match="'abcd' has 4 characters"):
        TrigramVocabulary.load(path)
