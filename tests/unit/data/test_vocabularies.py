import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.data.prepare import vocabularies
from zhichun.data.prepare.vocabularies import TrigramCounter, write_vocabularies
from zhichun.text.trigrams import TrigramVocabulary, key_to_text, trigram_keys
from zhichun.text.vocabulary import Vocabulary


def silent(what, done, total):
    """Say nothing."""


@pytest.fixture
def shop(tmp_path):
    """Two brands, a color, one query in each split, and a product that a step made."""
    columns = dict.fromkeys(schema.TEXT_COLUMNS, [None] * 5)
    columns |= {
        schema.TITLE: ["xyz", "xyz", "once", "xyz", "made"],
        schema.BRAND: ["Nike", "NIKE®", "Puma", None, "Puma"],
        schema.COLOR: ["red", None, "Red", "blue", "blue"],
        schema.ORIGIN: [*["catalogue"] * 4, "balanced"],
    }
    pq.write_table(pa.table(columns), tmp_path / schema.PRODUCTS_FILE)
    judged = {schema.QUERY: ["foo", "foo", "bar", "qux"], schema.SPLIT: ["train", "train", "train", "test"]}
    pq.write_table(pa.table(judged), tmp_path / schema.EXAMPLES_FILE)
    return tmp_path


def test_the_three_vocabularies_of_a_dataset(shop):
    seen = []
    counts = write_vocabularies(shop, 3, lambda *step: seen.append(step))
    assert counts == {"brands": 1, "colors": 1, "trigrams": 3}
    folder = shop / "vocabulary"
    assert Vocabulary.load(folder / "brands.parquet") == Vocabulary(("nike",), (2,))
    assert Vocabulary.load(folder / "colors.parquet") == Vocabulary(("red",), (2,))
    trigrams = pq.read_table(folder / "trigrams.parquet").to_pydict()
    # A query counts once, and a test query not at all.
    assert trigrams == {"trigram": ["xyz", "bar", "foo"], "count": [3, 1, 1]}
    assert len(TrigramVocabulary.load(folder / "trigrams.parquet")) == 4
    assert seen == [("vocabularies", 5, 5)]


def test_the_same_input_gives_the_same_bytes(shop):
    files = [shop / "vocabulary" / f"{name}.parquet" for name in ("brands", "colors", "trigrams")]
    written = []
    for _ in range(2):
        write_vocabularies(shop, 15, silent)
        written.append([file.read_bytes() for file in files])
    assert written[0] == written[1]


def test_a_folder_that_cannot_be_made_is_named(shop):
    (shop / "vocabulary").write_text("")
    with pytest.raises(UserError, match=r"vocabulary/brands\.parquet: "):
        write_vocabularies(shop, 15, silent)


def test_ids_go_by_count_and_then_by_key():
    counter = TrigramCounter()
    counter.update(["bbb", "bbb", "ccc", "aaa", None, "zz", "zz", "zz"])
    vocabulary = TrigramVocabulary.build(*counter.counts(), 1)
    assert key_to_text(vocabulary.keys_V) == ["zz", "bbb", "aaa", "ccc"]
    assert vocabulary.counts_V.tolist() == [3, 2, 1, 1]
    assert len(vocabulary) == 5


def test_rare_trigrams_go_unless_a_query_has_them():
    counter = TrigramCounter()
    counter.update(["usual"] * 15 + ["often"] * 14 + ["query"])
    assert key_to_text(TrigramVocabulary.build(*counter.counts()).keys_V) == ["sua", "ual", "usu"]
    kept = TrigramVocabulary.build(*counter.counts(), keep=["que", "not"])
    assert key_to_text(kept.keys_V) == ["sua", "ual", "usu", "que"]


@settings(deadline=None)
@given(st.lists(st.text(st.characters(codec="cp1252") | st.sampled_from("aΣσςİſ靴\n  ")) | st.none()))
@example(["Año–NUEVO", "ŠÉŽ œ", "é", "", "Ñu", None, "a\nb\r\n", "ΑΣ", "靴 œ"])
def test_western_texts_are_counted_as_all_others_are(texts):
    keys, counts = np.unique(trigram_keys(texts)[0], return_counts=True)
    counter = TrigramCounter()
    counter.update(texts)
    counted = counter.counts()
    assert counted[0].tolist() == keys.tolist()
    assert counted[1].tolist() == counts.tolist()


def test_counting_nothing_gives_an_empty_vocabulary():
    assert len(TrigramVocabulary.build(*TrigramCounter().counts())) == 1


def test_counting_in_batches_equals_counting_at_once(monkeypatch):
    texts = [f"{n % 7}{n % 11}{n % 13} word{n * n}" for n in range(500)]
    whole = TrigramCounter()
    whole.update(texts)
    monkeypatch.setattr(vocabularies, "PENDING", 40)
    pieces = TrigramCounter()
    for start in range(0, 500, 3):
        pieces.update(texts[start : start + 3])
    for at_once, in_batches in zip(whole.counts(), pieces.counts(), strict=True):
        assert at_once.tolist() == in_batches.tolist()
