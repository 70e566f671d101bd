"""Several judgements of a pair, judgements that are none, and spellings of one query."""

import csv
import json
import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.data.prepare.making import Rebalance
from zhichun.data.prepare.prepare import prepare
from zhichun.text.fold import fold_query

GRADES = {"3": "E", "2": "S", "1": "C", "0": "I"}
PRODUCTS = [{"product_id": str(number), "title": f"shoe {number}", "bullets": "soft " * 200} for number in range(1, 5)]


@pytest.fixture
def shop(tmp_path):
    """Prepare (query, product, grade, judge, …); give the manifest, and by name the tables that were written."""

    def prepare_shop(rows, names=("query", "docid", "rating", "judge"), labels=GRADES, **options):
        examples = [{name: value for name, value in zip(names, row, strict=False) if value is not None} for row in rows]
        for name, records in (("e", examples), ("p", PRODUCTS)):
            lines = "".join(json.dumps(record) + "\n" for record in records)
            (tmp_path / f"{name}.jsonl").write_text(lines, "utf-8")
        files = {"examples": tmp_path / "e.jsonl", "products": tmp_path / "p.jsonl"}
        return prepare(None, tmp_path / "out", **files, labels=labels, overwrite=True, test_share=0, **options)

    prepare_shop.read = lambda name: pl.read_parquet(tmp_path / "out" / f"{name}.parquet")
    return prepare_shop


def judged(*grades):
    """Give one pair the grades of as many judges."""
    return [("shoe", "1", grade, f"judge {number}") for number, grade in enumerate(grades)]


@pytest.mark.parametrize(
    ("grades", "majority", "mean", "gain"),
    [
        ("3", "E", "E", 1),
        ("33", "E", "E", 1),
        ("330", "E", "S", 2 / 3),
        ("300", "I", "C", 1 / 3),
        ("30", "I", "C", 1 / 2),  # a tie goes to the less relevant label, and 1.5 to the lower grade
        ("32", "S", "S", 0.55),
        ("3210", "I", "C", 1.11 / 4),
        ("332211", "C", "S", 2.22 / 6),
        ("3322", "S", "S", 0.55),
        ("221", "S", "S", 0.21 / 3),
    ],
)
def test_judges_are_settled_by_majority_mean_or_distribution(shop, grades, majority, mean, gain):
    rows = judged(*grades)
    manifest = shop(rows)
    assert manifest["options"]["judges"] == "majority"
    assert shop.read("examples")["esci_label"].to_list() == [majority]
    assert {"judged_gain", "label_shares"}.isdisjoint(shop.read("examples").columns)
    shop(rows, judges="mean")
    assert shop.read("examples").select("esci_label", "judged_gain").rows() == [(mean, pytest.approx(gain))]
    manifest = shop(rows, judges="distribution")
    (row,) = shop.read("examples").select("esci_label", "label_shares").rows()
    shares = [grades.count(grade) / len(grades) for grade in "3210"]
    assert row[0] == majority
    assert list(row[1]) == pytest.approx(shares)
    step = next(step for step in manifest["steps"] if step["step"] == "judges")
    assert step["dropped"] == ({"one of several judgements": len(grades) - 1} if len(grades) > 1 else {})
    assert step.get("settled", 0) == int(len({*grades}) > 1)
    assert manifest["examples"]["read"] == len(grades)


def test_rows_without_judges_are_settled_where_that_is_asked_for_and_refused_otherwise(shop):
    rows = [("shoe", "1", "3"), ("Shoe ", "1", "3"), ("shoe", "1", "0"), ("hat", "2", "2")]
    with pytest.raises(UserError, match=r"3 × two labels for one pair\n(.*\n)+.*--judges majority"):
        shop(rows)
    with pytest.raises(UserError, match=r"3 × two labels for one pair"):
        shop(rows, judges="strict")
    shop(rows, judges="majority")
    assert shop.read("examples").select("query", "esci_label").rows() == [("shoe", "E"), ("hat", "S")]
    assert shop.read("rejected").select("row", "reason").rows() == [
        (2, "one of several judgements"),
        (3, "one of several judgements"),
    ]


