"""A file of pairs in, the same file with scores out: nothing lost, nothing reordered, nothing half-written."""

import csv
import os
import re
import threading
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from zhichun.errors import UserError
from zhichun.scoring.scoring_job import ScoringJob, fingerprint
from zhichun.tasks import TASKS

NEW = ["p_E", "p_S", "p_C", "p_I", "label", "gain"]
QUERIES = ["red shoes", "Zapatillas, rojas", '10" blade', "赤い 靴"]


class Stub:
    """A scorer without a network: its gain is a function of the query and the product alone."""

    task = TASKS["esci"]
    lookahead = 0

    def __init__(self):
        self.calls = []

    def reading(self, queries, products, locales):
        return lambda progress=None: self.score_pairs(queries, products, locales, progress=progress)

    def score_pairs(self, queries, products, locales, *, progress=None):
        self.calls.append(len(queries))
        texts = zip(queries, locales, *([text or "" for text in column] for column in products.values()), strict=True)
        logits = [[sum(map(ord, "".join(text))) % 97 / 97, 0, 0, 0] for text in texts]
        if progress:
            progress(len(queries))
        return self.task.predict(np.asarray(logits, np.float32))


@pytest.fixture
def scorer():
    return Stub()


def table_of(rows):
    return pa.table(
        {
            "shop": pa.array(range(rows), pa.int64()),
            "query": [QUERIES[row % 4] for row in range(rows)],
            "title": [None if row % 7 == 6 else f"product, {row}\nin two lines" for row in range(rows)],
            "price": [None if row % 5 == 0 else row / 4 for row in range(rows)],
            "locale": ["us", "es", "us", "jp"][: max(rows, 1)] * (rows // 4) + ["us"] * (rows % 4),
        }
    )


def write(table, path):
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=7)
    else:
        options = pa.csv.WriteOptions(delimiter="\t" if path.suffix == ".tsv" else ",")
        pa.csv.write_csv(table, path, write_options=options)
    return path


def read(path):
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return [table.column_names, *map(list, zip(*(column.to_pylist() for column in table.columns), strict=True))]
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True))


def score(scorer, pairs, out, **options):
    return ScoringJob(scorer, pairs, out, **{"model_fingerprint": "a", "chunk_rows": 10, **options}).run()


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


def interrupt_after(scorer, calls):
    """Let the process die, as it were, before its next chunk."""
    whole = scorer.score_pairs

    def score_pairs(*arguments, **options):
        if len(scorer.calls) == calls:
            raise KeyboardInterrupt
        return whole(*arguments, **options)

    scorer.score_pairs = score_pairs


def killed(pairs, out, calls=2, **options):
    scorer = Stub()
    interrupt_after(scorer, calls)
    with pytest.raises(KeyboardInterrupt):
        score(scorer, pairs, out, **options)
    assert not out.exists()
    assert len(list(out.with_name(f"{out.name}.parts").glob("part-*.parquet"))) == calls


@pytest.fixture
def pairs(tmp_path):
    return write(table_of(35), tmp_path / "pairs.parquet")


def test_a_killed_job_goes_on_after_its_last_whole_part(scorer, pairs, tmp_path):
    whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
    score(Stub(), pairs, whole)
    killed(pairs, out)
    (tmp_path / "out.csv.parts" / "partial-part-000002.parquet").write_bytes(b"half")
    progress = []
    assert ScoringJob(scorer, pairs, out, model_fingerprint="a", chunk_rows=10).run(progress.append) == 35
    assert scorer.calls == [10, 5]
    assert sum(progress) == 35
    assert out.read_bytes() == whole.read_bytes()
    assert not (tmp_path / "out.csv.parts").exists()


class ReadsAhead(Stub):
    """Reads while it scores, and scores no piece before the next one is read."""

    lookahead = 1

    def __init__(self, pieces):
        super().__init__()
        self.read = [threading.Event() for _ in range(pieces)]
        self.readings = 0

    def reading(self, queries, products, locales):
        after = self.read[min(self.readings + 1, len(self.read) - 1)]
        self.read[self.readings].set()
        self.readings += 1

        def score(progress=None):
            assert after.wait(10)
            return self.score_pairs(queries, products, locales, progress=progress)

        return score


def test_texts_are_read_while_the_pairs_before_are_scored(pairs, tmp_path):
    whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
    score(Stub(), pairs, whole)
    score(ReadsAhead(4), pairs, out)
    assert out.read_bytes() == whole.read_bytes()


def test_a_job_that_reads_ahead_goes_on_after_a_kill_too(pairs, tmp_path):
    whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
    score(Stub(), pairs, whole)
    killed(pairs, out)
    scorer = ReadsAhead(2)
    score(scorer, pairs, out)
    assert scorer.calls == [10, 5]
    assert out.read_bytes() == whole.read_bytes()


def test_an_error_in_what_is_read_ahead_names_its_row_and_leaves_nothing(tmp_path):
    table = table_of(35).set_column(1, "query", pa.array([*["q"] * 33, "", "q"]))
    write(table, tmp_path / "pairs.parquet")
    scorer = Stub()
    scorer.lookahead = 3
    with pytest.raises(UserError, match="the query is empty") as refused:
        score(scorer, tmp_path / "pairs.parquet", tmp_path / "out.csv")
    assert refused.value.row == 34
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    "change",
    [
        {"model_fingerprint": "b"},
        {"prefix": "x_"},
        {"chunk_rows": 20},
        {"chunk_bytes": 20},
        {"locale": "jp"},
        {"columns": {"title": "query"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_parts_of_another_model_or_with_other_options_are_not_used(scorer, pairs, tmp_path, change):
    out = tmp_path / "out.parquet"
    killed(pairs, out)
    score(scorer, pairs, out, **change)
    assert sum(scorer.calls) == 35


def test_parts_of_another_input_or_catalogue_are_not_used(scorer, tmp_path):
    catalogue = write(pa.table({"product_id": ["1"], "title": ["old"]}), tmp_path / "catalogue.csv")
    pairs = write(pa.table({"query": ["q"] * 30, "product_id": ["1"] * 30}), tmp_path / "pairs.csv")
    out = tmp_path / "out.csv"
    for changed in (pairs, catalogue):
        killed(pairs, out, catalogue=catalogue)
        stat = changed.stat()
        os.utime(changed, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
        scorer.calls.clear()
        score(scorer, pairs, out, catalogue=catalogue)
        assert sum(scorer.calls) == 30
        out.unlink()


def test_a_folder_of_parts_without_a_plan_is_started_anew(scorer, pairs, tmp_path):
    parts = tmp_path / "out.parquet.parts"
    parts.mkdir()
    (parts / "part-000000.parquet").write_bytes(b"of something else")
    assert score(scorer, pairs, tmp_path / "out.parquet") == 35


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
    first = 250 if kind == ".parquet" else 11  # Parquet is read so many rows at a time
    assert scorer.calls[0] == first
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
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in seen)
