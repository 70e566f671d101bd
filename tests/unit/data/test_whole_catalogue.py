"""Catalogues of rank, score and serve: the rules of `prepare`, and nothing left in the user's folder."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

from zhichun.cli import app
from zhichun.core.errors import UserError
from zhichun.data.prepare.clean_catalogue import read_catalogue
from zhichun.text.fold import MISSING_WORDS, are_missing, says_missing

VARIANTS = "SKU,Title,Vendor\nA,Shoe,Asara\nA,,\nB,Hat,N/A\n"


def test_bad_rows_stop_the_work_or_are_left_out_and_nothing_is_written_beside_the_file(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text(VARIANTS, "utf-8")
    with pytest.raises(
        UserError, match=r"1 row cannot be used: 1 × duplicate product id\n  p\.csv, row 2: .*"
    ) as error:
        read_catalogue(path)
    assert "rejected.parquet" not in str(error.value)
    assert error.value.remedy.endswith('leave them out with on_bad_rows="drop" (--on-bad-rows drop).')
    lines = []
    assert read_catalogue(path, on_bad_rows="drop", say=lines.append)["product_id"].to_pylist() == ["A", "B"]
    assert lines == [
        "p.csv: uses product_id (SKU), title (Title), brand (Vendor)",
        "p.csv: taken for empty, as NULL, N/A and the like say so: 1 × product_brand",
        "p.csv: left out: 1 × duplicate product id",
    ]
    assert [each.name for each in tmp_path.iterdir()] == ["p.csv"]
    with pytest.raises(UserError, match="on_bad_rows='dorp' means nothing\nDid you mean 'drop'"):
        read_catalogue(path, on_bad_rows="dorp")


def test_further_columns_are_kept_as_they_are(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("sku,title,Price,stars\nA,Shoe,12.50,\nB,Hat,cheap,4\n", "utf-8")
    found = read_catalogue(path, keep=["price", "stars"])
    assert found.column_names[-2:] == ["price", "stars"]
    assert found["price"].to_pylist() == ["12.50", "cheap"]
    assert found["stars"].to_pylist() == ["", "4"]
    with pytest.raises(UserError, match=r"no column 'prise'; the file has .*\nDid you mean 'Price'"):
        read_catalogue(path, keep=["prise"])


@pytest.mark.parametrize("command", ["prepare", "rank", "score", "serve"])
def test_every_command_that_reads_a_catalogue_has_the_option_that_the_remedy_names(command):
    options = typer.main.get_command(app).commands[command].params
    assert any("--on-bad-rows" in option.opts for option in options)


def test_words_for_nothing_are_empty_in_all_fields_but_the_title(tmp_path):
    words = [word.upper() for word in sorted(MISSING_WORDS)]
    fields = ("title", "brand", "color", "bullets", "description")
    rows = [{"id": str(row), **dict.fromkeys(fields, f" {word} ")} for row, word in enumerate(words)]
    rows.append({"id": "last", **dict.fromkeys(fields, "None of them, n/a or null")})
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows), "utf-8")
    table = read_catalogue(tmp_path / "p.jsonl")
    assert table["product_title"].to_pylist()[:-1] == words
    for name in ("brand", "color", "bullet_point", "description"):
        texts = table[f"product_{name}"].to_pylist()
        assert texts == [None] * len(words) + ["None of them, n/a or null"]


def test_a_column_and_a_single_text_are_judged_alike():
    texts = ["NULL", "null ", "x", "", None, "-", "---", "N/A", "ｎａｎ", "nan nan", "\\N", "x" * 100]
    single = [None if text is None else says_missing(text) for text in texts]
    assert are_missing(pa.array(texts, pa.large_string())).to_pylist() == single


def test_large_numbers_and_gaps_stay_what_they_are(tmp_path):
    table = pa.table({"product_id": [12345678901234567, 2], "title": pa.array([98765432109876543, None])})
    pq.write_table(table, tmp_path / "p.parquet")
    (tmp_path / "p.jsonl").write_text(
        '{"product_id": 12345678901234567, "title": 98765432109876543}\n{"product_id": 2, "title": null}\n', "utf-8"
    )
    (tmp_path / "p.csv").write_text("product_id,title\n12345678901234567,98765432109876543\n2,\n", "utf-8")
    for name in ("p.parquet", "p.jsonl", "p.csv"):
        read = read_catalogue(tmp_path / name)
        assert read["product_id"].to_pylist() == ["12345678901234567", "2"]
        assert read["product_title"].to_pylist() == ["98765432109876543", None]
