import csv
import gzip
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhichun.core.errors import UserError
from zhichun.data.readers import delimited, lines, rejected, text_file
from zhichun.data.readers import table as tables
from zhichun.data.readers.hub import _split_of
from zhichun.data.readers.lines import read_topics
from zhichun.data.readers.rejected import RejectedRows
from zhichun.data.readers.sources import ALIASES, open_judgements, open_sources, open_table
from zhichun.text.fold import fold_grade, fold_name, grade_labels

ALL = {"query": "query", "product_id": "product_id", "esci_label": "label"}
CSV = 'query,product_id,label\nred shoe,1,E\n"two, ""words""\nlines",2,S\n'
RECORDS = [
    {"query": "red shoe", "product_id": "1", "label": "E"},
    {"query": 'two, "words"\nlines', "product_id": "2", "label": "S"},
]


def read(table, columns=ALL, folder=None):
    """Read a whole table; give its rows' numbers and values, and what was refused."""
    folder = folder or table.path.parent
    with RejectedRows(folder / "rejected.parquet") as rejected:
        batches = list(table.batches(columns, rejected))
    rows = [number for batch in batches for number in batch.rows_N.tolist()]
    values = [
        dict(zip(columns, row, strict=True))
        for batch in batches
        for row in zip(*map(pa.Array.to_pylist, batch.columns.values()), strict=True)
    ]
    refused = pq.read_table(folder / "rejected.parquet").to_pylist()
    return rows, values, refused


def as_read(records):
    return [{"query": each["query"], "product_id": each["product_id"], "esci_label": each["label"]} for each in records]


def write_format(path, ending):
    lines = "".join(json.dumps(each) + "\n" for each in RECORDS)
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(RECORDS), path)
        return
    tabs = CSV.replace(",", "\t").replace("two\t", "two,")
    text = {
        "csv": CSV,
        "csv.gz": CSV,
        "bom.csv": "\ufeff" + CSV,
        "cr.csv": CSV.replace("\n", "\r").replace('"\rlines', '"\nlines'),
        "crlf.csv": CSV.replace("\n", "\r\n").replace('"\r\nlines', '"\nlines'),
        "semicolons.csv": CSV.replace(",", ";").replace("two;", "two,"),
        "bars.csv": CSV.replace(",", "|").replace("two|", "two,"),
        "tabs.csv": tabs,
        "sep.csv": "sep=;\n" + CSV.replace(",", ";").replace("two;", "two,"),
        "utf16.csv": CSV,
        "utf16le.csv": CSV,
        "utf16be.csv": CSV,
        "utf32.csv": CSV,
        "json.csv": lines,
        "quoted.tsv": tabs.replace("query\tproduct_id\tlabel", '"query"\t"product_id"\t"label"'),
        "array.json": json.dumps(RECORDS, indent=1),
        "array.jsonl": json.dumps(RECORDS),
        "bom.jsonl": "\ufeff" + lines,
    }.get(ending, lines)
    encoding = {"utf16": "utf-16", "utf16le": "utf-16-le", "utf16be": "utf-16-be", "utf32": "utf-32"}
    data = text.encode(encoding.get(ending.split(".")[0], "utf-8"))
    if "zip" in ending.split("."):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("inner.csv", CSV)
            archive.writestr("__MACOSX/._inner.csv", b"\0\5\26\7")
        return
    is_packed = ending.endswith("gz") or ending == "gzip.csv"
    path.write_bytes(gzip.compress(CSV.encode() if ending == "gzip.csv" else data) if is_packed else data)


