"""One job of several processes: the same parts whoever makes them, nothing lost, nothing of another job."""

import errno
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from scoring_stub import Stub, table_of, write

from zhichun.cli import main
from zhichun.core.errors import UserError
from zhichun.core.storage import LocalFolder
from zhichun.data.readers.lines import JsonTable
from zhichun.score.job import ScoringJob, finish_job
from zhichun.score.job_folder import JobFolder
from zhichun.score.parts import Shard


@pytest.fixture
def given(tmp_path):
    folder = tmp_path / "in"
    (folder / "more").mkdir(parents=True)
    for number, rows in enumerate((35, 0, 12)):
        write(table_of(35).slice(0, rows), folder / f"{number}.parquet")
    write(table_of(35).slice(0, 23), folder / "more" / "3.parquet")
    (folder / "_made.parquet").write_bytes(b"not of the input")
    return folder


def job(given, out, scorer=None, **options):
    return ScoringJob(scorer or Stub(), given, out, **{"model_fingerprint": "a", "chunk_rows": 10, **options})


def run(given, out, shards=1, order=None, **options):
    """Run shards one after the other; gives the totals of the job, which only the last one knows."""
    wholes = []
    for index in order or range(shards):
        wholes.append(job(given, out, **options).run_shard(Shard(index, shards))[1])
    assert wholes[:-1] == [None] * (len(wholes) - 1)
    return wholes[-1]


def files(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(Path(out).rglob("*.parquet"))}


def test_one_two_and_seven_shards_make_the_same_bytes(given, tmp_path):
    outs = {}
    for shards, order in ((1, None), (2, [1, 0]), (7, [3, 6, 0, 5, 1, 2, 4])):
        out = tmp_path / str(shards)
        assert run(given, out, shards, order) == (70, 0)
        outs[shards] = files(out)
        success = json.loads((out / "_SUCCESS").read_text())
        assert success == {"rows": 70, "failed": 0, "parts": 10}
    assert outs[1] == outs[2] == outs[7]
    assert len(outs[1]) == 4 + 1 + 2 + 3


def test_shards_read_whole_files_where_there_are_many(tmp_path):
    for number in range(16):
        write(table_of(12), tmp_path / "in" / f"{number:02}.csv") if number else (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.csv").write_text("query,title\nq,t\n")  # of other columns; the last one by name
    scorer = Stub()
    job(tmp_path / "in", tmp_path / "out", scorer).run_shard(Shard(0, 4))
    assert sum(scorer.calls) == 4 * 12
    with pytest.raises(
        UserError,
        match=r"bad\.csv: has other columns than the other files, or other types of them: locale, price, shop",
    ):
        job(tmp_path / "in", tmp_path / "out").run_shard(Shard(3, 4))


def test_the_same_columns_in_another_order_or_as_other_texts_are_the_same(tmp_path):
    table, folder = table_of(12), tmp_path / "in"
    folder.mkdir()
    large = pa.schema(
        [(field.name, pa.large_string() if field.name == "title" else field.type) for field in table.schema]
    )
    write(table, folder / "0.parquet")
    write(table.cast(large).select(table.column_names[::-1]), folder / "1.parquet")
    write(table.set_column(1, "query", table.column("query").dictionary_encode()), folder / "2.parquet")
    write(table.set_column(2, "title", pa.nulls(12)), folder / "3.parquet")
    assert run(folder, tmp_path / "out", 2) == (48, 0)
    parts = [pq.read_table(path) for path in sorted((tmp_path / "out").glob("part-*"))]
    assert all(part.schema == parts[0].schema for part in parts)
    assert parts[2].drop_columns(["row_id"]) == parts[0].drop_columns(["row_id"])


def test_files_of_json_are_fetched_once_and_once_more_for_all_keys(tmp_path, monkeypatch):
    store, fetched = pytest.importorskip("fsspec").filesystem("memory"), []
    for number in range(8):
        store.pipe_file(f"/lines/{number}.jsonl", f'{{"query": "q", "title": "t", "key {number}": 1}}'.encode())
    get = type(store).get_file
    monkeypatch.setattr(type(store), "get_file", lambda self, file, *of: (fetched.append(file), get(self, file, *of)))
    for index in range(2):
        job("memory://lines", tmp_path / "out").run_shard(Shard(index, 2))
        assert len(fetched) == 8 + 4 * (index + 1)
    assert len(pq.read_schema(next((tmp_path / "out").glob("part-*"))).names) > 10
    store.rm("/lines", recursive=True)


def test_one_file_of_json_is_read_for_its_keys_by_one_shard_alone(tmp_path, monkeypatch):
    rows, read, lines = table_of(35).to_pylist(), list[int](), JsonTable._lines
    (tmp_path / "in.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in [*rows, rows[0] | {"note": "last"}]))
    monkeypatch.setattr(JsonTable, "_lines", lambda table: (read.append(0), lines(table))[1])
    assert run(tmp_path / "in.jsonl", tmp_path / "out", 3) == (36, 0)
    assert len(read) == 1 + 3
    assert run(tmp_path / "in.jsonl", tmp_path / "alone") == (36, 0)
    assert files(tmp_path / "out") == files(tmp_path / "alone")


def test_more_files_than_a_process_may_open_are_counted(given, tmp_path):
    (tmp_path / "many").mkdir()
    for number in range(100):
        shutil.copy(given / "2.parquet", tmp_path / "many" / f"{number}.parquet")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 50, limits[1]))
    try:
        assert job(tmp_path / "many", tmp_path / "out").total() == 1200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_columns_that_the_result_has_itself_are_refused_before_anything_is_scored(tmp_path):
    pairs, scorer = (
        write(table_of(12).rename_columns(["row_id", "query", "title", "price", "locale"]), tmp_path / "a.csv"),
        Stub(),
    )
    with pytest.raises(UserError, match="has a column 'row_id' already"):
        job(pairs, tmp_path / "out", scorer).run_shard()
    assert scorer.calls == []


