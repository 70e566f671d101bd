"""What `prepare` refuses: rows, options, folders and disks; each with its reason, its place and a remedy."""

import errno
import json
import os
import random
import resource
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from zhichun.core.errors import UserError
from zhichun.data.prepare.prepare import prepare

PRODUCTS = "product_id,title,product_locale\n1,Red shoe,us\n2,Blue hat,us\n2,Gorro azul,es\n"
GOOD = "red shoe,1,E\n"


@pytest.fixture
def attempt(tmp_path):
    """Prepare CSV rows of examples (query, product_id, label); give the manifest."""

    def run(rows, products=PRODUCTS, header="query,product_id,label\n", out="out", **options):
        examples = header + rows
        (tmp_path / "e.csv").write_bytes(examples if isinstance(examples, bytes) else examples.encode())
        (tmp_path / "p.csv").write_bytes(products if isinstance(products, bytes) else products.encode())
        return prepare(None, tmp_path / out, examples=tmp_path / "e.csv", products=tmp_path / "p.csv", **options)

    return run


@pytest.mark.parametrize(
    ("rows", "refused"),
    [
        ("red shoe,9,E\n", [(2, "no such product", "'9' in locale 'us'")]),
        ("red shoe,1,exakt\n", [(2, "unknown label", "'exakt'")]),
        (" ,2,E\n", [(2, "empty query", "' '")]),
        ("<br>&nbsp;,2,E\n", [(2, "empty query", "'<br>&nbsp;'")]),
        ("hat,NaN,E\n", [(2, "missing product id", "'NaN'")]),
        ("hat,,E\n", [(2, "missing product id", "''")]),
        ("hat,2\n", [(2, "malformed row", "2 values for 3 columns")]),
        ("hat,2,E\nHat ,2,S\nhat,2,E\n", [(row, "two labels for one pair", "E and S") for row in (2, 3, 4)]),
    ],
)
def test_bad_rows_fail_with_reason_file_and_row(attempt, tmp_path, rows, refused):
    with pytest.raises(UserError) as error:
        attempt(GOOD + rows)
    message = str(error.value)
    row, reason, detail = refused[0]
    assert f"{len(refused)} × {reason}" in message
    assert f"e.csv, row {row}: {reason} ({detail})" in message
    assert "on_bad_rows=" in error.value.remedy
    listed = tmp_path / "out.rejected.parquet"
    assert f"All of them are in {listed}." in error.value.remedy
    assert [(each["row"], each["reason"], each["detail"]) for each in pq.read_table(listed).to_pylist()] == refused
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob("*.partial-*"))


def test_the_list_holds_the_row_as_it_was(attempt, tmp_path):
    with pytest.raises(UserError):
        attempt(GOOD + '"<b>Hat, blue",2,exakt\n')
    listed = pq.read_table(tmp_path / "out.rejected.parquet").to_pylist()[0]
    assert listed["file"] == "e.csv"
    assert json.loads(listed["record"]) == {"query": "<b>Hat, blue", "product_id": "2", "esci_label": "exakt"}


def test_bad_rows_are_dropped_where_that_is_asked_for(attempt, tmp_path):
    with pytest.raises(UserError):
        attempt(GOOD + "hat,9,E\n")
    manifest = attempt(GOOD + "hat,9,E\nhat,2,exakt\nhat,9,S\n", on_bad_rows="drop")
    assert manifest["examples"]["dropped"] == {"no such product": 2, "unknown label": 1}
    assert manifest["examples"]["read"] == 4
    assert len(pq.read_table(tmp_path / "out" / "rejected.parquet")) == 3
    assert not (tmp_path / "out.rejected.parquet").exists(), "the list of the failed attempt is out of date"


def test_broken_utf8_is_refused_on_both_sides(attempt):
    with pytest.raises(UserError) as error:
        attempt(b"h\xe4t,2,E\n", PRODUCTS.encode() + b"3,h\xe4t,us\n", b"query,product_id,label\n")
    assert "p.csv, row 4: broken UTF-8 (in product_title)" in str(error.value)
    assert "e.csv, row 1: broken UTF-8 (in query)" in str(error.value)
    assert "Save the file as UTF-8." in error.value.remedy


