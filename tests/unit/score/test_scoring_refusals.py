"""Files of pairs that cannot be scored: named with the row and what to do, with nothing left behind."""

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from scoring_stub import score, write

from zhichun.core.errors import UserError
from zhichun.score import parts


@pytest.fixture
def pairs(tmp_path):
    return write(pa.table({"query": ["q"] * 35, "title": ["t"] * 35}), tmp_path / "pairs.parquet")


BAD_TABLES = {
    "no query": (
        "search,title\nq,t\n",
        {},
        r"pairs\.csv: no column 'query'; the file has 'search', 'title'\nName it with .*\(--columns query=…\)",
    ),
    "no title": (
        "query,product_id\nq,1\n",
        {},
        r"no column 'product_title' \(or 'title'\); the file has .*\n.*--products",
    ),
    "no such column": (
        "query,title\nq,t\n",
        {"columns": {"title": "name"}},
        r"no column 'name', which was named for 'title'; the file has 'query', 'title'",
    ),
    "unknown name": (
        "query,title\nq,t\n",
        {"columns": {"titel": "title"}},
        r"there is no column 'titel' to map\nDid you mean 'title'",
    ),
    "twice": ("query,title,title\nq,t,u\n", {}, r"has 2 columns of one name: 'title', 'title'\nRename"),
    "taken": (
        "query,title,label\nq,t,E\n",
        {},
        r"pairs\.csv: has a column 'label' already\.\nChoose other names with --prefix",
    ),
    "empty query": ("query,title\nq,t\n ,t\n", {}, r"pairs\.csv, row 2: empty query \(.* .\)"),
    "markup alone": ("query,title\nq,t\nr,t\n<br>,t\n", {}, r"pairs\.csv, row 3: empty query \(.<br>.\)"),
    "short row": (
        "query,title\nq,t\nq\n",
        {},
        r"pairs\.csv, row 2: malformed row \(1 values for 2 columns\)\nCheck the sep",
    ),
    "long row": ("query,title\nq,t,u\n", {}, r"pairs\.csv, row 1: malformed row \(3 values for 2 columns\)"),
    "open quote": (
        'query,title\nq,t\nq,"t\nq,t\n',
        {},
        r"pairs\.csv, row 2: unbalanced quote \(a quote that is never closed\)\nClose",
    ),
    "no header": ("", {}, r"pairs\.csv: the file is empty"),
    "broken UTF-8": (
        b"query,title\nq,t\nq,caf\xe9\n",
        {},
        r"pairs\.csv, row 2: broken UTF-8 \(in title\)\nSave the file as UTF-8",
    ),
    "broken header": (b"query,t\xefitle\nq,t\n", {}, r"pairs\.csv: the header is not UTF-8"),
}