def test_the_result_is_read_as_one_table_with_ids_of_rows(given, tmp_path):
    run(given, tmp_path / "out", 2)
    table = ds.dataset(tmp_path / "out").to_table()
    assert table.num_rows == 70
    ids = table.column("row_id").to_pylist()
    assert len(set(ids)) == 70
    assert {"0.parquet:1", "0.parquet:35", "2.parquet:12", "more/3.parquet:23"} <= set(ids)
    alone = tmp_path / "alone.parquet"
    job(given / "0.parquet", alone).run()
    by_id = dict(zip(ids, table.column("gain").to_pylist(), strict=True))
    assert [by_id[f"0.parquet:{row}"] for row in range(1, 36)] == pq.read_table(alone).column("gain").to_pylist()


def test_a_pattern_names_files_too(given, tmp_path):
    assert run(f"{given}/[02].parquet", tmp_path / "out") == (47, 0)
    assert run(f"{given}/**/3.parquet", tmp_path / "deep") == (23, 0)
    with pytest.raises(UserError, match=r"there is no file that ends with \.parquet"):
        run(f"{given}/x*.parquet", tmp_path / "none")


class DiesAfter(Stub):
    def __init__(self, calls):
        super().__init__()
        self.left = calls

    def predict(self, *arguments, **options):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().predict(*arguments, **options)


def test_a_killed_shard_goes_on_and_damaged_parts_are_made_again(given, tmp_path):
    run(given, tmp_path / "calm")
    whole, out = files(tmp_path / "calm"), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        job(given, out, DiesAfter(2)).run_shard(Shard(0, 2))
    assert len(files(out)) >= 2
    first, second = sorted(out.glob("part-*.parquet"))[:2]
    first.write_bytes(first.read_bytes()[:-20])
    for left in (f"{second.name}.partial-999999-0badcafe", "_failed/x.partial-999999-0badcafe", "_shards/.nfs01"):
        (out / left).parent.mkdir(exist_ok=True)
        (out / left).write_bytes(b"half")
    scorer = Stub()
    assert job(given, out, scorer).run_shard(Shard(0, 2))[1] is None
    assert sum(scorer.calls) < 70 - 10
    assert run(given, out, 2, [1]) == (70, 0)
    assert files(out) == whole
    assert not list(out.rglob("*.partial-*"))


