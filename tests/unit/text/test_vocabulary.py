import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhichun.core.errors import UserError
from zhichun.text.vocabulary import Vocabulary, normalise


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  NIKE ", "nike"),
        ("Nike™", "nike"),
        ("Black/White", "black white"),
        ("L'Oréal  Paris", "l oréal paris"),
        ("Ore\u0301al", "oréal"),
        ("ＳＯＮＹ　ﾊﾟﾅ", "sony パナ"),
        ("㈱日立", "日立"),
        ("❤️", ""),
        ("-", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_normalise(text, expected):
    assert normalise(text) == expected


def test_values_seen_twice_are_kept_by_count_and_then_by_text():
    values = ["Zeta", "ZETA!", "zeta", "beta", "Beta", "alpha", "alpha", "once", None, "", "!", "!"]
    vocabulary = Vocabulary.build(pa.chunked_array([values[:5], values[5:]], pa.string()))
    assert vocabulary == Vocabulary(("zeta", "alpha", "beta"), (3, 2, 2))
    assert len(vocabulary) == 4


def test_min_count_can_be_raised():
    assert Vocabulary.build(pa.chunked_array([list("aaab b")]), min_count=3).values == ("a",)


def test_index_is_zero_for_the_unknown_and_the_empty():
    index = Vocabulary(("nike", "puma"), (9, 8)).index(["Puma®", "other", None, "NIKE", "", "puma"])
    assert index.dtype == np.int32
    assert index.tolist() == [2, 0, 0, 1, 0, 2]


def test_a_saved_vocabulary_is_the_same_again(tmp_path):
    path = tmp_path / "brands.parquet"
    saved = Vocabulary(("nike", "パナ"), (9, 2))
    saved.save(path)
    loaded = Vocabulary.load(path)
    assert loaded == saved
    assert loaded.fingerprint == saved.fingerprint != Vocabulary(("パナ", "nike"), (9, 2)).fingerprint
    assert pq.read_table(path).to_pydict() == {"value": ["nike", "パナ"], "count": [9, 2]}
    first = path.read_bytes()
    saved.save(path)
    assert path.read_bytes() == first


def test_a_missing_vocabulary_is_named(tmp_path):
    with pytest.raises(UserError, match=r"brands\.parquet: cannot be read"):
        Vocabulary.load(tmp_path / "brands.parquet")


@pytest.mark.parametrize("damage", [lambda whole: whole[:-20], lambda whole: b"", lambda whole: b"text" * 50])
def test_a_damaged_vocabulary_is_refused(tmp_path, damage):
    path = tmp_path / "brands.parquet"
    Vocabulary(("nike", "puma"), (9, 2)).save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"brands\.parquet: cannot be read") as caught:
        Vocabulary.load(path)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"trigram": ["a"], "count": [1]}, "has the columns 'value' .string. and 'count' .int64., not"),
        ({"value": [1], "count": [1]}, "has the columns"),
        ({"value": ["a", "b", "a"], "count": [3, 2, 1]}, "row 3: 'a' comes twice"),
        ({"value": ["a", None], "count": [2, 2]}, "row 2: None with count 2 is not an entry"),
        ({"value": ["a", "b"], "count": [2, None]}, "row 2: 'b' with count None is not an entry"),
        ({"value": [""], "count": [1]}, "row 1: '' with count 1 is not an entry"),
        ({"value": ["a"], "count": [-1]}, "row 1: 'a' with count -1 is not an entry"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_refused(tmp_path, columns, message):
    path = tmp_path / "brands.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(UserError, match=message):
        Vocabulary.load(path)


def test_a_vocabulary_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    path = tmp_path / "brands.parquet"
    path.mkdir()  # so that the finished file cannot take its name
    with pytest.raises(UserError, match=r"brands\.parquet: is a folder, not a file"):
        Vocabulary(("nike",), (2,)).save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["brands.parquet"]