def test_one_judge_counts_once(shop):
    rows = [*judged("0"), *judged("0"), ("SHOE", "1", "0", " Judge 0"), *judged("0", "3", "3")]
    shop(rows)
    assert shop.read("examples")["esci_label"].to_list() == ["E"]
    reasons = Counter(shop.read("rejected")["reason"])
    assert reasons == {"duplicate": 3, "one of several judgements": 2}
    with pytest.raises(UserError, match=r"2 × two labels by one judge\n.*'1' by 'judge 0'(.*\n)+Keep one judgement of"):
        shop([*judged("0", "3"), *judged("1")])


def test_a_column_of_judges_may_be_strict(shop):
    with pytest.raises(UserError, match="2 × two labels for one pair"):
        shop(judged("3", "2"), judges="strict")
    shop(judged("3", "3"), judges="strict")
    assert shop.read("rejected")["reason"].to_list() == ["duplicate"]


@pytest.mark.parametrize(
    ("labels", "grades", "label"),
    [
        ({"10": "E", "5": "S", "0": "I"}, ["10", "0"], "S"),
        ({"10": "E", "5": "S", "0": "I"}, ["10", "5", "0", "5,0"], "S"),
        ({"10": "E", "5": "S", "0": "I"}, ["10", "5"], "S"),
        ({}, ["E", "I"], "C"),
        ({"good": "E", "bad": "I"}, ["good", "good", "bad"], "E"),
        ({"good": "E", "bad": "I"}, ["good", "bad"], "I"),
        ({"3": "E", "2": "S", "1": "C", "0": "I"}, ["Exact", "2,0"], "S"),
        (GRADES, ["2.5"], "S"),
        (GRADES, ["2,67"], "E"),
        (GRADES, [2.5, "3"], "E"),
    ],
)
def test_the_mean_is_of_the_grades_that_were_named(shop, labels, grades, label):
    shop(judged(*grades), labels=labels, judges="mean")
    assert shop.read("examples")["esci_label"].to_list() == [label]


@pytest.mark.parametrize("judges", [None, "majority", "distribution", "strict"])
def test_averages_and_grades_beyond_the_scale_are_no_labels(shop, judges):
    with pytest.raises(UserError, match="unknown label"):
        shop(judged("2.5"), judges=judges)
    with pytest.raises(UserError, match="unknown label"):
        shop(judged("7"), judges="mean")


@pytest.mark.parametrize("empty", ["", " ", "NaN", "N/A", "-1", "-1.0", "-2", None])
def test_what_nobody_judged_is_counted_and_never_refused(shop, empty):
    manifest = shop([*judged("3"), ("hat", "2", empty), ("", "2", empty), ("star", "", empty)])
    assert manifest["examples"]["dropped"] == {"not judged": 3}
    assert manifest["examples"]["read"] == 4
    assert shop.read("examples")["query"].to_list() == ["shoe"]


@pytest.mark.parametrize("nothing", ["skip", "", "Not judged", None])
def test_a_grade_may_be_mapped_to_nothing_and_a_negative_one_to_a_label(shop, nothing):
    manifest = shop([*judged("9", "3"), ("hat", "2", "-1")], labels={**GRADES, "9": nothing, "-1": "C"})
    assert manifest["examples"]["dropped"] == {"not judged": 1}
    assert shop.read("examples")["esci_label"].to_list() == ["E", "C"]


def test_a_file_in_which_nobody_judged_anything_says_so(shop):
    with pytest.raises(UserError, match=r"no judged pair is left \(1 × not judged\)\nJudge some"):
        shop([("shoe", "1", "")])


def test_spellings_of_one_query_share_its_id_and_fold_and_keep_their_text(shop):
    rows = [
        ("Shoe", "1", "3"),
        ("shoe ", "2", "2"),
        ("ｓｈｏｅ", "3", "0"),
        ("sho\u00ade", "4", "0"),
        ("hat", "1", "0"),
    ]
    shop(rows)
    examples = shop.read("examples")
    assert examples["query_id"].to_list() == [0, 0, 0, 0, 1]
    assert examples["query"].to_list() == ["Shoe", "shoe", "ｓｈｏｅ", "shoe", "hat"]
    assert examples[:4]["fold"].n_unique() == 1


