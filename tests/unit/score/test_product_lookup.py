"""Looking products up: the right one or none, whatever their hashes, and pieces of bounded size; rankings as files."""

import numpy as np
import pyarrow as pa
import pytest

from zhichun.core import schema
from zhichun.core.tasks import TASKS
from zhichun.data.readers.rejected import FirstRefusal
from zhichun.data.readers.sources import open_table
from zhichun.score import rank as product_lookup
from zhichun.score.rank import ProductLookup, Ranked, write_ranking


def catalogue(ids, locales=None, titles=None):
    texts = dict.fromkeys(schema.TEXT_COLUMNS, pa.nulls(len(ids), pa.string()))
    titles = titles or [f"title of {each}" for each in ids]
    columns = {schema.PRODUCT_ID: ids, schema.LOCALE: locales or ["us"] * len(ids), **texts, schema.TITLE: titles}
    return pa.table({name: pa.array(column, pa.large_string()) for name, column in columns.items()})


def rows_of(lookup, ids, locales=None):
    return lookup.rows(*(pa.array(each, pa.large_string()) for each in (locales or ["us"] * len(ids), ids))).tolist()


def one_hash_for_all(keys):
    return np.zeros(len(keys), np.int64)


@pytest.mark.parametrize("hashes", [product_lookup._hashes, one_hash_for_all])
def test_a_product_is_found_by_locale_and_id_even_where_hashes_are_the_same(monkeypatch, hashes):
    monkeypatch.setattr(product_lookup, "_hashes", hashes)
    lookup = ProductLookup(catalogue(["1", "2", "1", "é赤", "2"], ["us", "us", "jp", "us", "us"]))
    asked = ["é赤", "1", "2", "1", "3", None, "1"]
    assert rows_of(lookup, asked, ["us", "jp", "us", "us", "us", "us", "es"]) == [3, 2, 1, 0, -1, -1, -1]


def test_nothing_is_found_in_an_empty_catalogue():
    assert rows_of(ProductLookup(catalogue([])), ["1", "2"]) == [-1, -1]
    assert rows_of(ProductLookup(catalogue(["1"])), []) == []


def test_it_is_the_same_in_many_chunks_and_hashed_in_parts(monkeypatch):
    monkeypatch.setattr(product_lookup, "_HASHED_AT_ONCE", 7)
    ids = [str(number) for number in np.random.default_rng(0).permutation(1000)]
    parts = [catalogue(ids[start : start + 90]) for start in range(0, 1000, 90)]
    lookup = ProductLookup(pa.concat_tables(parts))
    assert rows_of(lookup, ids) == list(range(1000))
    assert lookup.texts(np.asarray([999, 0, 999]))[schema.TITLE] == [f"title of {ids[row]}" for row in (999, 0, 999)]


def test_the_catalogue_is_hashed_once_for_all_chunks(monkeypatch):
    lookup, hashed, whole = ProductLookup(catalogue(["1", "2", "3"])), [], product_lookup._hashes
    monkeypatch.setattr(product_lookup, "_hashes", lambda keys: hashed.append(len(keys)) or whole(keys))
    for ids in (["1"], ["2", "3"]):
        rows_of(lookup, ids)
    assert hashed == [1, 2]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([4, 4, 4, 4, 4], [3, 2]),  # a piece is full with its third product
        ([30, 1, 1], [1, 2]),
        ([0, 0, 0], [3]),
        ([10, 10, 10], [1, 1, 1]),
        ([1], [1]),
    ],
)
def test_pieces_hold_no_more_than_asked_for_but_for_their_last_product(sizes, expected):
    lookup = ProductLookup(catalogue([str(row) for row in range(len(sizes))], titles=["x" * size for size in sizes]))
    pieces = list(lookup.pieces(np.arange(len(sizes)), 10))
    assert [piece.stop - piece.start for piece in pieces] == expected
    assert np.concatenate([np.arange(len(sizes))[piece] for piece in pieces]).tolist() == list(range(len(sizes)))


@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".run"])
def test_a_ranking_is_written_whole_and_read_again_as_that_of_another_system(kind, tmp_path):
    ranked = [Ranked("b", "hat", 0.75, "E", (0.7, 0.1, 0.1, 0.1)), Ranked("a", "shoe", 0.1, None, (0.25,) * 4)]
    out = tmp_path / f"ranking{kind}"
    write_ranking(out, ranked, "red hat", "us", TASKS["esci"].classes, "q7")
    if kind == ".run":
        assert out.read_text() == "q7 Q0 b 1 0.75 zhichun\nq7 Q0 a 2 0.1 zhichun\n"
        return
    names = ["query", "product_id", "rank", "score", "label", "p_E"]
    rows = [
        row
        for batch in open_table(out).batches({name: name for name in names}, FirstRefusal(out))
        for row in zip(*(batch.columns[name].to_pylist() for name in names), strict=True)
    ]
    assert rows[0] == ("red hat", "b", "1", "0.75", "E", "0.7")
    assert [cell or None for cell in rows[1]] == ["red hat", "a", "2", "0.1", None, "0.25"]