FORMATS = {
    "csv": None,
    "bom.csv": None,
    "cr.csv": None,
    "crlf.csv": None,
    "csv.gz": None,
    "jsonl": None,
    "bom.jsonl": None,
    "ndjson": None,
    "parquet": None,
    "jsonl.gz": None,
    "gzip.csv": "is compressed with gzip, and was unpacked",
    "zip.csv": "is a zip archive of one file, which was read",
    "csv.zip": "is a zip archive of one file, which was read",
    "semicolons.csv": "has values separated by semicolons",
    "bars.csv": "has values separated by bars",
    "tabs.csv": "has values separated by tabs",
    "sep.csv": "names its separator in line 1 ('sep=;')",
    "utf16.csv": "is not UTF-8 but UTF-16, and was read as that",
    "utf16le.csv": "is not UTF-8 but UTF-16-LE, and was read as that",
    "utf16be.csv": "is not UTF-8 but UTF-16-BE, and was read as that",
    "utf32.csv": "is not UTF-8 but UTF-32, and was read as that",
    "json.csv": "holds JSON, and was read as that",
    "quoted.tsv": "has a quoted header, so its quotes were read as those of a CSV",
    "array.json": "holds one JSON array, and its objects were read as rows",
    "array.jsonl": "holds one JSON array, and its objects were read as rows",
}


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_gives_the_same_rows_and_what_is_odd_is_said(tmp_path, ending):
    path = tmp_path / f"table.{ending}"
    write_format(path, ending)
    table = open_table(path)
    assert read(table) == ([1, 2], as_read(RECORDS), [])
    assert table.notes == ([FORMATS[ending]] if FORMATS[ending] else [])


def test_quotes_in_tsv_are_letters(tmp_path):
    path = tmp_path / "p.tsv"
    path.write_text('query\tproduct_id\tlabel\n"27 inch\t1\tE\n27" wide\t2\tE\n"a" b\t3\tE\n', "utf-8")
    rows, values, refused = read(open_table(path))
    assert (rows, [each["query"] for each in values], refused) == ([1, 2, 3], ['"27 inch', '27" wide', '"a" b'], [])