def test_a_part_that_is_damaged_after_the_end_is_made_again(given, tmp_path):
    out = tmp_path / "out"
    run(given, out)
    whole, scorer = files(out), Stub()
    assert job(given, out, scorer).run_shard()[1] == (70, 0)
    assert scorer.calls == []
    part = next(out.glob("part-00003-*"))
    part.write_bytes(part.read_bytes()[:50])
    assert job(given, out, scorer).run_shard()[1] == (70, 0)
    assert scorer.calls == [10]
    assert files(out) == whole


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_fingerprint": "b"}, 'model was "a" and is "b"'),
        ({"prefix": "x_"}, 'prefix was "" and is "x_"'),
        ({"chunk_rows": 20}, "chunk_rows was 10 and is 20"),
        ({"columns": {"title": "query"}}, 'columns was {} and is {"title": "query"}'),
    ],
)
def test_another_job_is_refused_with_what_differs(given, tmp_path, change, said):
    job(given, tmp_path / "out").run_shard(Shard(0, 2))
    before = files(tmp_path / "out")
    with pytest.raises(UserError, match="the folder holds another job") as refused:
        job(given, tmp_path / "out", **change).run_shard(Shard(1, 2))
    assert said in refused.value.problem
    assert files(tmp_path / "out") == before


def test_a_changed_or_further_file_between_two_calls_is_refused(given, tmp_path):
    job(given, tmp_path / "out").run_shard(Shard(0, 2))
    write(table_of(35).slice(0, 13), given / "2.parquet")
    with pytest.raises(UserError, match=r"2\.parquet has changed"):
        job(given, tmp_path / "out").run_shard(Shard(1, 2))
    write(table_of(35).slice(0, 13), given / "4.parquet")
    with pytest.raises(UserError, match="files was"):
        job(given, tmp_path / "out").run_shard(Shard(1, 2))


@pytest.mark.parametrize("number", [0, 2])
def test_a_file_that_is_changed_while_it_is_read_or_before_its_turn_is_refused(given, tmp_path, number):
    class Changes(Stub):
        def predict(self, *arguments, **options):
            os.utime(given / f"{number}.parquet", ns=(0, 0))
            return super().predict(*arguments, **options)

    with pytest.raises(UserError, match=rf"{number}\.parquet: was changed while it was read"):
        job(given, tmp_path / "out", Changes()).run_shard()


def test_a_shard_that_begins_while_another_writes_its_first_part_is_of_the_same_job(given, tmp_path, monkeypatch):
    listed, others = LocalFolder.names, [lambda: job(given, tmp_path / "out").run_shard(Shard(1, 2))]

    def names(self, under=""):
        found = listed(self, under)
        if others:
            others.pop()()
        return found

    monkeypatch.setattr(LocalFolder, "names", names)
    assert run(given, tmp_path / "out", 2, [0]) == (70, 0)


def test_a_result_among_the_files_is_none_of_them(given, tmp_path):
    assert run(given, given / "scores", 2) == (70, 0)
    assert job(given, given / "scores").run_shard()[1] == (70, 0)
    shutil.rmtree(given / "scores")
    for _ in range(2):
        assert job(given, given / "scored.parquet").run() == 70
        (given / "scored.parquet.parts").mkdir()
        write(table_of(3), given / "scored.parquet.parts" / "part-1.parquet")  # as a killed one leaves it
    with pytest.raises(UserError, match=r"there is no file that ends with .* outside of"):
        run(given, given)
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    for name in ("0.parquet", "2.parquet"):
        store.pipe_file(f"/among/{name}", (given / name).read_bytes())
    assert run("memory://among", "memory://among/scores", 2) == (47, 0)
    store.rm("/among", recursive=True)


@pytest.mark.parametrize("name", ["out.csv", "out.JSONL", "out.run", "out.csv.gz"])
def test_a_store_is_given_no_folder_with_the_name_of_a_file(given, capsys, name):
    with pytest.raises(SystemExit):
        main(["score", "no-run", str(given), f"memory://bucket/{name}"])
    assert re.search(rf"{name}: names a file(.|\n)*Name a folder, without an ending", capsys.readouterr().err)
    with pytest.raises(SystemExit):
        main(["score", "no-run", str(given), "memory://bucket/v1.2"])
    assert re.search("no-run", capsys.readouterr().err)


@pytest.mark.parametrize("out", ["memory://bucket/scores", "new", "there"])
def test_a_folder_of_parts_is_not_overwritten_which_is_said(given, tmp_path, out, capsys):
    (tmp_path / "there").mkdir()
    with pytest.raises(SystemExit):
        main(["score", "no-run", str(given), out if ":" in out else str(tmp_path / out), "--overwrite"])
    assert "--overwrite replaces a file, never a folder of parts" in capsys.readouterr().err


