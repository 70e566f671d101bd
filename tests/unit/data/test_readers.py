import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhichun.core.errors import UserError
from zhichun.data.readers.judgements import grade_labels, read_topics
from zhichun.data.readers.rejected import RejectedRows
from zhichun.data.readers.sources import open_judgements, open_sources, open_table
from zhichun.text.fold import fold_grade

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


@pytest.fixture(params=["csv", "bom.csv", "tsv", "jsonl", "ndjson", "parquet", "csv.gz", "jsonl.gz"])
def same_table(request, tmp_path):
    path = tmp_path / f"table.{request.param}"
    lines = "".join(json.dumps(each) + "\n" for each in RECORDS)
    if request.param == "parquet":
        pq.write_table(pa.Table.from_pylist(RECORDS), path)
        return path
    text = {
        "csv": CSV,
        "bom.csv": "\ufeff" + CSV,
        "tsv": CSV.replace(",", "\t").replace("two\t", "two,"),
        "csv.gz": CSV,
    }
    data = text.get(request.param, lines).encode()
    path.write_bytes(gzip.compress(data) if request.param.endswith("gz") else data)
    return path


def test_every_format_gives_the_same_rows(same_table):
    assert read(open_table(same_table)) == ([1, 2], as_read(RECORDS), [])


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


def test_a_quote_that_is_never_closed_costs_no_more_than_the_limit_of_a_field(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('query,product_id,label\na,1,E\n"b,2,E\n' + "filler,3,E\n" * 20_000 + "z,4,E\n", "utf-8")
    rows, values, refused = read(open_table(path))
    assert values[-1]["query"] == "z"
    assert refused[0]["row"] == 2
    assert len(rows) > 5_000


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
        (3, "malformed row"),
        (4, "malformed row"),
        (5, "malformed row"),
        (6, "broken UTF-8"),
    ]


def test_json_values_become_the_text_that_people_mean(tmp_path):
    path = tmp_path / "a.jsonl"
    values = [3, 3.0, 2.5, float("nan"), None, ["one", "two"], "x"]
    path.write_text("".join(json.dumps({"v": value}) + "\n" for value in values), "utf-8")
    texts = [row["query"] for row in read(open_table(path), {"query": "v"})[1]]
    assert texts == ["3", "3", "2.5", None, None, "one\ntwo", "x"]


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (pa.array([1, None], pa.int32()), ["1", None]),
        (pa.array([1.0, np.nan, 2.5]), ["1", None, "2.5"]),
        (pa.array(["a", None]).dictionary_encode(), ["a", None]),
        (pa.array([["a", "b"], None]), ["a\nb", None]),
        (pa.nulls(2), [None, None]),
        (pa.array([b"a"]), ["a"]),
    ],
)
def test_parquet_columns_of_any_type_become_text(tmp_path, column, texts):
    pq.write_table(pa.table({"v": column}), tmp_path / "a.parquet")
    assert [row["query"] for row in read(open_table(tmp_path / "a.parquet"), {"query": "v"})[1]] == texts


def test_a_parquet_column_that_is_no_text_is_named(tmp_path):
    pq.write_table(pa.table({"v": [{"x": 1}]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet: the column 'v' holds struct"):
        read(open_table(tmp_path / "a.parquet"), {"query": "v"})


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
        ("a.parquet", b"PAR1 and then no more", "a.parquet: is not a whole Parquet file"),
        ("a.csv.gz", b"plain", "a.csv.gz: is not a whole gzip file"),
        ("a.csv", "query,größe\n".encode("latin-1"), "a.csv: the header is not UTF-8"),
    ],
)
def test_files_that_cannot_be_read_are_named_with_a_remedy(tmp_path, name, content, message):
    (tmp_path / "nine.csv").write_text("x", "utf-8")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        open_table(tmp_path / name)
    assert message in str(error.value)
    assert error.value.remedy


def test_files_cut_short_are_refused(tmp_path):
    table = pa.table({"query": [str(number) for number in range(1000)]})
    pq.write_table(table, tmp_path / "whole.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:-100])
    with pytest.raises(UserError, match=r"cut\.parquet: is not a whole Parquet file"):
        open_table(tmp_path / "cut.parquet")

    middle = bytearray((tmp_path / "whole.parquet").read_bytes())
    middle[4:200] = bytes(196)
    (tmp_path / "hole.parquet").write_bytes(middle)
    with pytest.raises(UserError, match=r"hole\.parquet: is not a whole Parquet file"):
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
    assert sources.example_columns == {"query": "query", "product_id": "docid", "esci_label": "rating"}


def test_trec_qrels_take_their_query_texts_from_topics(tmp_path):
    (tmp_path / "a.qrels").write_text("7 0 B1 3\n8\t0\tB2\t0\n9 0 B3\nx 0 B4 1\n", "utf-8")
    (tmp_path / "topics.tsv").write_text("7\tred shoe\n8\tblue hat\n9\tbag\n", "utf-8")
    table = open_judgements(tmp_path / "a.qrels", tmp_path / "topics.tsv")
    rows, values, refused = read(table, {"query": "query", "query_id": "query_id", "esci_label": "label"})
    assert rows == [1, 2, 4]
    assert [tuple(row.values()) for row in values] == [("red shoe", "7", "3"), ("blue hat", "8", "0"), (None, "x", "1")]
    assert [(each["row"], each["detail"]) for each in refused] == [(3, "3 values where a judgement has 4")]
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