def test_malformed_csv_rows_are_refused_and_the_others_keep_their_numbers(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("query,product_id,label\na,1,E\nb,2\n\nc,3,E,x\nd,4,E\n", "utf-8")
    rows, values, refused = read(open_table(path))
    assert rows == [1, 4]
    assert [each["query"] for each in values] == ["a", "d"]
    assert [(each["row"], each["reason"], each["detail"]) for each in refused] == [
        (2, "malformed row", "2 values for 3 columns"),
        (3, "malformed row", "4 values for 3 columns"),
    ]
    assert json.loads(refused[0]["record"]) == ["b", "2"]


LAMPS = [f"{number},lamp {number}" for number in range(1, 1001)]


def lamps(tmp_path, changes, header="product_id,title", more=()):
    """Read a catalogue of 1,000 rows in which some are changed; give the rows kept and what was refused."""
    lines = [changes.get(number, line) for number, line in enumerate(LAMPS, start=1)]
    (tmp_path / "p.csv").write_text("\n".join([header, *lines, *more]) + "\n", "utf-8")
    rows, _, refused = read(open_table(tmp_path / "p.csv"), {"product_id": "product_id", "product_title": "title"})
    return rows, [(each["row"], each["reason"]) for each in refused]


@pytest.mark.parametrize(
    "changes",
    [
        {500: '500,"27 inch monitor'},
        {1: '1,"27 inch monitor'},
        {1000: '1000,"27 inch monitor'},
        {500: '500,"27 inch monitor', 900: '900,32 inch"'},
        {500: '500,"27 inch monitor', 501: '501,32 inch"'},
        {2: '2,"27 inch monitor', 3: '3,32 inch"'},
        {500: '500,"27 inch', 502: '502,"a ""good"" lamp"'},
        {500: '500,"27" monitor'},
        {500: '500,27", monitor'},
        {500: '"500,"27 inch'},
        {500: '500,"27 inch', 700: '700,""', 800: '800,"x"'},
    ],
)
def test_an_unbalanced_quote_costs_its_own_row_alone(tmp_path, changes):
    rows, refused = lamps(tmp_path, changes)
    assert [row for row, _ in refused] == [min(changes)]
    assert rows == [row for row in range(1, 1001) if row != min(changes)]


def test_each_of_many_unbalanced_quotes_costs_its_own_row_alone(tmp_path):
    rows, refused = lamps(tmp_path, {row: f'{row},"lamp' for row in (10, 11, 500, 999)})
    assert refused == [(row, "unbalanced quote") for row in (10, 11, 500, 999)]
    assert len(rows) == 996


@pytest.mark.parametrize(
    "text",
    [
        "Soft, warm\nand light, too",
        "One\n\nTwo\n\nThree",
        "With a 1,000\nthings to do",
        "a\nb\nc\nd",
        'A 27"" screen\r\nand more',
    ],
)
def test_texts_with_line_breaks_are_read(tmp_path, text):
    quoted = f'7,"{text}"'
    rows, refused = lamps(tmp_path, {7: quoted})
    assert (rows, refused) == (list(range(1, 1001)), [])
    values = read(open_table(tmp_path / "p.csv"), {"product_title": "title"})[1]
    assert values[6]["product_title"] == text.replace('""', '"')


def test_a_text_with_line_breaks_may_be_as_long_as_a_block_and_more(tmp_path):
    text = "".join(f"line {number} of a long, long text\n" for number in range(300_000))
    rows, refused = lamps(tmp_path, {}, more=[f'1001,"{text}"', "1002,x"])
    assert (rows, refused) == (list(range(1, 1003)), [])


def test_a_field_of_many_megabytes_is_read_whatever_others_set(tmp_path):
    limit = csv.field_size_limit(1000)
    try:
        rows, refused = lamps(tmp_path, {}, more=[f"1001,{'x' * 20_000_000}", f'1002,"{"y" * 20_000_000}"'])
    finally:
        csv.field_size_limit(limit)
    assert (rows, refused) == (list(range(1, 1003)), [])


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_row_beyond_the_bound_is_refused_alone(tmp_path, ending, monkeypatch):
    for module in (delimited, lines):
        monkeypatch.setattr(module, "MOST_OF_A_ROW", 1 << 20)
    monkeypatch.setattr(delimited, "BLOCK", 1 << 16)
    path = tmp_path / f"a.{ending}"
    long = "x" * (3 << 20)
    if ending == "csv":
        path.write_text(f'query\na\n{long}\nb\n"{long}\n{long}"\nc\n', "utf-8")
    else:
        path.write_text("".join(json.dumps({"query": text}) + "\n" for text in ("a", long, "b")), "utf-8")
    rows, _, refused = read(open_table(path), {"query": "query"})
    assert rows == ([1, 3, 6] if ending == "csv" else [1, 3])
    assert {(each["row"], each["reason"]) for each in refused} == (
        {(2, "row too long"), (4, "row too long"), (5, "row too long")} if ending == "csv" else {(2, "row too long")}
    )
    assert all(len(each["record"]) < 5000 for each in refused)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_bytes_that_are_no_utf8_cost_their_row_alone(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    if ending == "csv":
        path.write_bytes(b"query,product_id,label\na,1,E\nb\xff,2,E\nc,3,E\n")
    elif ending == "jsonl":
        path.write_bytes(
            b'{"query":"a","product_id":1,"label":"E"}\n{"query":"b\xff","product_id":2,"label":"E"}\n'
            b'{"query":"c","product_id":3,"label":"E"}\n'
        )
    else:
        broken = pa.Array.from_buffers(pa.string(), 3, pa.array([b"a", b"b\xff", b"c"]).buffers())
        pq.write_table(pa.table({"query": broken, "product_id": [1, 2, 3], "label": ["E", "E", "E"]}), path)
    rows, values, refused = read(open_table(path))
    assert (rows, [each["query"] for each in values]) == ([1, 3], ["a", "c"])
    assert [(each["row"], each["reason"], each["detail"]) for each in refused] == [(2, "broken UTF-8", "in query")]
    assert json.loads(refused[0]["record"])["query"] == "b\\xff"


def test_json_lines_that_are_no_objects_are_refused_by_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"query": "a"}\n\n[1]\n{"query": \n{"query": {"x": 1}}\n{"query": "\\ud800"}\n{}\n', "utf-8")
    rows, values, refused = read(open_table(path), {"query": "query"})
    assert (rows, values) == ([1, 7], [{"query": "a"}, {"query": None}])
    assert [(each["row"], each["reason"]) for each in refused] == [
        (3, "not a JSON object"),
        (4, "not a JSON object"),
        (5, "value is no text"),
        (6, "broken UTF-8"),
    ]


def test_json_values_become_the_text_that_people_mean(tmp_path):
    path = tmp_path / "a.jsonl"
    values = [3, 3.0, 2.5, float("nan"), None, ["one", "two"], "x", 12345678901234567, 10**30, True]
    path.write_text("".join(json.dumps({"v": value}) + "\n" for value in values), "utf-8")
    texts = [row["query"] for row in read(open_table(path), {"query": "v"})[1]]
    assert texts == ["3", "3", "2.5", None, None, "one\ntwo", "x", "12345678901234567", str(10**30), "true"]


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (pa.array([1, None], pa.int32()), ["1", None]),
        (pa.array([1.0, np.nan, 2.5]), ["1", None, "2.5"]),
        (pa.array(["a", None]).dictionary_encode(), ["a", None]),
        (pa.array([["a", "b"], None]), ["a\nb", None]),
        (pa.array([["a", None, "b"], None, []]), ["a\n\nb", None, ""]),
        (pa.array([[3.0, 2.5]]), ["3\n2.5"]),
        (pa.array([[["a"], ["b", "c"]]]), ["a\nb\nc"]),
        (pa.array([["a", "b"], None], pa.list_(pa.string(), 2)), ["a\nb", None]),
        (pa.array([["a"], None], pa.list_view(pa.string())), ["a", None]),
        (pa.array(["a", None], pa.string_view()), ["a", None]),
        (pa.nulls(2), [None, None]),
        (pa.array([b"a"]), ["a"]),
        (pa.array([12345678901234567, None]), ["12345678901234567", None]),
        (pa.array([1e16, None]), ["10000000000000000", None]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array([True, None]), ["true", None]),
    ],
)
def test_parquet_columns_of_any_type_become_text(tmp_path, column, texts):
    pq.write_table(pa.table({"v": column}), tmp_path / "a.parquet")
    assert [row["query"] for row in read(open_table(tmp_path / "a.parquet"), {"query": "v"})[1]] == texts