def test_parts_outlive_a_store_that_does_not_answer(given, tmp_path, monkeypatch):
    store = pytest.importorskip("fsspec").filesystem("memory")
    store.put(str(given), "/away/in", recursive=True)
    get = type(store).get_file

    def fails(self, file, *arguments, **options):
        if file.endswith("2.parquet"):
            raise TimeoutError
        return get(self, file, *arguments, **options)

    monkeypatch.setattr(type(store), "get_file", fails)
    with pytest.raises(UserError, match="TimeoutError"):
        job("memory://away/in", tmp_path / "out.parquet").run()
    monkeypatch.undo()
    scorer = Stub()
    assert job("memory://away/in", tmp_path / "out.parquet", scorer).run() == 70
    assert sum(scorer.calls) == 70 - 35
    store.rm("/away", recursive=True)


def test_what_a_store_holds_is_named_by_its_address_and_needs_room_where_it_is_copied(given, tmp_path, monkeypatch):
    store = pytest.importorskip("fsspec").filesystem("memory")
    store.pipe_file("/bad/a[1].csv", b"")
    with pytest.raises(UserError, match=r"^memory:///bad/a\[1\]\.csv: the file is empty"):
        run("memory://bad/a[1].csv", tmp_path / "out")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(type(store), "get_file", full)
    with pytest.raises(UserError, match=r"cannot be copied \(.*No space left(.|\n)*TMPDIR"):
        run("memory://bad", tmp_path / "out")
    store.rm("/bad", recursive=True)


@pytest.mark.parametrize("link", [False, True])
def test_a_file_that_is_not_there_is_said(given, tmp_path, link):
    class Removes(Stub):
        def predict(self, *arguments, **options):
            (given / "2.parquet").unlink(missing_ok=True)
            return super().predict(*arguments, **options)

    if link:
        (given / "4.parquet").symlink_to(given / "nothing.parquet")
    with pytest.raises(
        UserError, match=r"4\.parquet: there is no such file" if link else r"2\.parquet: cannot be read"
    ):
        job(given, tmp_path / "out", Removes()).run_shard()


def test_somebody_s_own_folder_is_left_alone(given, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="holds something else"):
        run(given, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]


def test_rows_that_fail_are_listed_and_tried_again(tmp_path):
    catalogue = write(pa.table({"product_id": ["1", "2"], "title": ["one", "two"]}), tmp_path / "catalogue.csv")
    lines = [f"q{row},{row % 3}" for row in range(30)]
    lines[4], lines[13] = "too,many,values", "<br>,1"
    (tmp_path / "pairs.csv").write_text("query,product_id\n" + "\n".join([*lines, "last"]) + "\n")
    options, out = {"catalogue": catalogue}, tmp_path / "out"
    assert run(tmp_path / "pairs.csv", out, 2, **options) == (18, 13)
    listed = pa.concat_tables(pq.read_table(path) for path in sorted(out.glob("_failed/*.parquet"))).to_pylist()
    assert {row["row"]: row["reason"] for row in listed if row["reason"] != "no such product"} == {
        5: "malformed row",
        14: "empty query",
        31: "malformed row",
    }
    assert [row["row"] for row in listed if row["reason"] == "no such product"] == [1, 4, 7, 10, 13, 16, 19, 22, 25, 28]
    scored = ds.dataset(out).to_table()
    assert scored.num_rows + len(listed) == 31
    assert "pairs.csv:15" in scored.column("row_id").to_pylist()
    write(pa.table({"product_id": ["0", "1", "2"], "title": ["zero", "one", "two"]}), catalogue)
    with pytest.raises(UserError, match="catalogue has changed"):
        run(tmp_path / "pairs.csv", out, **options)
    assert run(tmp_path / "pairs.csv", out, 1, retry_failed=True, **options) == (28, 3)
    assert run(tmp_path / "pairs.csv", tmp_path / "new", 1, **options) == (28, 3)
    assert files(out) == files(tmp_path / "new")


