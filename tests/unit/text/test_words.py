import pytest

from zhichun.text.vocabulary import terms, terms_of_all, word_counts


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Red RED-shoes, size 9½", ["red", "red", "shoes", "size", "91", "2"]),
        ("Zapatillas para niño · Botón", ["zapatillas", "para", "nino", "boton"]),
        ("STRASSE straße", ["strasse", "strasse"]),
        ("赤い靴", ["赤い", "い靴", "赤", "靴"]),
        ("靴", ["靴"]),
        ("メンズ・ガ", ["メン", "ンズ", "ガ"]),
        ("ﾒﾝｽﾞ ＮＩＫＥ", ["メン", "ンズ", "nike"]),
        ("Nike靴26cm", ["nike", "靴", "26cm"]),
        ("가방 сумка", ["가방", "сумка"]),
        ("", []),
        (" \t…—!\u200b", []),
        ("one\ntwo\u2028three", ["one", "two", "three"]),
        ("a\ud800b", ["a", "b"]),
    ],
)
def test_terms_of_any_script(text, expected):
    assert terms(text) == expected


def test_a_voiced_kana_is_not_its_plain_one_in_any_form():
    assert terms("ガ") == terms("ｶﾞ") == terms("カ\u3099") != terms("カ")


def test_many_texts_at_once_give_what_each_gives_alone():
    texts = ["Red shoes", "", "赤い\n靴", "Botón", "\ud800"]
    assert terms_of_all(texts) == [terms(text) for text in texts]
    assert terms_of_all([]) == []
