import itertools
import json

import polars as pl
import pytest

from zhichun.core.errors import UserError
from zhichun.data.dataset import VALIDATION_BUCKET, query_bucket, query_fold
from zhichun.data.prepare.prepare import prepare
from zhichun.data.prepare.steps import Made

PRODUCTS = [{"product_id": "1", "title": "Red shoe"}, {"product_id": "2", "title": "Blue hat"}]


class Rewrite:
    """Gives training queries other words, each with a copy of its product."""

    name, origin = "rewrite", "rewritten"

    def __init__(self, words):
        self.words = words

    def options(self):
        return {"words": len(self.words)}

    def make(self, judged, products, marker, progress):
        chosen = judged.filter(pl.col("query").is_in(list(self.words)))
        copies = pl.read_parquet(products).join(chosen, on=["product_id", "product_locale"], how="semi").drop("origin")
        named = (pl.col("product_id") + marker + "copy").alias("product_id")
        pairs = chosen.select("example_id", pl.col("query").replace(self.words), named, "product_locale", weight=0.5)
        return Made(pairs=pairs, products=copies.with_columns(named))


@pytest.fixture
def shop(tmp_path):
    """Prepare pairs; give the manifest, and by name the tables that were written."""

    def prepare_shop(examples, **options):
        for name, records in (("e", examples), ("p", PRODUCTS)):
            lines = "".join(json.dumps(record) + "\n" for record in records)
            (tmp_path / f"{name}.jsonl").write_text(lines, "utf-8")
        files = {"examples": tmp_path / "e.jsonl", "products": tmp_path / "p.jsonl"}
        return prepare(None, tmp_path / "out", **files, overwrite=True, **options)

    prepare_shop.read = lambda name: pl.read_parquet(tmp_path / "out" / f"{name}.parquet")
    return prepare_shop


def pair(query, product="1", label="E", split="train", **more):
    return {"query": query, "product_id": product, "label": label, "split": split, **more}


def words(wanted, start="word"):
    """Find queries that fulfil a condition."""
    return (f"{start} {number}" for number in range(10_000) if wanted(f"{start} {number}"))


def test_every_step_says_what_it_dropped(shop):
    examples = [
        pair("red shoe"),
        pair("red  shoe"),
        pair("hat", "2", "E"),
        pair("hat", "2", "S"),
        pair("sock", "9"),
        pair("sock", "1", "?"),
        pair("Cap"),
        pair("cap", "2", split="test"),
    ]
    manifest = shop(examples, on_bad_rows="drop")
    assert [(step["step"], step["read"], step["dropped"], step["kept"]) for step in manifest["steps"]] == [
        ("read", 8, {}, 8),
        ("clean", 8, {"unknown label": 1}, 7),
        ("match products", 7, {"no such product": 1}, 6),
        ("split", 6, {}, 6),
        ("judges", 6, {"duplicate": 1, "two labels for one pair": 2}, 3),
        ("leakage", 3, {"query in test too": 1}, 2),
    ]
    assert manifest["options"]["steps"] == []


def test_a_copy_in_test_is_the_one_that_stays(shop):
    shop([pair("red shoe"), pair("red shoe", split="test"), pair("red shoe")])
    assert shop.read("examples").select("split").rows() == [("test",)]
    reasons = ["duplicate", "query in test too"]
    assert shop.read("rejected")["reason"].to_list() == reasons
    assert shop.read("rejected")["row"].to_list() == [3, 1]


def test_conflicting_labels_of_one_pair_are_said(shop):
    with pytest.raises(UserError, match=r"3 × two labels for one pair\n.*row 1: two labels for one pair \(E and S\)"):
        shop([pair("red shoe"), pair("Red shoe", label="S"), pair("ＲＥＤ shoe ", label="S")])


def test_made_pairs_take_all_but_query_and_product_from_their_source(shop):
    old = next(words(lambda word: query_bucket(word) != VALIDATION_BUCKET))
    new = next(words(lambda word: query_fold(word) != query_fold(old), "new"))
    manifest = shop([pair(old, label="S", weight=0.5, small_version=0)], steps=[Rewrite({old: new})])
    judged, made = shop.read("examples").rows(named=True)
    assert made == {
        **judged,
        "example_id": 1,
        "query_id": 1,
        "query": new,
        "product_id": "1~copy",
        "weight": 0.25,
        "origin": "rewritten",
    }
    assert shop.read("products").select("product_id", "product_title", "origin").rows() == [
        ("1", "Red shoe", "catalogue"),
        ("2", "Blue hat", "catalogue"),
        ("1~copy", "Red shoe", "rewritten"),
    ]
    assert manifest["options"]["steps"] == [{"step": "rewrite", "words": 1}]


def test_made_pairs_that_would_leak_are_dropped_with_their_products(shop):
    trained = words(lambda word: query_bucket(word) != VALIDATION_BUCKET)
    old = [next(trained) for _ in range(3)]
    validated = next(words(lambda word: query_bucket(word) == VALIDATION_BUCKET))
    judged_elsewhere = next(words(lambda word: query_fold(word) != query_fold(old[1]), "other"))
    new = next(words(lambda word: query_bucket(word) != VALIDATION_BUCKET, "new"))
    examples = [pair(old[0], "2"), *(pair(word) for word in (*old[1:], validated))]
    examples += [pair("Tested", split="test"), pair(judged_elsewhere, "2")]
    meant = {old[0]: "tested", old[1]: judged_elsewhere, old[2]: new, validated: f"{new}!"}
    manifest = shop(examples, steps=[Rewrite(meant)])
    assert manifest["steps"][-1]["dropped"] == {
        "made of a validation query": 1,
        "query in another fold": 1,
        "query in test too": 1,
    }
    assert shop.read("examples").filter(origin="rewritten")["query"].to_list() == [new]
    assert shop.read("rejected").select("file", "row").rows() == [("e.jsonl", row) for row in (1, 2, 4)]
    assert manifest["examples"]["dropped"] == {}, "these rows were made, not read"
    assert manifest["products"]["made"] == {"rewritten": 1}


def test_made_pairs_come_once_and_never_with_two_labels(shop):
    one, two, three, four = itertools.islice(words(lambda word: query_fold(word) == 1), 4)
    examples = [pair(one), pair(two, label="S"), pair(three, "2"), pair(four, "2")]
    manifest = shop(examples, steps=[Rewrite({one: "new", two: "new", three: "newer", four: "newer"})])
    assert manifest["steps"][-1]["dropped"] == {"duplicate": 1, "made with two labels": 2}
    assert shop.read("examples").filter(origin="rewritten")["query"].to_list() == ["newer"]


def test_a_bad_row_stops_the_work_before_anything_is_made(shop):
    class Never(Rewrite):
        def make(self, judged, products, marker, progress):
            raise AssertionError

    with pytest.raises(UserError, match="no such product"):
        shop([pair("red shoe"), pair("hat", "9")], steps=[Never({})])


def test_ids_that_leave_no_room_are_refused(shop):
    with pytest.raises(UserError, match="the example_ids go up to 9223372036854775807"):
        shop([pair("word 1", example_id=2**63 - 1)], steps=[Rewrite({"word 1": "word 1"})])