@pytest.mark.parametrize("killed", ["remove", "part"])
def test_a_kill_between_a_part_and_the_list_of_its_failed_rows_leaves_neither_wrong(tmp_path, monkeypatch, killed):
    catalogue = write(pa.table({"product_id": ["1"], "title": ["one"]}), tmp_path / "catalogue.csv")
    (tmp_path / "pairs.csv").write_text("query,product_id\n" + "".join(f"q{row},{row}\n" for row in (0, 1, 2)))
    options, out = {"catalogue": catalogue}, tmp_path / "out"
    run(tmp_path / "pairs.csv", out, **options)
    ids = ["0", "1"] if killed == "part" else ["0", "1", "2"]
    write(pa.table({"product_id": ids, "title": ids}), catalogue)

    def dies(*arguments, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(*((pq, "write_table", dies) if killed == "part" else (LocalFolder, "remove", dies)))
        patch.setattr(JobFolder, "begin_again", lambda self, shard: None)  # which removes too
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "pairs.csv", out, retry_failed=True, **options)
    (out / "_SUCCESS").unlink()
    rows = len(ids)
    assert run(tmp_path / "pairs.csv", out, **options) == (rows, 3 - rows)
    assert sum(pq.read_metadata(path).num_rows for path in out.glob("_failed/*")) == 3 - rows


def test_shards_that_were_done_before_the_catalogue_changed_are_not_done_now(tmp_path):
    catalogue = write(pa.table({"product_id": ["1", "2"], "title": ["one", "two"]}), tmp_path / "catalogue.csv")
    (tmp_path / "pairs.csv").write_text("query,product_id\n" + "".join(f"q{row},{row % 3}\n" for row in range(30)))
    options, out = {"catalogue": catalogue, "retry_failed": True}, tmp_path / "out"
    assert run(tmp_path / "pairs.csv", out, 2, catalogue=catalogue) == (20, 10)
    write(pa.table({"product_id": ["0", "1", "2"], "title": ["zero", "one", "two"]}), catalogue)
    assert run(tmp_path / "pairs.csv", out, 2, **options) == (30, 0)  # known only after the second


def test_a_score_that_is_no_number_is_no_score(given, tmp_path):
    class Broken(Stub):
        def predict(self, pairs, *, progress=None):
            made = super().predict(pairs, progress=progress)
            made.score[np.asarray([title == "product, 4\nin two lines" for title in pairs[1]["product_title"]])] = (
                np.nan
            )
            return made

    assert job(given, tmp_path / "out", Broken()).run_shard()[1] == (67, 3)
    with pytest.raises(UserError, match=r"0\.parquet, row 5: score is not a number"):
        job(given / "0.parquet", tmp_path / "out.csv", Broken()).run()
    assert run(given, tmp_path / "out", 1, retry_failed=True) == (70, 0)


class ReadsLists(Stub):
    """A scorer whose scores depend on how many products a query has."""

    reads_lists = True

    def predict(self, pairs, *, progress=None):
        queries = pairs[0]
        self.calls.append(len(queries))
        logits = [[queries.count(query), len(query), 0, 0] for query in queries]
        return self.task.predict(np.asarray(logits, np.float32))


def test_no_list_is_in_two_parts(tmp_path):
    sizes = [3, 9, 1, 14, 2, 2, 5]
    queries = [f"query {number}" for number, size in enumerate(sizes) for _ in range(size)]
    pairs = write(pa.table({"query": queries, "title": queries}), tmp_path / "pairs.parquet")
    outs = []
    for shards in (1, 3):
        outs.append(tmp_path / str(shards))
        assert run(pairs, outs[-1], shards, scorer=ReadsLists()) == (36, 0)
    assert files(outs[0]) == files(outs[1])
    of_parts = [set(pq.read_table(path).column("query").to_pylist()) for path in outs[0].glob("part-*")]
    assert sum(map(len, of_parts)) == len(sizes)
    assert len(of_parts) > 2


def test_locales_that_are_the_same_make_no_second_list(tmp_path):
    locales = ["us"] * 8 + ["us", "US", "en-US", "", "us", "US"]
    pairs = pa.table({"query": ["one"] * 8 + ["two"] * 6, "title": locales, "locale": locales})
    run(write(pairs, tmp_path / "pairs.parquet"), tmp_path / "out", scorer=ReadsLists())
    assert sorted(pq.read_table(path).num_rows for path in (tmp_path / "out").glob("part-*")) == [6, 8]