@pytest.mark.parametrize(("content", "options", "message"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_a_table_that_cannot_be_scored_is_named_with_its_row(scorer, tmp_path, content, options, message):
    (tmp_path / "pairs.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        score(scorer, tmp_path / "pairs.csv", tmp_path / "out.csv", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.csv"]
    assert scorer.calls == []


def test_rows_are_counted_through_all_chunks(scorer, tmp_path):
    table = pa.table({"query": ["q"] * 24 + ["\x00 "] + ["q"] * 9, "title": ["t"] * 34})
    with pytest.raises(UserError, match=r"pairs\.parquet, row 25: empty query"):
        score(scorer, write(table, tmp_path / "pairs.parquet"), tmp_path / "out.csv")
    broken = b"query,title\n" + b"q,t\n" * 24 + b"q,\xff\n"
    (tmp_path / "pairs.csv").write_bytes(broken)
    with pytest.raises(UserError, match=r"pairs\.csv, row 25: broken UTF-8 \(in title\)"):
        score(scorer, tmp_path / "pairs.csv", tmp_path / "out.csv")


def test_an_unknown_product_is_named_with_its_row(scorer, tmp_path):
    write(pa.table({"product_id": ["1"], "title": ["t"]}), tmp_path / "catalogue.csv")
    write(pa.table({"query": ["q"] * 12, "product_id": ["1"] * 11 + ["2"]}), tmp_path / "pairs.csv")
    with pytest.raises(UserError, match=r"pairs\.csv, row 12: no such product \(.2. in the locale .us.\)"):
        score(scorer, tmp_path / "pairs.csv", tmp_path / "out.csv", catalogue=tmp_path / "catalogue.csv")


@pytest.mark.parametrize("of_catalogue", [False, True])
def test_a_long_list_is_counted_by_what_differs(scorer, tmp_path, monkeypatch, of_catalogue):
    monkeypatch.setattr(parts, "LONGEST_LIST", 2)
    monkeypatch.setattr(scorer, "reads_lists", True)
    titles = ["Red hat", "Red  hat", "Hat", *["Red hat"] * 5]
    table = pa.table({"query": ["a"] * 8, "product_id": list("01200000"), "title": titles, "locale": ["us"] * 8})
    write(table.select(["product_id", "title", "locale"]).slice(0, 3), tmp_path / "products.parquet")
    options = {"catalogue": tmp_path / "products.parquet" if of_catalogue else None}
    assert score(scorer, write(table, tmp_path / "alike.parquet"), tmp_path / "out.csv", **options) == 8
    monkeypatch.setattr(parts, "LONGEST_LIST", 1)
    with pytest.raises(UserError, match=r"alike\.parquet, row 1: list too long \(2 candidates, and 1 are read at most"):
        score(scorer, tmp_path / "alike.parquet", tmp_path / "not.csv", **options)


def test_broken_utf8_in_a_parquet_file_is_named_with_its_row(scorer, tmp_path):
    broken = pa.array([b"q"] * 11 + [b"caf\xe9"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"query": broken, "title": ["t"] * 12}), tmp_path / "pairs.parquet")
    with pytest.raises(UserError, match=r"pairs\.parquet, row 12: broken UTF-8 \(in query\)"):
        score(scorer, tmp_path / "pairs.parquet", tmp_path / "out.parquet")


def test_columns_that_hold_no_text_are_refused(scorer, tmp_path):
    write(pa.table({"query": [{"a": 1}], "title": ["t"]}), tmp_path / "pairs.parquet")
    with pytest.raises(UserError, match=r"pairs\.parquet: the column 'query' holds struct<.*>, which is no text"):
        score(scorer, tmp_path / "pairs.parquet", tmp_path / "out.parquet")


def test_columns_that_a_csv_cannot_hold_are_refused_before_any_work(scorer, tmp_path):
    write(pa.table({"query": ["q"], "title": ["t"], "tags": [["a", "b"]]}), tmp_path / "pairs.parquet")
    with pytest.raises(UserError, match=r"out\.csv: cannot be written .*list.*\nName a file that ends with \.parquet"):
        score(scorer, tmp_path / "pairs.parquet", tmp_path / "out.csv")
    assert scorer.calls == []


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_a_truncated_parquet_file_is_named(scorer, pairs, tmp_path, share):
    pairs.write_bytes(pairs.read_bytes()[: int(share * pairs.stat().st_size)])
    with pytest.raises(UserError, match=r"pairs\.parquet: is not a complete Parquet file"):
        score(scorer, pairs, tmp_path / "out.parquet")


def test_missing_files_and_unknown_kinds_are_named(scorer, pairs, tmp_path):
    (tmp_path / "pairs.cvs").write_text("query,title\nq,t\n")
    with pytest.raises(UserError, match=r"pairs\.cvs: the ending '\.cvs' names no known format\nPossible: \.parquet"):
        score(scorer, tmp_path / "pairs.cvs", tmp_path / "out.csv")
    with pytest.raises(UserError, match=r"out\.xlsx: is of no known kind"):
        score(scorer, pairs, tmp_path / "out.xlsx")
    with pytest.raises(UserError, match=r"pears\.csv: there is no such file"):
        score(scorer, tmp_path / "pears.csv", tmp_path / "out.csv")
    (tmp_path / "pairs.csv").write_text("query,product_id\nq,1\n")
    with pytest.raises(UserError, match=r"nowhere\.csv: there is no such file"):
        score(scorer, tmp_path / "pairs.csv", tmp_path / "out.csv", catalogue=tmp_path / "nowhere.csv")


def test_a_folder_is_no_file_to_write(scorer, pairs, tmp_path):
    (tmp_path / "scored.csv").mkdir()
    with pytest.raises(UserError, match=r"scored\.csv: is a folder, not a file\.\nName a file"):
        score(scorer, pairs, tmp_path / "scored.csv")
    assert not list(tmp_path.glob("*.parts"))