def test_spellings_of_one_query_take_the_first_of_the_files_ids(shop):
    rows = [("Shoe", "1", "3", 7), ("shoe", "2", "2", 9), ("hat", "1", "0", 8)]
    manifest = shop(rows, names=("query", "docid", "rating", "query_id"))
    assert manifest["examples"]["ids"]["query_id"] == "given"
    assert shop.read("examples")["query_id"].to_list() == [7, 7, 8]


def test_made_and_relabelled_pairs_keep_what_judges_said_of_their_label(shop, tmp_path):
    rows = [(f"shoe {number}", "1", grade, judge) for number in range(40) for judge, grade in enumerate("110")]
    (tmp_path / "list.csv").write_text("example_id,new_label\n0,E\n3,E\n6,E\n9,E\n")
    made = {"steps": [Rebalance(characters=100)], "relabel": tmp_path / "list.csv", "on_bad_rows": "drop"}
    shop(rows, judges="distribution", **made)
    examples = shop.read("examples").with_columns(pl.col("label_shares").arr.to_list())
    assert examples.filter(pl.col("origin") == "balanced")["esci_label"].unique().to_list() == ["C"]
    shares = np.array(examples.filter(pl.col("esci_label") == "C")["label_shares"].to_list())
    assert np.allclose(shares, [0, 0, 2 / 3, 1 / 3])
    changed = examples.filter(pl.col("esci_label") == "E")["label_shares"].to_list()
    assert changed
    assert all(each == [1, 0, 0, 0] for each in changed)
    shop(rows, judges="mean", **made)
    gains = shop.read("examples").group_by("esci_label").agg(pl.col("judged_gain").unique())
    expected = {"C": pytest.approx([0.02 / 3], abs=1e-4), "E": [1.0]}
    assert dict(gains.iter_rows()) == expected


def test_the_weight_of_a_settled_pair_is_the_mean_of_its_rows(shop):
    names = ("query", "docid", "rating", "judge", "weight")
    shop([("shoe", "1", "3", "a", 1), ("shoe", "1", "3", "b", 0.5)], names=names)
    assert shop.read("examples")["weight"].to_list() == [0.75]


def test_what_is_no_mode_is_said(shop):
    with pytest.raises(UserError, match=r"judges='mayority' means nothing\nDid you mean 'majority'"):
        shop(judged("3"), judges="mayority")


@pytest.mark.skipif("CHORUS_DATA" not in os.environ, reason="CHORUS_DATA names no ratings")
@pytest.mark.parametrize("judges", ["majority", "mean", "distribution"])
def test_three_raters_of_real_lists_are_settled_as_python_settles_them(tmp_path, judges):
    folder = Path(os.environ["CHORUS_DATA"])
    files = {"examples": folder / "ratings.csv", "products": folder / schema.OFFICIAL_PRODUCTS_FILE}
    manifest = prepare(None, tmp_path / "out", **files, labels=GRADES, judges=judges)
    ratings = {}
    with files["examples"].open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            ratings.setdefault((fold_query(row["query"]), row["product_id"]), []).append(int(row["grade"]))
    expected = {}
    for pair, grades in ratings.items():
        most = max(Counter(grades).values())
        tied = [grade for grade in {*grades} if grades.count(grade) == most]
        expected[pair] = math.ceil(sum(grades) / len(grades) - 0.5) if judges == "mean" else min(tied)
    examples = pl.read_parquet(tmp_path / "out" / "examples.parquet")
    keys = zip(map(fold_query, examples["query"]), examples["product_id"], strict=True)
    found = dict(zip(keys, examples["esci_label"], strict=True))
    assert found == {pair: GRADES[str(grade)] for pair, grade in expected.items()}
    assert manifest["examples"]["read"] == sum(map(len, ratings.values()))
    step = next(step for step in manifest["steps"] if step["step"] == "judges")
    assert step["settled"] == sum(len({*grades}) > 1 for grades in ratings.values())
