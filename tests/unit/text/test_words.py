import pytest

from zhichun.text.words import word_counts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Nike Air-Max 90", 4),
        ("niño años", 2),
        ("nin\u0303o", 1),
        ("don't", 2),
        ("赤い靴 XL", 4),
        ("iPhone用ケース", 5),
        ("ランニング・シューズ", 9),
        ("ﾗﾝﾆﾝｸﾞ", 6),
        ("…!? ❤️", 0),
        ("", 0),
        (None, 0),
    ],
)
def test_runs_of_letters_and_single_japanese_characters_are_words(text, words):
    assert word_counts([text]).tolist() == [words]


def test_a_word_ends_with_its_text():
    assert word_counts(["red", "shoe", None, "靴", "a b"]).tolist() == [1, 1, 0, 1, 2]
    assert word_counts([]).tolist() == []
