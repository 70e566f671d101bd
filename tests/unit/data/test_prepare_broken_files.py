"""Files that are broken in rows: what `prepare` reads is what it keeps and what it drops, and the manifest says how."""

import json

import pyarrow.parquet as pq
import pytest

from zhichun.core.errors import UserError
from zhichun.data.prepare.prepare import prepare


@pytest.fixture
def broken(tmp_path):
    products = ["product_id,title", *(f"{number},lamp {number}" for number in range(1, 1001))]
    products[500], products[600], products[700] = '500,"27 inch monitor', "600", '700,32 inch"'
    judged = ["query,product_id,label", *(f"query {number % 50},{number},E" for number in range(1, 401))]
    judged[100], judged[50], judged[70] = 'a "good" lamp,100,E', '"query 50,50,E', "query,70"
    (tmp_path / "p.csv").write_text("\n".join(products), "utf-8")
    (tmp_path / "e.csv").write_text("\n".join(judged), "utf-8")
    return {"examples": tmp_path / "e.csv", "products": tmp_path / "p.csv", "test_share": 0.2}


def test_rows_read_are_rows_kept_and_rows_dropped(broken, tmp_path):
    manifest = prepare(None, tmp_path / "out", **broken, on_bad_rows="drop")
    for part, rows in (("products", 1000), ("examples", 400)):
        assert manifest[part]["read"] == rows
        assert manifest[part]["dropped"] == {"malformed row": 1, "unbalanced quote": 1}
        assert manifest[part]["kept"] == rows - 2
    refused = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    assert [(each["file"], each["row"]) for each in refused] == [
        ("p.csv", 500),
        ("p.csv", 600),
        ("e.csv", 50),
        ("e.csv", 70),
    ]


def test_without_leave_the_first_rows_are_named_with_what_to_do(broken, tmp_path):
    with pytest.raises(UserError, match=r"p\.csv, row 500: unbalanced quote") as error:
        prepare(None, tmp_path / "out", **broken)
    assert "Close the quote" in error.value.remedy


def test_what_was_found_out_of_the_files_is_said_and_kept(tmp_path):
    (tmp_path / "e.csv").write_bytes("Query;docid;Rating;note\nhat;1;E;x\n".encode("utf-16"))
    (tmp_path / "p.jsonl").write_text(json.dumps([{"ID": 1, "Title": "Hat", "Vendor": "N/A"}]), "utf-8")
    said = []
    manifest = prepare(
        None,
        tmp_path / "out",
        examples=tmp_path / "e.csv",
        products=tmp_path / "p.jsonl",
        test_share=0,
        say=said.append,
    )
    assert (
        said
        == manifest["read"]
        == [
            "e.csv is not UTF-8 but UTF-16, and was read as that",
            "e.csv has values separated by semicolons",
            "e.csv: uses query (Query), product_id (docid), label (Rating); leaves unused: note",
            "p.jsonl holds one JSON array, and its objects were read as rows",
            "p.jsonl: uses product_id (ID), title (Title), brand (Vendor)",
        ]
    )
    assert manifest["products"]["missing_words"] == {"product_brand": 1}