def test_a_list_of_which_a_pair_had_no_score_is_scored_whole_again(tmp_path):
    class Broken(ReadsLists):
        def predict(self, pairs, *, progress=None):
            made = super().predict(pairs, progress=progress)
            made.score[[title == "2" for title in pairs[1]["product_title"]]] = np.nan
            return made

    table = pa.table({"query": list("aaaabbb"), "title": list("0123456")})
    pairs, scorer = write(table, tmp_path / "pairs.parquet"), ReadsLists()
    assert run(pairs, tmp_path / "before", scorer=Broken()) == (6, 1)
    assert run(pairs, tmp_path / "after", scorer=scorer, since=tmp_path / "before") == (7, 0)
    assert scorer.calls == [4]
    run(pairs, tmp_path / "whole", scorer=ReadsLists())
    after, whole = (ds.dataset(tmp_path / name).to_table() for name in ("after", "whole"))
    assert after.equals(whole)


@pytest.mark.parametrize("lists", [False, True])
def test_only_what_changed_is_scored_again(tmp_path, lists):
    kind = ReadsLists if lists else Stub
    queries = [f"query {row // 5}" for row in range(40)]
    table = pa.table({"query": queries, "title": [f"product {row}" for row in range(40)]})
    old = write(table, tmp_path / "old.parquet")
    run(old, tmp_path / "before", scorer=kind())
    titles = [f"product {row}" for row in range(40)]
    titles[7] = "another product"
    changed = pa.table({"query": queries, "title": titles}).slice(5)  # the first query is gone, and a new one comes
    changed = pa.concat_tables([changed, pa.table({"query": ["new"], "title": ["product 1"]})])
    new, scorer = write(changed, tmp_path / "new.parquet"), kind()
    assert run(new, tmp_path / "after", 3, scorer=scorer, since=tmp_path / "before") == (36, 0)
    assert sum(scorer.calls) == (5 if lists else 1) + 1
    run(new, tmp_path / "whole", scorer=kind())
    names = ["row_id", "gain", "p_E", "label", "pair_key"]
    taken, computed = (ds.dataset(tmp_path / name).to_table(columns=names) for name in ("after", "whole"))
    assert taken.sort_by("row_id").equals(computed.sort_by("row_id"))
    with pytest.raises(UserError, match="since was"):
        run(new, tmp_path / "after", scorer=scorer)
    another = kind()
    said = []
    run(new, tmp_path / "other", scorer=another, model_fingerprint="b", since=tmp_path / "before", say=said.append)
    assert f"{tmp_path / 'before'} was scored by another model or engine: all pairs are scored again" in said
    assert sum(another.calls) == 36
    part = next((tmp_path / "before").glob("part-*"))
    part.write_bytes(part.read_bytes()[:50])
    with pytest.raises(UserError, match=rf"{part.name}: cannot be read(.|\n)*leave --since out"):
        run(new, tmp_path / "cut", scorer=kind(), since=tmp_path / "before")
    shutil.rmtree(tmp_path / "before" / "_shards")
    (tmp_path / "before" / "_SUCCESS").unlink()
    with pytest.raises(UserError, match="is not finished"):
        run(new, tmp_path / "again", scorer=kind(), since=tmp_path / "before")


def test_finish_says_which_shards_are_missing(given, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UserError, match="no shard is done"):
        finish_job(out)
    job(given, out).run_shard(Shard(1, 3))
    (out / "_shards" / "00000-of-00003.json.partial-999999-0badcafe").write_text("{")  # another that is just ending
    with pytest.raises(UserError, match="these shards are not: 0/3, 2/3"):
        finish_job(out)
    run(given, out, 3, [0, 2])
    (out / "_SUCCESS").unlink()  # as if the last one died before it
    assert finish_job(out) == (70, 0)
    part = next(out.glob("part-*"))
    part.write_bytes(part.read_bytes()[:50])
    with pytest.raises(UserError, match="1 parts are missing or cut"):
        finish_job(out)
    part.unlink()
    with pytest.raises(UserError, match="1 parts are missing or cut"):
        finish_job(out)