@pytest.mark.parametrize("value", [{"x": 1}, [{"x": 1}]])
def test_a_parquet_column_that_is_no_text_is_named(tmp_path, value):
    pq.write_table(pa.table({"v": [value]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet: the column 'v' holds struct"):
        read(open_table(tmp_path / "a.parquet"), {"query": "v"})


def test_an_item_of_a_list_that_is_not_utf8_costs_its_row_alone(tmp_path):
    pq.write_table(pa.table({"v": [[b"a"], [b"b", b"\xff"]]}), tmp_path / "a.parquet")
    rows, values, refused = read(open_table(tmp_path / "a.parquet"), {"query": "v"})
    assert (rows, values, [each["reason"] for each in refused]) == ([1], [{"query": "a"}], ["broken UTF-8"])


def test_a_number_in_a_json_array_may_have_any_number_of_digits(tmp_path):
    (tmp_path / "a.json").write_text(f'[{{"query": {"1" * 5000}}}]', "utf-8")
    assert read(open_table(tmp_path / "a.json"), {"query": "query"})[1] == [{"query": "1" * 5000}]


def test_batches_join_up_in_order(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("query\n" + "".join(f"q{number}\n" for number in range(40_000)), "utf-8")
    rows, values, _ = read(open_table(path), {"query": "query"})
    assert rows == list(range(1, 40_001))
    assert [each["query"] for each in values] == [f"q{number}" for number in range(40_000)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "none.csv: there is no such file\nDid you mean 'nine.csv'?"),
        ("empty.csv", b"", "empty.csv: the file is empty"),
        ("a.xlsx", b"x", "a.xlsx: the ending '.xlsx' names no known format\nPossible: .parquet, .csv"),
        ("a.parquet", b"PAR1 and then no more", "a.parquet: is not a complete Parquet file"),
        ("a.csv.gz", gzip.compress(b"plain", mtime=0)[:-3], "a.csv.gz: is not a whole gzip file"),
        ("a.csv", b"\r\n\r\n", "a.csv: has no header\nName the columns in the first line"),
        ("a.csv", b'query,"x\na,b\n', "a.csv: the header is incomplete\nClose the quotes in it"),
        ("a.csv", b"PK\x03\x04 and then no more", "a.csv: is a zip archive that cannot be read"),
        ("a.csv", b"\xd0\xcf\x11\xe0 x", "a.csv: is an Excel workbook\nSave it in Excel as 'CSV UTF-8'"),
        ("a.csv", b"%PDF-1.7", "a.csv: is a PDF document"),
        ("a.tsv", b" <!DOCTYPE html><p>404", "a.tsv: is a web page or XML, not a table"),
        ("a.jsonl", b"\x28\xb5\x2f\xfd.", "a.jsonl: is compressed with zstd\nUnpack it, or compress it with gzip"),
        ("a.csv", "query\nx".encode("utf-16") + b"x", "a.csv: is not whole UTF-16"),
        ("a.csv", b"title,x,Title\n", "a.csv: has 2 columns of one name: 'title', 'Title'\nRename or remove one"),
        ("a.tsv", b"product_id\tProduct ID\n", "a.tsv: has 2 columns of one name: 'product_id', 'Product ID'"),
        ("a.jsonl", b'{"title":1}\n{"Title":2}\n', "a.jsonl: has 2 columns of one name"),
        ("a.csv", "query,größe\n".encode("latin-1"), "a.csv: the header is not UTF-8"),
    ],
)
def test_files_that_cannot_be_read_are_named_with_a_remedy(tmp_path, name, content, message):
    (tmp_path / "nine.csv").write_text("x", "utf-8")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        list(open_table(tmp_path / name).names)
    assert message in str(error.value)
    assert error.value.remedy


def test_files_cut_short_are_refused(tmp_path):
    table = pa.table({"query": [str(number) for number in range(1000)]})
    pq.write_table(table, tmp_path / "whole.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:-100])
    with pytest.raises(UserError, match=r"cut\.parquet: is not a complete Parquet file"):
        open_table(tmp_path / "cut.parquet")

    middle = bytearray((tmp_path / "whole.parquet").read_bytes())
    middle[4:200] = bytes(196)
    (tmp_path / "hole.parquet").write_bytes(middle)
    with pytest.raises(UserError, match=r"hole\.parquet: is not a complete Parquet file"):
        read(open_table(tmp_path / "hole.parquet"), {"query": "query"})

    packed = gzip.compress(b"query\n" + bytes(range(32, 127)) * 100)
    (tmp_path / "cut.csv.gz").write_bytes(packed[:-20])
    with pytest.raises(UserError, match=r"cut\.csv\.gz: is not a whole gzip file"):
        read(open_table(tmp_path / "cut.csv.gz"), {"query": "query"})


def test_grades_are_mapped_however_they_are_written():
    labels = grade_labels({"3": "E", "2.0": "substitute", "Not Relevant": "I"})
    assert [labels[grade] for grade in ("3", "2", "not relevant")] == ["E", "S", "I"]
    assert [grade_labels()[fold_grade(grade)] for grade in ("e", "exact", "complement", "i")] == ["E", "E", "C", "I"]
    with pytest.raises(UserError, match="'3' is mapped to 'exakt', which is no label\nPossible: C, E, I, S"):
        grade_labels({"3": "exakt"})


def test_quepid_names_are_known(tmp_path):
    (tmp_path / "e.csv").write_text("query,docid,rating\nred shoe,1,3\n", "utf-8")
    (tmp_path / "p.csv").write_text("product_id,title\n1,Shoe\n", "utf-8")
    sources = open_sources(None, examples=tmp_path / "e.csv", products=tmp_path / "p.csv")
    assert sources.columns["examples"] == {"query": "query", "product_id": "docid", "esci_label": "rating"}


def test_trec_qrels_take_their_query_texts_from_topics(tmp_path):
    (tmp_path / "a.qrels").write_text("7 0 B1 3\n8\t0\tB2\t0\n9 0 B3\nx 0 B4 1\n", "utf-8")
    (tmp_path / "topics.tsv").write_text("7\tred shoe\n8\tblue hat\n9\tbag\n", "utf-8")
    table = open_judgements(tmp_path / "a.qrels", tmp_path / "topics.tsv")
    rows, values, refused = read(table, {"query": "query", "query_id": "query_id", "esci_label": "label"})
    assert rows == [1, 2]
    assert [tuple(row.values()) for row in values] == [("red shoe", "7", "3"), ("blue hat", "8", "0")]
    assert [(each["row"], each["reason"], each["detail"]) for each in refused] == [
        (3, "malformed row", "3 values where a judgement has 4"),
        (4, "query not in the topics", "query_id 'x'"),
    ]
    with pytest.raises(UserError, match="TREC qrels hold no query texts\nGive them with topics=FILE"):
        open_judgements(tmp_path / "a.qrels")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"7\ta\n8 b\n", "row 2: has no tab"),
        (b"7\ta\n7\tb\n", "row 2: a second text for query '7'"),
        (b"7\t\xff\n", "row 1: is not UTF-8"),
    ],
)
def test_topics_that_cannot_be_used_are_named_by_line(tmp_path, content, message):
    (tmp_path / "topics.tsv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_topics(tmp_path / "topics.tsv")


def test_sources_that_are_missing_are_named(tmp_path):
    with pytest.raises(UserError, match="products missing\nGive a folder in the official layout, or both tables"):
        open_sources(None, examples=tmp_path / "e.csv")
    with pytest.raises(UserError, match="there is no such folder"):
        open_sources(tmp_path / "nowhere")
    with pytest.raises(
        UserError, match=r"lacks shopping_queries_dataset_examples\.parquet and shopping_queries_dataset_p"
    ):
        open_sources(tmp_path)
    (tmp_path / "file").write_text("x", "utf-8")
    with pytest.raises(UserError, match="is a file, not a folder in the official layout\nGive your own tables"):
        open_sources(tmp_path / "file")
    (tmp_path / "e.csv").write_text(CSV, "utf-8")
    with pytest.raises(UserError, match=r"lacks shopping_queries_dataset_products\.parquet\n"):
        open_sources(tmp_path, examples=tmp_path / "e.csv")


def test_a_parquet_file_under_another_name_is_read(tmp_path):
    pq.write_table(pa.table({"query": ["a"]}), tmp_path / "a.csv")
    assert read(open_table(tmp_path / "a.csv"), {"query": "query"})[:2] == ([1], [{"query": "a"}])


def test_archives_that_hold_no_single_table_are_named(tmp_path):
    for name, members in (("two.csv", ("a.csv", "b.csv")), ("book.csv", ("[Content_Types].xml", "xl/workbook.xml"))):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for member in members:
                archive.writestr(member, "query\na\n")
    with pytest.raises(UserError, match=r"two\.csv: is a zip archive of 2 files\nUnpack it, and name one"):
        open_table(tmp_path / "two.csv")
    with pytest.raises(UserError, match=r"book\.csv: is an Excel workbook\nSave it in Excel"):
        open_table(tmp_path / "book.csv")


def test_a_json_array_is_read_piece_by_piece_and_what_is_broken_in_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "_BLOCK", 16)
    path = tmp_path / "a.jsonl"
    texts = [f"caf\u00e9 {number} " + "x" * number for number in range(100)]
    path.write_text(json.dumps([{"query": text} for text in texts], ensure_ascii=False), "utf-8")
    rows, values, refused = read(open_table(path), {"query": "query"})
    assert (rows, [each["query"] for each in values], refused) == (list(range(1, 101)), texts, [])
    for content, message in (
        ('[{"query": "a"}, {"query": "b"', "row 2: is not a complete JSON array"),
        ('[{"query": "a"}] {}', "row 1: has text after its JSON array"),
    ):
        path.write_text(content, "utf-8")
        with pytest.raises(UserError, match=message):
            list(open_table(path).names)
    path.write_text('[{"query": "a"}, 3, {"query": {"b": 1}}, {"query": "c", "query": "d"}]', "utf-8")
    rows, values, refused = read(open_table(path), {"query": "query"})
    assert (rows, [each["reason"] for each in refused]) == (
        [1],
        ["not a JSON object", "value is no text", "malformed row"],
    )
    assert refused[1]["detail"] == "the value of 'query' is an object"