def test_bad_products_are_refused(attempt):
    with pytest.raises(UserError) as error:
        attempt(GOOD, PRODUCTS + "1,Shoe again,US\n,No id,us\nnan,No id,us\n2,Hat again,jp\n")
    assert "3 rows cannot be used: 2 × missing product id, 1 × duplicate product id" in str(error.value)
    assert "p.csv, row 4: duplicate product id ('1' in 'us' came before)" in str(error.value)
    kept = attempt(GOOD, PRODUCTS + "1,Shoe again,US\n", on_bad_rows="drop")
    assert kept["products"]["kept"] == 3
    assert kept["products"]["dropped"] == {"duplicate product id": 1}


def test_a_product_of_another_locale_is_pointed_out(attempt):
    with pytest.raises(UserError, match="no such product \\('1' in locale 'es', but there is one in us\\)"):
        attempt(GOOD.strip() + ",es\n", header="query,product_id,label,locale\n")


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("split", "dev", "unknown split ('dev')"),
        ("weight", "-1", "not a number (weight '-1')"),
        ("weight", "much", "not a number (weight 'much')"),
        ("small_version", "2", "not a number (small_version '2')"),
    ],
)
def test_optional_columns_are_checked_too(attempt, column, value, reason):
    with pytest.raises(UserError) as error:
        attempt(f"red shoe,1,E,{value}\n", header=f"query,product_id,label,{column}\n")
    assert f"e.csv, row 1: {reason}" in str(error.value)


@pytest.mark.parametrize("gap", ["", "nan", "NULL"])
def test_numbers_of_a_column_with_gaps_are_the_numbers_that_they_were(attempt, tmp_path, gap):
    header = "query,product_id,label,split,small_version,weight\n"
    attempt(f"red shoe,1,E,train,0.0,0.50\nred hat,1,E,{gap},{gap},{gap}\n", header=header)
    found = pq.read_table(tmp_path / "out" / "examples.parquet", columns=["small_version", "weight"])
    assert found.to_pydict() == {"small_version": [0, 1], "weight": [0.5, 1.0]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, "folds=1 cannot be\nGive a whole number from 2 to 127"),
        ({"folds": 128}, "folds=128 cannot be"),
        ({"test_share": 1.0}, "test_share=1.0 is no share"),
        ({"on_bad_rows": "dorp"}, "on_bad_rows='dorp' means nothing\nDid you mean 'drop'?"),
        ({"labels": {"3": "X"}}, "grade '3' is mapped to 'X', which is no label"),
        ({"labels": {"3": "E", "3.0": "S"}}, "grade '3.0' is mapped to both E and S\nLeave one"),
        ({"columns": {"title": "title", "product_title": "name"}}, "two columns are named for 'product_title'\nLeave"),
        ({"keep": ["title", "title"]}, "p.csv: the column 'title' would be kept twice\nName a column once"),
        ({"keep": ["product_locale"]}, "p.csv: the column 'product_locale' would be kept twice"),
        ({"columns": {"querry": "q"}}, "there is no column 'querry' to map\nDid you mean 'query'?"),
    ],
)
def test_options_that_cannot_be_are_refused(attempt, options, message):
    with pytest.raises(UserError) as error:
        attempt(GOOD, **options)
    assert message in str(error.value)


def test_tables_without_a_usable_row_are_refused(attempt):
    with pytest.raises(UserError, match=r"e\.csv: no judged pair is left \(the file holds none\)\nJudge some"):
        attempt("")
    with pytest.raises(UserError, match=r"e\.csv: no judged pair is left \(1 × unknown label\)\n.*--on-bad-rows fail"):
        attempt("hat,2,x\n", on_bad_rows="drop")
    with pytest.raises(UserError, match=r"p\.csv: holds no product\nName a table with rows"):
        attempt(GOOD, "product_id,title\n")
    with pytest.raises(UserError, match=r"p\.csv: no product has an id and a text"):
        attempt(GOOD, "product_id,title\n1,<br>\n")


def test_a_folder_that_exists_is_replaced_only_when_asked_and_only_if_it_is_a_dataset(attempt, tmp_path):
    (tmp_path / "out").mkdir()
    attempt(GOOD)
    with pytest.raises(UserError, match=r"out: the folder exists\.\nName another, or replace it with --overwrite"):
        attempt(GOOD)
    assert attempt(GOOD + "hat,2,E\n", overwrite=True)["examples"]["kept"] == 2
    (tmp_path / "out" / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"no manifest\.json, so it is not replaced|holds something else"):
        attempt(GOOD, overwrite=True)


