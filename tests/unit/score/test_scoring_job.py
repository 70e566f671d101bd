"""A file of pairs in, the same file with scores out: nothing lost, nothing reordered, nothing half-written."""

import csv
import json
import re
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from scoring_stub import QUERIES, Stub, read, score, table_of, write

from zhichun.core.errors import UserError
from zhichun.data.readers.sources import open_table
from zhichun.score.folders import fingerprint
from zhichun.score.job import ScoringJob
from zhichun.text.pairs import PairTexts

NEW = ["p_E", "p_S", "p_C", "p_I", "label", "gain"]


@pytest.mark.parametrize("kind", [".parquet", ".csv", ".tsv"])
@pytest.mark.parametrize("rows", [1, 9, 10, 11, 40])
def test_the_same_rows_come_out_in_order_with_the_scores_behind_them(scorer, tmp_path, kind, rows):
    pairs = write(table_of(rows), tmp_path / f"pairs{kind}")
    out = tmp_path / f"out{kind}"
    assert score(scorer, pairs, out) == rows
    given, scored = read(pairs), read(out)
    assert scored[0] == [*given[0], *NEW]
    assert [row[: len(given[0])] for row in scored] == given
    assert scorer.calls == [10] * (rows // 10) + [rows % 10] * (rows % 10 > 0)
    assert sorted(tmp_path.iterdir()) == sorted([pairs, out])


def test_json_lines_go_out_as_they_came_in_with_the_digits_that_scores_have(scorer, tmp_path):
    rows = [
        {"id": 7, "query": "q", "title": "a “b”\nc", "note": None},
        {"id": 8, "query": "靴", "title": "d", "note": ["x"]},
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    score(scorer, tmp_path / "pairs.jsonl", tmp_path / "out.jsonl")
    found = [json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["title"] for row in found] == ["a “b”\nc", "d"]
    assert [row["note"] for row in found] == [None, "x"]
    assert list(found[0])[-len(NEW) :] == NEW
    expected = scorer.predict(scorer.read(PairTexts(["q", "靴"], {"title": ["a “b”\nc", "d"]}, ["us", "us"]))).score
    assert [str(row["gain"]) for row in found] == [str(one) for one in expected]
    assert open_table(tmp_path / "out.jsonl").total > 0  # and can come in again


def test_an_object_in_a_column_that_nothing_reads_is_kept_as_its_json(scorer, tmp_path):
    rows = [
        '{"query": "q", "title": "a", "of": {"size": [1.50, 12345678901234567890123], "“": {"x": null}}, "n": 7}',
        '{"title": "b", "query": "q", "of": [{"k": true}, "plain"], "n": 8.0}',
        '{"query": "q", "title": "c", "n": {}}',
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(rows), "utf-8")
    for kind in (".jsonl", ".parquet", ".csv"):
        assert score(scorer, tmp_path / "pairs.jsonl", tmp_path / f"out{kind}") == 3
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column("of").to_pylist() == [
        '{"size": [1.50, 12345678901234567890123], "“": {"x": null}}',
        '{"k": true}\nplain',
        None,
    ]
    assert table.column("n").to_pylist() == ["7", "8", "{}"]
    deep = f"{'[' * 600}{']' * 600}"
    for bad, reason in (
        ('{"query": {"a": 1}, "title": "a"}', "the value of 'query' is an object"),
        ('{"query": "q", "title": [{"a": 1}]}', "the value of 'title' is an object"),
        (f'{{"query": "q", "title": "a", "of": {deep}}}', "lists within lists"),
    ):
        (tmp_path / "pairs.jsonl").write_text(f"{rows[0]}\n{bad}\n", "utf-8")
        with pytest.raises(UserError, match=rf"row 2: value is no text \({reason}\)"):
            score(scorer, tmp_path / "pairs.jsonl", tmp_path / "bad.csv")


def test_files_of_json_may_lack_keys_that_others_have(scorer, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    rows = {
        "1": {"query": "q", "title": "a", "note": "x"},
        "2": {"title": "b", "query": "q", "brand": "y"},
        "3": {"query": "q", "title": "c"},
    }
    for name, row in rows.items():
        (folder / f"{name}.jsonl").write_text(json.dumps(row), "utf-8")
    (folder / "4.json").write_text("[]")
    assert score(scorer, folder, tmp_path / "out.jsonl") == 3
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert [[row[name] for name in ("title", "note", "brand")] for row in found] == [
        ["a", "x", None],
        ["b", None, "y"],
        ["c", None, None],
    ]
    branded = PairTexts(["q"], {"title": ["b"], "brand": ["y"]}, ["us"])
    assert found[1]["gain"] == pytest.approx(float(scorer.predict(scorer.read(branded)).score[0]))
    (folder / "0.jsonl").write_text('{"query": "q", "note": "x"}')
    with pytest.raises(UserError, match=r"0\.jsonl: no column 'title'; the file has 'query', 'note'"):
        score(scorer, folder, tmp_path / "bad.jsonl")
    (folder / "0.jsonl").write_text('{"query": "q", "title": "x", "Note": "x"}')
    with pytest.raises(UserError, match=r"2 columns of one name: 'Note', 'note'"):
        score(scorer, folder, tmp_path / "bad.jsonl")


def test_a_run_file_has_the_best_of_each_query_first_and_can_be_compared(scorer, tmp_path):
    table = table_of(30).append_column("query_id", pa.array([f"q{row % 3}" for row in range(30)]))
    pairs = write(table.append_column("product_id", pa.array([f"p{row}" for row in range(30)])), tmp_path / "pairs.csv")
    score(scorer, pairs, tmp_path / "out.run")
    score(scorer, pairs, tmp_path / "out.parquet")
    lines = [line.split() for line in (tmp_path / "out.run").read_text().splitlines()]
    assert [line[0] for line in lines] == [f"q{query}" for query in range(3) for _ in range(10)]
    assert [int(line[3]) for line in lines] == [*range(1, 11)] * 3
    of = pq.read_table(tmp_path / "out.parquet")
    expected = dict(zip(of["product_id"].to_pylist(), of["gain"].to_numpy(), strict=True))
    assert all(np.float32(line[4]) == expected[line[2]] for line in lines)
    scores = [float(line[4]) for line in lines[:10]]
    assert scores == sorted(scores, reverse=True)


def test_what_a_run_file_cannot_hold_is_refused(scorer, tmp_path):
    pairs = write(table_of(3).append_column("product_id", pa.array(["1", "2", "3"])), tmp_path / "pairs.csv")
    with pytest.raises(UserError, match="needs a column 'query_id'"):
        score(scorer, pairs, tmp_path / "out.run")
    with_space = table_of(1).append_column("product_id", pa.array(["1 2"])).append_column("query_id", pa.array(["q"]))
    without = with_space.set_column(with_space.num_columns - 1, "query_id", pa.array([None], pa.int64()))
    with pytest.raises(UserError, match="the id '' cannot stand in a TREC file"):
        score(scorer, write(without, tmp_path / "gap.parquet"), tmp_path / "out.run")
    with pytest.raises(UserError, match="the id '1 2' cannot stand in a TREC file"):
        score(scorer, write(with_space, tmp_path / "spaces.csv"), tmp_path / "out.run")
    assert not (tmp_path / "out.run").exists()


def test_the_kind_and_the_chunks_do_not_change_the_scores(scorer, tmp_path):
    table = table_of(33)
    scores = []
    for given, made, rows in ((".parquet", ".parquet", 5), (".csv", ".parquet", 33), (".tsv", ".csv", 1000)):
        out = tmp_path / f"out{made}"
        score(scorer, write(table, tmp_path / f"pairs{given}"), out, chunk_rows=rows)
        header, *lines = read(out)
        scores.append([float(line[header.index("gain")]) for line in lines])
        out.unlink()
    assert scores[1] == pytest.approx(scores[0], abs=1e-7)
    assert scores[2] == pytest.approx(scores[0], abs=1e-7)
    assert len(set(scores[0])) > 10


def test_texts_stay_as_they_are_written_in_a_csv(scorer, tmp_path):
    pairs = tmp_path / "pairs.csv"
    pairs.write_bytes(
        '\ufeffid,query,title,note\r\n007,q,"a ""b"", c",NULL\r\n1e5,q,,\r\n\r\n 8 ,q,"line\nbreak",true\r\n'.encode()
    )
    score(scorer, pairs, tmp_path / "out.csv")
    header, *rows = read(tmp_path / "out.csv")
    assert header[:4] == ["id", "query", "title", "note"]
    assert [row[:4] for row in rows] == [
        ["007", "q", 'a "b", c', "NULL"],
        ["1e5", "q", "", ""],
        [" 8 ", "q", "line\nbreak", "true"],
    ]


def test_a_field_of_a_megabyte_is_read_and_kept(scorer, tmp_path):
    long = "red shoe " * 120_000
    write(pa.table({"query": ["q", "q"], "title": [long, "a"]}), tmp_path / "pairs.csv")
    limit = csv.field_size_limit()
    score(scorer, tmp_path / "pairs.csv", tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["title"].to_pylist() == [long, "a"]
    assert csv.field_size_limit() == limit


def test_products_are_looked_up_by_id_and_locale(scorer, tmp_path):
    catalogue = pa.table(
        {"product_id": ["1", "1", "2"], "title": ["us one", "jp one", "us two"], "locale": ["us", "jp", "us"]}
    )
    write(catalogue, tmp_path / "catalogue.csv")
    rows = [("1", "us"), ("2", ""), (" 1", "JP"), ("1", "")]
    looked_up = pa.table({"query": ["q"] * 4, "product_id": [r[0] for r in rows], "locale": [r[1] for r in rows]})
    with_texts = pa.table(
        {"query": ["q"] * 4, "title": ["us one", "us two", "jp one", "us one"], "locale": ["us", "us", "jp", "us"]}
    )
    gains = []
    for table, place in ((looked_up, tmp_path / "catalogue.csv"), (with_texts, None)):
        score(scorer, write(table, tmp_path / "pairs.csv"), tmp_path / "out.parquet", catalogue=place)
        gains.append(pq.read_table(tmp_path / "out.parquet")["gain"].to_pylist())
    assert gains[0] == gains[1]
    assert len(set(gains[0])) == 3


def test_own_column_names_of_both_tables(scorer, tmp_path):
    write(pa.table({"sku": [7.0, 8.0], "name": ["seven", "eight"]}), tmp_path / "catalogue.parquet")
    write(pa.table({"search": ["q", "q"], "item": pa.array([8, 7])}), tmp_path / "pairs.parquet")
    columns = {"query": "search", "product_id": "item", "products.product_id": "sku", "products.title": "name"}
    options = {"catalogue": tmp_path / "catalogue.parquet", "columns": columns}
    assert score(scorer, tmp_path / "pairs.parquet", tmp_path / "out.parquet", **options) == 2


def test_columns_of_any_type_that_can_be_text(scorer, tmp_path):
    table = pa.table(
        {
            "query": pa.array(["q", "r"]).dictionary_encode(),
            "title": pa.array([b"bytes", None]),
            "bullets": [["one", "two"], None],
            "brand": [7.0, None],
        }
    )
    assert score(scorer, write(table, tmp_path / "pairs.parquet"), tmp_path / "out.parquet") == 2


def test_a_prefix_keeps_new_columns_apart_from_old_ones(scorer, tmp_path):
    write(pa.table({"query": ["q"], "title": ["t"], "label": ["E"]}), tmp_path / "pairs.csv")
    score(scorer, tmp_path / "pairs.csv", tmp_path / "out.csv", prefix="model_")
    assert read(tmp_path / "out.csv")[0] == ["query", "title", "label", *(f"model_{name}" for name in NEW)]


@pytest.mark.parametrize("kind", [".parquet", ".csv"])
def test_memory_does_not_grow_with_the_file(scorer, tmp_path, kind):
    def peak(rows):
        pairs = write(
            pa.table({"query": ["red shoes"] * rows, "title": ["x" * 2000] * rows}), tmp_path / f"pairs{kind}"
        )
        before = pa.total_allocated_bytes()
        highest = []
        tracemalloc.start()
        job = ScoringJob(scorer, pairs, tmp_path / "out.csv", model_fingerprint=str(rows), chunk_rows=100)
        job.run(lambda _: highest.append(pa.total_allocated_bytes() - before))
        python = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return python + max(highest)

    peak(100)  # what is made once only
    small, large = peak(400), peak(4000)
    assert large < 2 * small, "eight megabytes of texts went through 200 kB at a time"


@pytest.mark.parametrize("kind", [".parquet", ".csv"])
def test_long_texts_make_chunks_of_fewer_rows(scorer, tmp_path, kind):
    titles = ["x" * (100_000 if row % 1000 < 300 else 10) for row in range(2000)]
    pairs = write(pa.table({"query": ["q"] * 2000, "title": titles}), tmp_path / f"pairs{kind}")
    options = {"chunk_rows": 1500, "chunk_bytes": 1 << 20}
    assert score(scorer, pairs, tmp_path / "out.parquet", **options) == 2000
    assert scorer.calls[0] == 11
    assert max(scorer.calls) <= 1500
    assert pq.read_table(tmp_path / "out.parquet")["title"].to_pylist() == titles


def test_products_looked_up_are_held_piece_by_piece(scorer, tmp_path):
    ids, titles = [str(row) for row in range(40)], [f"{row} " * 100 for row in range(40)]
    write(pa.table({"product_id": ids, "title": titles}), tmp_path / "catalogue.parquet")
    pairs = pa.table({"row": range(40), "query": QUERIES * 10, "product_id": ids[::-1], "locale": ["us"] * 40})
    write(pairs, tmp_path / "pairs.parquet")
    options = {"catalogue": tmp_path / "catalogue.parquet", "chunk_rows": 30}
    whole, cut = tmp_path / "whole.parquet", tmp_path / "cut.parquet"
    score(Stub(), tmp_path / "pairs.parquet", whole, **options)
    score(scorer, tmp_path / "pairs.parquet", cut, **options, chunk_bytes=1000)
    assert max(scorer.calls) <= 6, "each title has two or three hundred bytes"
    assert sum(scorer.calls) == 40
    assert pq.read_table(cut).equals(pq.read_table(whole))


def test_the_fingerprint_of_a_model_covers_all_of_its_files(tmp_path):
    (tmp_path / "vocabulary").mkdir()
    files = [tmp_path / "model.safetensors", tmp_path / "tokenizer.json", tmp_path / "vocabulary" / "brands.parquet"]
    for path in files:
        path.write_bytes(b"0")
    seen = {fingerprint(tmp_path)}
    for path in files:
        path.write_bytes(b"1")
        seen.add(fingerprint(tmp_path))
    assert len(seen) == 4
    (tmp_path / "vocabulary" / ".DS_Store").write_bytes(b"what a system leaves in a folder that was looked at")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "download.lock").write_bytes(b"")
    assert fingerprint(tmp_path) in seen
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in seen)


def test_columns_of_the_user_s_own_go_to_a_scorer_that_reads_them(scorer, tmp_path):
    scorer.own, given = ("price",), []
    of_stub = scorer.read
    scorer.read = lambda texts: given.append(texts.products.pop("price")) or of_stub(texts)
    score(scorer, write(table_of(6), tmp_path / "pairs.csv"), tmp_path / "out.csv")
    assert given == [["", "0.25", "0.5", "0.75", "1", ""]]
    catalogue = tmp_path / "products.csv"
    catalogue.write_text("product_id,title,price\na,Shoe,7\nb,Hat,\n", "utf-8")
    (tmp_path / "ids.csv").write_text("query,product_id\nshoe,b\nshoe,a\n", "utf-8")
    score(scorer, tmp_path / "ids.csv", tmp_path / "scored.csv", catalogue=catalogue)
    assert given[1] == ["", "7"]
    catalogue.write_text("product_id,title\na,Shoe\nb,Hat\n", "utf-8")
    with pytest.raises(UserError, match="no column 'price'"):
        score(scorer, tmp_path / "ids.csv", tmp_path / "other.csv", catalogue=catalogue)
