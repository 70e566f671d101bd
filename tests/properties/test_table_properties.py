"""Broken tables: every row that is read is kept or refused, and nothing but a `UserError` comes of any of them."""

import csv
import importlib.util
import io
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhichun.core.errors import UserError
from zhichun.data.readers import delimited
from zhichun.data.readers.sources import open_table

FILE = Path(__file__).parents[2] / "benchmarks" / "fuzz_tables.py"
CELL = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
PIECES = st.sampled_from(
    [b'"', b'""', b",", b"\n", b"\r\n", b"\r", b"\t", b";", b"a", b"1", b" ", b"\0", b"\xff", b"\xe3\x83", b"\\", b"{"]
)


class Refused(list):
    def add(self, refusal, record):
        self.append(refusal.row)


@pytest.fixture(scope="module")
def fuzz_tables():
    spec = importlib.util.spec_from_file_location("fuzz_tables", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_tables"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["fuzz_tables"]


@pytest.fixture(autouse=True, scope="module")
def block_as_it_is():
    before = delimited.BLOCK
    yield
    delimited.BLOCK = before


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


def read(path, names):
    """Read a table; give its rows, their numbers, and those that were refused."""
    refused = Refused()
    table = open_table(path)
    batches = list(table.batches({name: name for name in names}, refused))
    numbers = [row for batch in batches for row in batch.rows_N.tolist()]
    rows = [
        list(values)
        for batch in batches
        for values in zip(*(batch.columns[name].to_pylist() for name in names), strict=True)
    ]
    return rows, numbers, refused


def test_300_broken_tables_lose_no_row(fuzz_tables):
    result, failures = fuzz_tables.run(seed=1, count=300)
    assert not failures, "\n".join(failures[:20])
    assert result["tables"] == 300


@settings(deadline=None)
@given(
    st.lists(PIECES, max_size=60).map(b"".join),
    st.sampled_from([b"a,b\n", b"a;b;c\r\n", b"a\n", b'"a","b"\r']),
    st.sampled_from([1 << 20, 16]),
)
def test_any_bytes_are_kept_or_refused_row_by_row(folder, data, header, block):
    delimited.BLOCK = block
    path = folder / "any.csv"
    path.write_bytes(header + data)
    try:
        names = open_table(path).names
        _, numbers, refused = read(path, names)
    except UserError:
        return
    assert sorted([*numbers, *refused]) == list(range(1, len(numbers) + len(refused) + 1))
    lines = [line for line in (header + data).splitlines() if line]
    assert len(numbers) + len(refused) <= len(lines) - 1
    if b'"' not in data:  # nothing can take a line in
        assert len(numbers) + len(refused) == len(lines) - 1


@settings(deadline=None)
@given(
    st.lists(st.lists(CELL, min_size=3, max_size=3), max_size=12),
    st.sampled_from(",;|\t"),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_a_csv_as_python_writes_it_is_read_back_or_refused_never_changed(folder, rows, separator, end, quoting):
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=separator, lineterminator=end, quoting=quoting)
    writer.writerow(["query", "title", "brand"])
    for row in rows:
        # The module writes a lone line break without quotes where its own line end is another.
        writer.writerow(
            [cell.replace("\r", " ").replace("\n", " ") if quoting == csv.QUOTE_MINIMAL else cell for cell in row]
        )
    path = folder / "python.csv"
    path.write_bytes(out.getvalue().encode())
    written = list(csv.reader(io.StringIO(out.getvalue(), newline=""), delimiter=separator))[1:]
    written = [row for row in written if row]
    got, numbers, refused = read(path, ["query", "title", "brand"])
    if not refused:
        assert got == written
    else:
        assert all(row in written for row, number in zip(got, numbers, strict=True) if number < refused[0])
        assert any("\n" in cell or "\r" in cell for row in written for cell in row)
