import numpy as np
import polars as pl
import pyarrow.compute as pc
import pytest

from zhichun.core.errors import UserError
from zhichun.data.dataset import Dataset
from zhichun.data.prepare.prepare import prepare

EXAMPLES = (
    "example_id,query,product_id,label,split\n"
    "10,red shoe,1,E,train\n11,red shoe,2,I,train\n12,hat,2,E,train\n13,sock,1,I,test\n"
)


@pytest.fixture
def attempt(tmp_path):
    """Prepare four pairs, leaving out those that a list names; give the manifest."""

    def run(issues, name="issues.csv", **options):
        (tmp_path / "e.csv").write_text(EXAMPLES, "utf-8")
        (tmp_path / "p.csv").write_text("product_id,title\n1,Red shoe\n2,Blue hat\n", "utf-8")
        if isinstance(issues, pl.DataFrame):
            issues.write_parquet(tmp_path / name)
        else:
            (tmp_path / name).write_text(issues, "utf-8")
        tables = {"examples": tmp_path / "e.csv", "products": tmp_path / "p.csv"}
        return prepare(None, tmp_path / "out", **tables, drop_issues=tmp_path / name, overwrite=True, **options)

    run.read = lambda name: pl.read_parquet(tmp_path / "out" / f"{name}.parquet")
    return run


@pytest.mark.parametrize(
    ("issues", "name"),
    [
        ("query,example_id,doubt\nred shoe,11,0.9\nred shoe,10,0.8\n", "issues.csv"),
        ('{"example_id": 10}\n{"example_id": 11}\n', "issues.jsonl"),
        (pl.DataFrame({"example_id": [10, 11, 11]}), "issues.parquet"),
        (pl.DataFrame({"example_id": [10.0, 11.0]}), "issues.parquet"),
    ],
)
def test_listed_training_pairs_stay_with_the_weight_0_and_are_counted(attempt, issues, name):
    manifest = attempt(issues, name)
    assert dict(attempt.read("examples").select("example_id", "weight").rows()) == {10: 0, 11: 0, 12: 1, 13: 1}
    step = {"step": "drop issues", "read": 4, "made": 0, "dropped": {}, "kept": 4, "untrained": 2}
    assert manifest["steps"][-1] == step
    assert manifest["examples"]["dropped"] == {}
    assert len(attempt.read("rejected")) == 0
    assert manifest["options"]["drop_issues"] is True
    assert manifest["sources"][-1]["part"] == "issues"


def test_ids_that_name_no_training_pair_are_refused_with_their_row(attempt):
    with pytest.raises(UserError) as error:
        attempt("example_id\n10\n99\n13\nx\n")
    message = str(error.value)
    assert "3 rows cannot be used" in message
    assert "issues.csv, row 2: no such example (example_id '99')" in message
    assert "issues.csv, row 3: not a training example (example_id '13')" in message
    assert "issues.csv, row 4: no such example (example_id 'x')" in message
    assert "the test pairs stay as they are" in error.value.remedy


def test_such_ids_can_be_passed_over_and_test_pairs_stay(attempt):
    manifest = attempt("example_id\n10\n99\n13\nx\n", on_bad_rows="drop")
    assert dict(attempt.read("examples").select("example_id", "weight").rows()) == {10: 0, 11: 1, 12: 1, 13: 1}
    assert manifest["refused_issues"] == {"no such example": 2, "not a training example": 1}
    assert manifest["steps"][-1]["untrained"] == 1
    assert len(attempt.read("rejected")) == 3


def test_a_list_without_ids_is_refused(attempt, tmp_path):
    with pytest.raises(
        UserError, match=r"issues\.csv: no column 'example_id'; the file has 'exampel_id'\nName .* Did you"
    ):
        attempt("exampel_id\n10\n")
    with pytest.raises(UserError, match=r"there is no such file"):
        prepare(
            None,
            tmp_path / "out",
            examples=tmp_path / "e.csv",
            products=tmp_path / "p.csv",
            drop_issues=tmp_path / "x.csv",
        )
    assert not (tmp_path / "out").exists()


def test_an_empty_list_drops_nothing(attempt):
    assert attempt("example_id\n")["steps"][-1]["untrained"] == 0


@pytest.mark.parametrize("fold", [None, 0, 1, 2, 3, 4])
def test_every_fold_holds_the_same_pairs_before_and_after_and_none_listed_is_trained_on(tiny_dataset, tmp_path, fold):
    before = Dataset.open(tiny_dataset)
    training = before.examples.filter(pc.equal(before.examples["split"], "train"))["example_id"].to_pylist()
    listed = np.random.default_rng(0).choice(training, len(training) // 3, replace=False)
    (tmp_path / "drop.csv").write_text("\n".join(["example_id", *map(str, listed)]), "utf-8")
    prepare(tiny_dataset.parent / "shop", tmp_path / "data", drop_issues=tmp_path / "drop.csv")
    after = Dataset.open(tmp_path / "data")
    ids = [dataset.column("example_id") for dataset in (before, after)]
    (trained, held_out), (trained_after, held_out_after) = (of.split(fold) for of in (before, after))
    assert ids[0][held_out].tolist() == ids[1][held_out_after].tolist()
    assert set(ids[1][held_out_after]) & set(listed)
    assert set(ids[1][trained_after]) == set(ids[0][trained]) - set(listed)


def test_counted_ids_are_those_of_the_rows_whatever_else_is_dropped(tmp_path):
    (tmp_path / "e.csv").write_text("query,product_id,label\nhat,9,E\nhat,1,E\nhat\nshoe,1,E\n", "utf-8")
    (tmp_path / "p.csv").write_text("product_id,title\n1,Red shoe\n", "utf-8")
    tables = {"examples": tmp_path / "e.csv", "products": tmp_path / "p.csv"}
    prepare(None, tmp_path / "out", **tables, on_bad_rows="drop", test_share=0)
    assert pl.read_parquet(tmp_path / "out" / "examples.parquet")["example_id"].to_list() == [1, 3]