@pytest.mark.parametrize("kind", ["memory", "dir"])
def test_folders_in_a_store_are_as_those_on_a_disk(given, tmp_path, kind):
    fsspec = pytest.importorskip("fsspec")
    run(given, tmp_path / "local")
    if kind == "memory":
        store, root = fsspec.filesystem("memory"), "/bucket"
        source, some, out = "memory://bucket/in", "memory://bucket/in/*.parquet", "memory://bucket/out"
    else:
        store, root = fsspec.filesystem("file"), str(tmp_path / "bucket")
        source, some, out = f"dir://in::file://{root}", f"dir://in/*.parquet::file://{root}", f"file://{root}/out"
    store.put(str(given), f"{root}/in", recursive=True)
    assert run(source, out, 2) == (70, 0)
    found = {each.removeprefix(f"{root}/out/"): store.cat(each) for each in store.find(f"{root}/out")}
    assert {name: data for name, data in found.items() if name.endswith(".parquet")} == files(tmp_path / "local")
    assert set(found) - set(files(tmp_path / "local")) == {
        "_SUCCESS",
        "_columns.json",
        "_manifest.json",
        "_shards/00000-of-00002.json",
        "_shards/00001-of-00002.json",
    }
    assert run(some, f"{out}2") == (47, 0)
    assert finish_job(out) == (70, 0)
    scorer = Stub()
    assert run(source, f"{out}3", scorer=scorer, since=out) == (70, 0)
    assert scorer.calls == []
    with pytest.raises(UserError, match="another job"):
        run(source, out, model_fingerprint="b")
    store.rm(f"{root}", recursive=True)


def test_an_address_that_nothing_opens_is_said(given):
    with pytest.raises(UserError, match=r"nowhere://x: cannot be (opened|reached) \("):
        run(given, "nowhere://x")


# Of `sbatch --array=3,7`.
GAPS = {f"SLURM_ARRAY_TASK_{name}": number for name, number in zip(("ID", "MIN", "MAX", "COUNT"), "7372", strict=True)}
WORK = """
import sys
from scoring_stub import Stub
from zhichun.score.job import ScoringJob
from zhichun.score.parts import Shard
import time

class Slow(Stub):
    def predict(self, *arguments, **options):
        time.sleep(0.05)
        return super().predict(*arguments, **options)

given, out, shard = sys.argv[1:]
ScoringJob(Slow(), given, out, model_fingerprint="a", chunk_rows=10).run_shard(Shard.parse(shard))
"""


def test_shards_that_run_at_once_and_are_killed(given, tmp_path):
    run(given, tmp_path / "calm")
    out = tmp_path / "out"
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])

    def start(shard):
        return subprocess.Popen([sys.executable, "-c", WORK, given, out, shard], env={**os.environ, "PYTHONPATH": path})

    first = [start("0/2"), start("1/2")]
    deadline = time.monotonic() + 60
    while not list(out.glob("part-*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.01)
    for process in first:
        process.send_signal(signal.SIGKILL)
        process.wait()
    again = [start("0/2"), start("1/2"), start("0/2")]  # and one of them twice
    assert [process.wait(60) for process in again] == [0, 0, 0]
    assert (out / "_SUCCESS").is_file()
    assert files(out) == files(tmp_path / "calm")


@pytest.mark.parametrize(
    ("text", "environment", "index", "count"),
    [
        ("0/4", {}, 0, 4),
        ("4/4", {}, 0, 4),
        ("auto", {"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_COUNT": "4"}, 0, 4),
        ("auto", {"JOB_COMPLETION_INDEX": "3", "JOB_COMPLETIONS": "4"}, 3, 4),
        ("auto/8", {"JOB_COMPLETION_INDEX": "3"}, 3, 8),
        ("auto", GAPS | {"SLURM_ARRAY_TASK_COUNT": "5"}, 4, 5),
        ("auto/16", GAPS, 7, 16),
    ],
)
def test_a_shard_is_read_from_an_option_or_a_scheduler(text, environment, index, count):
    assert Shard.parse(text, environment) == Shard(index, count)


@pytest.mark.parametrize(
    ("text", "environment", "said"),
    [
        ("5/4", {}, "not of the form i/n"),
        ("1/0", {}, "not of the form i/n"),
        ("one/2", {}, "not of the form i/n"),
        ("²/4", {}, "not of the form i/n"),
        ("auto/4", {"JOB_COMPLETION_INDEX": "9"}, "'auto/4' is not of the form i/n, but 9/4"),
        ("auto", {}, "neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX"),
        ("auto", {"JOB_COMPLETION_INDEX": "3"}, "an index, but not of how many"),
        ("auto", GAPS, "2 tasks between 3 and 7(.|\n)*--shard auto/16"),
    ],
)
def test_other_shards_are_refused(text, environment, said):
    with pytest.raises(UserError, match=said):
        Shard.parse(text, environment)
