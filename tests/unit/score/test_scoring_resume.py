"""A killed scoring job goes on with its own parts only, whether or not it reads ahead."""

import os
import threading

import pyarrow as pa
import pytest
from scoring_stub import Stub, score, table_of, write

from zhichun.core.errors import UserError
from zhichun.score.job import ScoringJob


def interrupt_after(scorer, calls):
    """Let the process die, as it were, before its next chunk."""
    whole = scorer.predict

    def predict(*arguments, **options):
        if len(scorer.calls) == calls:
            raise KeyboardInterrupt
        return whole(*arguments, **options)

    scorer.predict = predict


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
    (tmp_path / "out.csv.parts" / "part-000002.parquet.partial-1-0badcafe").write_bytes(b"half")
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
        self.was_read = [threading.Event() for _ in range(pieces)]
        self.readings = 0

    def read(self, texts):
        self.was_read[self.readings].set()
        self.readings += 1
        return texts

    def predict(self, pairs, *, progress=None):
        assert self.was_read[min(len(self.calls) + 1, len(self.was_read) - 1)].wait(10)
        return super().predict(pairs, progress=progress)


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
    with pytest.raises(UserError, match="empty query") as refused:
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
