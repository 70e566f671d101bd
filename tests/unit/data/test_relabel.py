"""Preparing with corrections: labels that change, what is listed of it, and pairs that must stay as they are."""

import polars as pl
import pytest

from zhichun.core.errors import UserError
from zhichun.data.prepare.prepare import prepare

# `hat` is a validation query: its hash falls into bucket 0.
EXAMPLES = (
    "example_id,query,product_id,label,split\n"
    "10,red shoe,1,E,train\n11,red shoe,2,I,train\n12,hat,2,E,train\n13,sock,1,I,test\n"
)


@pytest.fixture
def attempt(tmp_path):
    """Prepare four pairs with corrections; give the manifest."""

    def run(relabel, drop=None, **options):
        (tmp_path / "e.csv").write_text(EXAMPLES, "utf-8")
        (tmp_path / "p.csv").write_text("product_id,title\n1,Red shoe\n2,Blue hat\n", "utf-8")
        (tmp_path / "r.csv").write_text(relabel, "utf-8")
        (tmp_path / "d.csv").write_text(drop or "", "utf-8")
        return prepare(
            None,
            tmp_path / "out",
            examples=tmp_path / "e.csv",
            products=tmp_path / "p.csv",
            relabel=tmp_path / "r.csv",
            drop_issues=None if drop is None else tmp_path / "d.csv",
            overwrite=True,
            **options,
        )

    run.read = lambda name: pl.read_parquet(tmp_path / "out" / f"{name}.parquet")
    return run


def test_a_label_changes_is_counted_and_listed_with_the_one_before(attempt):
    manifest = attempt("example_id,new_label,query\n11,Substitute,red shoe\n10,e,red shoe\n11,S,again\n")
    assert attempt.read("examples").select("example_id", "esci_label").rows() == [
        (10, "E"),
        (11, "S"),
        (12, "E"),
        (13, "I"),
    ]
    assert attempt.read("relabelled").rows() == [(11, "red shoe", "2", "us", "I", "S")]
    step = {"step": "relabel", "read": 4, "made": 0, "dropped": {}, "kept": 4, "changed": 1}
    assert manifest["steps"][-1] == step
    assert manifest["examples"]["by_label"] == {"E": 2, "S": 1, "C": 0, "I": 1}
    assert manifest["options"]["relabel"] is True
    assert manifest["sources"][-1]["part"] == "relabel"


def test_own_grades_are_labels_here_too(attempt):
    attempt("example_id,new_label\n11,3\n", labels={"3": "E"})
    assert attempt.read("relabelled")["new_label"].to_list() == ["E"]


def test_rows_that_cannot_be_applied_are_refused(attempt):
    with pytest.raises(UserError) as error:
        attempt("example_id,new_label\n10,X\n13,E\n11,S\n11,C\n99,E\n")
    message = str(error.value)
    assert "4 rows cannot be used" in message
    assert "r.csv, row 1: unknown label (example_id '10', new_label 'X')" in message
    assert "r.csv, row 2: not a training example (example_id '13', new_label 'E')" in message
    assert "r.csv, row 4: two labels for one pair (example_id '11', new_label 'C')" in message
    assert "r.csv, row 5: no such example (example_id '99', new_label 'E')" in message


def test_a_pair_is_dropped_or_relabelled_not_both(attempt):
    with pytest.raises(UserError, match=r"r\.csv, row 1: no such example .*'11'(.|\n)*each id in one list only"):
        attempt("example_id,new_label\n11,E\n", drop="example_id\n11\n")


def test_validation_pairs_keep_their_label_which_makes_nothing_fail(attempt):
    manifest = attempt("example_id,new_label\n12,I\n")
    assert attempt.read("examples").filter(example_id=12)["esci_label"].to_list() == ["E"]
    assert manifest["refused_issues"] == {"a validation example": 1}
    assert attempt.read("rejected")["reason"].to_list() == ["a validation example"]


def test_decisions_are_no_list_to_drop_or_relabel(attempt):
    with pytest.raises(UserError, match=r"d\.csv: holds decisions, kept pairs among them\n.*zhichun audit .*--accept"):
        attempt("example_id,new_label\n", drop="example_id,decision\n10,keep\n")
    with pytest.raises(UserError, match=r"r\.csv: no column 'new_label'"):
        attempt("example_id,esci_label\n10,E\n")