def test_what_becomes_far_more_than_it_is_is_refused_in_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(text_file, "ALWAYS_FREE", 8 << 20)
    with gzip.open(tmp_path / "bomb.csv.gz", "wb") as packed:
        packed.write(b"query\n")
        for _ in range(64):
            packed.write(b"x" * (1 << 20))
    values = pa.DictionaryArray.from_arrays(pa.array([0] * 3000, pa.int32()), pa.array(["x y " * 25_000]))
    pq.write_table(pa.table({"query": values}), tmp_path / "bomb.parquet", store_schema=False)
    pq.write_table(pa.table({"query": values}), tmp_path / "categories.parquet")
    pq.write_table(
        pa.table({"query": ["x" * 1000] * 64_000}), tmp_path / "zeros.parquet", use_dictionary=False, compression="zstd"
    )
    for name in ("bomb.csv.gz", "bomb.parquet", "categories.parquet", "zeros.parquet"):
        before = pa.total_allocated_bytes()
        with pytest.raises(UserError, match=rf"{name}: holds [\d,]+ bytes and becomes more than [\d,]+ when"):
            read(open_table(tmp_path / name), {"query": "query"})
        assert pa.total_allocated_bytes() - before < 64 << 20


def test_a_dictionary_of_long_texts_is_decoded_a_few_rows_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_MOST_OF_A_BATCH", 1 << 20)
    texts = [f"{number % 7} " + "x" * 100_000 for number in range(200)]
    pq.write_table(pa.table({"query": texts}), tmp_path / "a.parquet")
    with RejectedRows(tmp_path / "rejected.parquet") as rejected:
        batches = list(open_table(tmp_path / "a.parquet").batches({"query": "query"}, rejected))
    assert [text for batch in batches for text in batch.columns["query"].to_pylist()] == texts
    assert max(len(batch.rows_N) for batch in batches) <= 10


