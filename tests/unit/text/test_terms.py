"""Terms: words where spaces part them, pairs of characters where none do."""

import pytest

from zhichun.text.terms import terms, terms_of_all


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