def test_a_failed_attempt_leaves_the_old_dataset_as_it_was(attempt, tmp_path):
    attempt(GOOD)
    before = (tmp_path / "out" / "examples.parquet").read_bytes()
    with pytest.raises(UserError):
        attempt(GOOD + "hat,9,E\n", overwrite=True)
    assert (tmp_path / "out" / "examples.parquet").read_bytes() == before


def test_a_source_is_never_replaced_by_what_is_made_from_it(tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "e.csv").write_text("query,product_id,label\n" + GOOD, "utf-8")
    (tmp_path / "shop" / "p.csv").write_text(PRODUCTS, "utf-8")
    with pytest.raises(UserError, match="would replace the folder of its own source"):
        prepare(
            None,
            tmp_path / "shop",
            examples=tmp_path / "shop" / "e.csv",
            products=tmp_path / "shop" / "p.csv",
            overwrite=True,
        )


def test_what_a_killed_run_left_is_removed(attempt, tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / f"out.partial-{ended.pid}-0badcafe").mkdir()
    running = tmp_path / f"out.partial-{os.getppid()}-0badcafe"
    running.mkdir()
    attempt(GOOD)
    assert list(tmp_path.glob("*.partial-*")) == [running]


def test_what_is_added_at_the_end_is_in_the_folder_before_it_has_its_name(attempt, tmp_path):
    def write_page(folder):
        assert not (tmp_path / "out").exists()
        assert {"manifest.json", "summary.json", "examples.parquet"} <= {path.name for path in folder.iterdir()}
        (folder / "page.html").write_text("page")

    attempt(GOOD, finish=write_page)
    assert (tmp_path / "out" / "page.html").read_text() == "page"

    def fail(folder):
        raise UserError("no page")

    with pytest.raises(UserError, match="no page"):
        attempt(GOOD, finish=fail, overwrite=True)
    assert (tmp_path / "out" / "page.html").read_text() == "page"
    assert not list(tmp_path.glob("*.partial-*"))


def test_an_interrupted_run_leaves_nothing(attempt, tmp_path):
    def interrupt(step, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(GOOD, progress=interrupt)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["e.csv", "p.csv"]


def test_places_without_permission_are_named(attempt, tmp_path, monkeypatch):
    def forbid(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.mkdir", forbid)
        with pytest.raises(UserError, match=r"out: cannot be written .*\nName a place where you may write"):
            attempt(GOOD)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(UserError, match=r"e\.csv: no permission to read it\nChange its permissions"):
        attempt(GOOD)


def write_large_tables(folder):
    """Write a catalogue of about two megabytes that does not compress well."""
    chance = random.Random(0)
    texts = ("".join(chance.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=500)) for _ in range(4000))
    catalogue = "product_id,title\n" + "".join(f"{number},{text}\n" for number, text in enumerate(texts))
    (folder / "p.csv").write_text(catalogue, "utf-8")
    (folder / "e.csv").write_text("query,product_id,label\nhat,1,E\n", "utf-8")
    return {"examples": folder / "e.csv", "products": folder / "p.csv"}


def test_a_full_disk_is_a_message_and_leaves_nothing(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        with pytest.raises(UserError, match=r"the disk is full, .*; nothing of it is left\.\nFree some space") as error:
            prepare(None, disk / "out", **write_large_tables(tmp_path))
        assert error.value.file == disk / "out"
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_limit_on_files_is_a_message_and_leaves_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    tables = write_large_tables(tmp_path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(UserError, match="the disk is full, or a file grew over its limit"):
            prepare(None, tmp_path / "disk" / "out", **tables)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "disk").exists()


def test_a_refusal_leaves_no_folder_but_that_of_its_list(attempt, tmp_path):
    with pytest.raises(UserError, match="no judged pair is left"):
        attempt("", out="new/deep/out")
    assert not (tmp_path / "new").exists()
    with pytest.raises(UserError, match="unknown label"):
        attempt("hat,2,x\n", out="new/deep/out")
    assert [each.name for each in (tmp_path / "new" / "deep").iterdir()] == ["out.rejected.parquet"]
