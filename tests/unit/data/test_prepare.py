import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from zhichun.core.errors import UserError
from zhichun.core.schema import EXAMPLE_COLUMNS, ORIGIN, PREPARED_COLUMNS, PRODUCT_COLUMNS, TEXT_COLUMNS
from zhichun.data.dataset import in_test, query_fold
from zhichun.data.prepare.prepare import EXAMPLES_SCHEMA, prepare
from zhichun.text.fold import fold_query

PRODUCTS = [
    {"product_id": "1", "title": "<b>Red</b> shoe &amp; sock", "brand": "ACME", "locale": "us"},
    {"product_id": "2", "title": "Blue\nhat", "bullets": "<br>", "locale": "us"},
    {"product_id": "2", "title": "Gorro azul", "locale": "ES"},
]
EXAMPLES = [
    {"query": "red shoe", "product_id": "1", "label": "E"},
    {"query": "red  shoe ", "product_id": "2", "label": "i"},
    {"query": "gorro", "product_id": "2", "label": "Exact", "locale": "es"},
]


def write_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


@pytest.fixture
def shop(tmp_path):
    """Prepare tiny tables; give the manifest, and by name the tables that were written."""

    def prepare_shop(examples=EXAMPLES, products=PRODUCTS, **options):
        files = {
            "examples": write_lines(tmp_path / "e.jsonl", examples),
            "products": write_lines(tmp_path / "p.jsonl", products),
        }
        return prepare(None, tmp_path / "out", **{**files, **options})

    prepare_shop.read = lambda name: pq.read_table(tmp_path / "out" / f"{name}.parquet").to_pylist()
    return prepare_shop


def test_further_columns_of_the_catalogue_are_kept(shop, tmp_path):
    shop(products=[{**product, "Price": 10 * place} for place, product in enumerate(PRODUCTS)], keep=["price"])
    assert [each["price"] for each in shop.read("products")] == ["0", "10", "20"]
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["options"]["keep"] == ["price"]
    with pytest.raises(UserError, match="no column 'price'"):
        shop(keep=["price"], overwrite=True)


def test_a_dataset_folder_holds_clean_products_and_complete_examples(shop, tmp_path):
    shop()
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == [
        "examples.parquet",
        "manifest.json",
        "products.parquet",
        "rejected.parquet",
        "summary.json",
        "vocabulary",
    ]
    assert [[each["product_id"], each["product_locale"], each["product_title"]] for each in shop.read("products")] == [
        ["1", "us", "Red shoe & sock"],
        ["2", "us", "Blue hat"],
        ["2", "es", "Gorro azul"],
    ]
    assert shop.read("products")[0]["product_brand"] == "ACME"
    assert shop.read("products")[1]["product_bullet_point"] is None
    split = "test" if in_test("red shoe", 0.1) else "train"
    assert shop.read("examples")[1] == {
        "example_id": 1,
        "query": "red shoe",
        "query_id": 0,
        "product_id": "2",
        "product_locale": "us",
        "esci_label": "I",
        "small_version": 1,
        "large_version": 1,
        "split": split,
        "fold": query_fold("red shoe"),
        "weight": 1.0,
        "origin": "judged",
    }
    assert [each["query_id"] for each in shop.read("examples")] == [0, 0, 1]


def test_the_columns_are_the_official_ones_and_those_of_the_design(shop, tmp_path):
    shop()
    examples = pq.read_schema(tmp_path / "out" / "examples.parquet")
    assert examples.equals(EXAMPLES_SCHEMA)
    assert tuple(examples.names) == EXAMPLE_COLUMNS + PREPARED_COLUMNS
    assert tuple(pq.read_schema(tmp_path / "out" / "products.parquet").names) == (*PRODUCT_COLUMNS, ORIGIN)


def test_the_manifest_counts_what_is_there(shop, tmp_path):
    manifest = shop()
    assert json.loads((tmp_path / "out" / "manifest.json").read_text("utf-8")) == manifest
    assert [each["file"] for each in manifest["sources"]] == ["e.jsonl", "p.jsonl"]
    assert manifest["products"]["by_locale"] == {"es": 1, "us": 2}
    assert manifest["products"]["with_text"]["product_brand"] == 1
    examples = manifest["examples"]
    assert (examples["read"], examples["kept"], examples["dropped"], examples["queries"]) == (3, 3, {}, 2)
    assert examples["by_label"] == {"E": 2, "S": 0, "C": 0, "I": 1}
    assert sum(examples["by_fold"].values()) == sum(examples["by_split"].values()) == 3
    assert examples["ids"] == {"query_id": "counted", "example_id": "counted"}


def test_preparing_twice_gives_the_same_bytes(shop, tmp_path):
    examples = [{"query": f"query {number % 70}", "product_id": "1", "label": "E"} for number in range(300)]
    shop(examples)
    first = {each.name: each.read_bytes() for each in (tmp_path / "out").rglob("*") if each.is_file()}
    assert {"manifest.json", "summary.json", "examples.parquet", "trigrams.parquet"} <= set(first)
    shop(examples, overwrite=True)
    assert {each.name: each.read_bytes() for each in (tmp_path / "out").rglob("*") if each.is_file()} == first


def test_given_ids_split_versions_and_weights_are_kept(shop):
    given = {"split": "TEST", "small_version": 0, "large_version": 1, "weight": 0.25, "query_id": 77, "example_id": 5}
    shop([{**EXAMPLES[0], **given}])
    written = shop.read("examples")[0]
    assert {name: written[name] for name in given} == {**given, "split": "test"}