def test_every_text_file_may_begin_with_a_mark(tmp_path):
    (tmp_path / "topics.tsv").write_bytes(b"\xef\xbb\xbf7\tred shoe\r\n")
    assert read_topics(tmp_path / "topics.tsv") == {"7": "red shoe"}
    (tmp_path / "topics16.tsv").write_bytes("7\tred shoe\r\n8\tcaf\u00e9\r\n".encode("utf-16"))
    assert read_topics(tmp_path / "topics16.tsv") == {"7": "red shoe", "8": "caf\u00e9"}
    (tmp_path / "a.qrels").write_bytes(b"\xef\xbb\xbf7 0 B1 3\n")
    table = open_judgements(tmp_path / "a.qrels", tmp_path / "topics.tsv")
    assert read(table, {"query": "query"})[1] == [{"query": "red shoe"}]


def test_every_reason_and_every_other_name_is_documented():
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text("utf-8")
    reasons = {value for name, value in vars(rejected).items() if name.isupper() and isinstance(value, str)}
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    documented = {word for line in rows for word in re.findall(r"`([^`]+)`", line.split("|")[1])}
    assert reasons - {rejected.REJECTED_FILE} <= documented
    names = {fold_name(word) for line in rows for word in re.findall(r"`([^`]+)`", line)}
    assert {fold_name(name) for others in ALIASES.values() for name in others} <= names


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data/train-00000-of-00001.parquet", "train"),
        ("latest/train-0.parquet", "train"),
        ("contest/pairs.parquet", None),
        ("test/part-0.parquet", "test"),
        ("test/esci_train.parquet", "train"),
        ("Test0.parquet", "test"),
        ("train_test.parquet", None),
    ],
)
def test_the_split_of_a_dataset_s_file_is_a_whole_word_of_its_name_or_of_a_folder_s(name, split):
    assert _split_of(Path(name)) == split