def test_ids_that_identify_nothing_are_counted_anew(shop):
    manifest = shop([{**each, "query_id": 1, "example_id": f"e{row}"} for row, each in enumerate(EXAMPLES)])
    assert [each["query_id"] for each in shop.read("examples")] == [0, 0, 1]
    assert manifest["examples"]["ids"] == {"query_id": "counted anew", "example_id": "counted anew"}


def test_test_queries_are_drawn_by_hash_and_close_to_the_share(shop):
    examples = [{"query": f"query {number}", "product_id": "1", "label": "E"} for number in range(2000)]
    shop(examples, test_share=0.3)
    tested = {each["query"] for each in shop.read("examples") if each["split"] == "test"}
    assert tested == {each["query"] for each in examples if in_test(each["query"], 0.3)}
    assert 0.26 < len(tested) / 2000 < 0.34


@pytest.mark.parametrize("folds", [2, 3, 5, 20, 127])
def test_folds_are_about_equal_and_never_share_a_query(shop, folds):
    words = [f"Query {number}" for number in range(1500)]
    pairs = [{"query": each, "product_id": "1", "label": "E"} for each in words]
    pairs += [{"query": each.upper(), "product_id": "2", "label": "E", "locale": "es"} for each in words]
    shop(pairs, folds=folds)
    by_key = {}
    for each in shop.read("examples"):
        by_key.setdefault(fold_query(each["query"]), set()).add(each["fold"])
    assert all(len(found) == 1 for found in by_key.values())
    sizes = [sum(fold in found for found in by_key.values()) for fold in range(folds)]
    expected = 1500 / folds
    assert all(abs(size - expected) < 5 * expected**0.5 for size in sizes)


def test_a_hash_is_the_same_on_every_machine():
    assert [query_fold(query) for query in ("red shoe", "ＲＥＤ  shoe", "gorro", "赤い靴")] == [1, 1, 0, 1]


def test_training_pairs_of_a_tested_query_are_left_out_and_listed(shop):
    examples = [
        {"query": "red shoe", "product_id": "1", "label": "E", "split": "train"},
        {"query": "Red  Shoe", "product_id": "2", "label": "I", "split": "test"},
        {"query": "ＲＥＤ shoe", "product_id": "2", "label": "I", "split": "train", "locale": "es"},
        {"query": "hat", "product_id": "2", "label": "E", "split": "train"},
    ]
    manifest = shop(examples)
    assert [each["query"] for each in shop.read("examples")] == ["Red Shoe", "hat"]
    assert manifest["examples"]["dropped"] == {"query in test too": 2}
    assert [(each["row"], each["reason"]) for each in shop.read("rejected")] == [
        (1, "query in test too"),
        (3, "query in test too"),
    ]


def test_exact_duplicates_are_counted_and_no_failure(shop):
    manifest = shop([EXAMPLES[0], EXAMPLES[0], {**EXAMPLES[0], "query": " red shoe"}])
    assert manifest["examples"]["dropped"] == {"duplicate": 2}
    assert len(shop.read("examples")) == 1


def test_own_grades_and_columns(shop):
    examples = [{"search": "red shoe", "sku": 1, "grade": 3.0}, {"search": "hat", "sku": 2, "grade": 0}]
    products = [{"sku": 1, "name": "Red shoe"}, {"sku": 2, "name": "Hat"}]
    columns = {"query": "search", "product_id": "sku", "label": "grade", "title": "name"}
    shop(examples, products, columns=columns, labels={"3": "E", "0": "Irrelevant"}, locale="jp")
    assert [(each["product_id"], each["esci_label"], each["product_locale"]) for each in shop.read("examples")] == [
        ("1", "E", "jp"),
        ("2", "I", "jp"),
    ]


def test_qrels_with_topics(shop, tmp_path):
    (tmp_path / "a.qrels").write_text("7 0 1 3\n9 0 2 0\n", "utf-8")
    (tmp_path / "t.tsv").write_text("7\tred shoe\n9\tblue hat\n", "utf-8")
    manifest = prepare(
        None,
        tmp_path / "out",
        examples=tmp_path / "a.qrels",
        products=write_lines(tmp_path / "p.jsonl", PRODUCTS),
        topics=tmp_path / "t.tsv",
        labels={"3": "E", "0": "I"},
    )
    assert [(each["query_id"], each["query"]) for each in shop.read("examples")] == [(7, "red shoe"), (9, "blue hat")]
    assert [each["part"] for each in manifest["sources"]] == ["examples", "products", "topics"]


def test_progress_ends_at_the_whole_of_each_step(shop):
    seen = []
    shop(progress=lambda *step: seen.append(step))
    steps = {"products", "examples", "vocabularies", "summary"}
    assert {(step, done == total) for step, done, total in seen} == {(step, True) for step in steps}


@pytest.mark.esci
@pytest.mark.skipif("ESCI_DATA" not in os.environ, reason="ESCI_DATA names no extract")
def test_the_real_extract_has_no_bad_row(tmp_path):
    manifest = prepare(Path(os.environ["ESCI_DATA"]), tmp_path / "out")
    assert (manifest["products"]["kept"], manifest["products"]["dropped"]) == (3052, {})
    assert (manifest["examples"]["kept"], manifest["examples"]["dropped"]) == (3559, {})
    assert manifest["examples"]["by_locale"] == {"es": 412, "jp": 438, "us": 2709}
    assert manifest["examples"]["by_label"] == {"E": 1806, "S": 915, "C": 109, "I": 729}
    assert manifest["examples"]["ids"] == {"query_id": "given", "example_id": "given"}
    products = pq.read_table(tmp_path / "out" / "products.parquet")
    texts = [text for name in TEXT_COLUMNS for text in products[name].to_pylist() if text is not None]
    assert not [text for text in texts if "<br" in text or "\n" in text or not text]
