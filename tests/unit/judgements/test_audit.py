"""The audit of runs that are there: what it finds, lists and refuses."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from zhichun.core.errors import UserError
from zhichun.data.predictions import read_out_of_fold
from zhichun.judgements.audit import audit

ALWAYS = {
    "issues.parquet",
    "issues.csv",
    "out_of_fold.parquet",
    "summary.json",
    "index.html",
    "to_judge.csv",
    "quepid.csv",
}


@pytest.fixture
def run_audit(audited_data, fold_runs, tmp_path):
    return lambda **options: audit(audited_data.folder, tmp_path / "audit", runs=fold_runs, **options)


def doubted(dataset):
    training = np.flatnonzero((dataset.column("split") == "train") & (dataset.column("origin") == "judged"))
    return set(dataset.column("example_id")[training[training % 9 == 0]].tolist())


def test_every_judged_training_pair_gets_its_own_prediction(audited_data, fold_runs):
    predicted = read_out_of_fold(audited_data, fold_runs)
    assert set(audited_data.column("split")[predicted.rows_P]) == {"train"}
    assert len(predicted.rows_P) == (audited_data.column("split") == "train").sum()
    own = predicted.probabilities_PC[np.arange(len(predicted.rows_P)), audited_data.labels[predicted.rows_P]]
    assert own == pytest.approx(np.where(predicted.rows_P % 9 == 0, 0.05, 0.7))


def test_the_doubted_pairs_are_found_with_all_that_one_needs_to_judge_them(run_audit, audited_data, tmp_path):
    summary = run_audit()
    assert {path.name for path in (tmp_path / "audit").iterdir()} == ALWAYS
    issues = pq.read_table(tmp_path / "audit" / "issues.parquet")
    assert set(issues["example_id"].to_pylist()) == doubted(audited_data)
    assert issues["quality"].to_pylist() == sorted(issues["quality"].to_pylist())
    products = {
        (row["product_locale"], row["product_id"]): row
        for row in pq.read_table(audited_data.folder / "products.parquet").to_pylist()
    }
    after = dict(zip("ESCI", "SCIE", strict=True))
    for row in issues.to_pylist():
        product = products[row["product_locale"], row["product_id"]]
        assert row["product_title"] == product["product_title"]
        assert (row["product_bullet_point"] or "")[:400] == (product["product_bullet_point"] or "")[:400]
        assert row["likely_label"] == after[row["esci_label"]]
        assert row["quality"] == pytest.approx((1 + 0.05 - 0.85) / 2)
    everything = pq.read_table(tmp_path / "audit" / "out_of_fold.parquet")
    assert summary["issues"] == len(issues) == sum(everything["issue"].to_pylist())
    assert len(pacsv.read_csv(tmp_path / "audit" / "issues.csv")) == len(issues)
    assert json.loads((tmp_path / "audit" / "summary.json").read_text()) == summary
    assert sum(map(sum, summary["joint"])) == summary["pairs"] == len(everything)
    for kind in ("by_label", "by_locale"):
        assert sum(counts["issues"] for counts in summary[kind].values()) == len(issues)
    assert all(sum(counts["likely"].values()) == counts["issues"] for counts in summary["by_label"].values())


def test_the_worst_share_of_all_pairs_is_listed_but_no_pair_without_doubt(run_audit, audited_data, tmp_path):
    summary = run_audit(drop=0.04)
    dropped = pacsv.read_csv(tmp_path / "audit" / "drop.csv")["example_id"].to_pylist()
    issues = pq.read_table(tmp_path / "audit" / "issues.parquet")["example_id"].to_pylist()
    assert dropped == issues[: round(0.04 * summary["pairs"])]
    assert summary["drop"]["listed"] == len(dropped)
    assert not (tmp_path / "audit" / "relabel.csv").exists()
    everything = run_audit(drop=0.99)
    assert everything["drop"]["listed"] == summary["issues"] < everything["drop"]["asked"]
    assert everything["drop"]["share_listed"] == summary["issues"] / summary["pairs"] < 0.99
    run_audit()
    assert not (tmp_path / "audit" / "drop.csv").exists(), "a list of a call before would be mistaken for this one's"


def test_what_a_person_decided_goes_before_the_share(run_audit, tmp_path):
    run_audit()
    table = pq.read_table(tmp_path / "audit" / "issues.parquet")
    issues, labels = table["example_id"].to_pylist(), table["esci_label"].to_pylist()
    new = "I" if labels[1] != "I" else "E"
    (tmp_path / "mine.csv").write_text(
        f"example_id,decision\n{issues[0]},keep\n{issues[1]},{new}\n{issues[-1]},drop\n{issues[2]},\n"
    )
    summary = run_audit(accept=tmp_path / "mine.csv", drop=0.04)
    dropped = pacsv.read_csv(tmp_path / "audit" / "drop.csv")["example_id"].to_pylist()
    asked = round(0.04 * summary["pairs"])
    assert dropped == [issues[-1], *issues[2:asked]]
    assert summary["drop"] == {
        "share": 0.04,
        "share_listed": (asked - 1) / summary["pairs"],
        "asked": asked,
        "listed": asked - 1,
        "by_decision": 1,
        "kept_by_decision": 2,
    }
    relabel = pacsv.read_csv(tmp_path / "audit" / "relabel.csv").to_pylist()
    assert [(row["example_id"], row["esci_label"], row["new_label"]) for row in relabel] == [
        (issues[1], labels[1], new)
    ]
    assert summary["decisions"] == {"all": 3, "drop": 1, "keep": 1, new: 1}


def test_a_list_that_a_person_filled_in_is_not_written_over(run_audit, tmp_path):
    run_audit()
    path = tmp_path / "audit" / "to_judge.csv"
    filled = path.read_text().replace(',""\n', ',"keep"\n', 1)
    path.write_text(filled)
    with pytest.raises(UserError, match=r"to_judge\.csv: holds decisions, which would be lost\.\n.*--accept"):
        run_audit()
    assert path.read_text() == filled
    assert run_audit(accept=path)["decisions"] == {"all": 1, "keep": 1}
    assert path.read_text().count('"keep"') == 1


def test_quepid_gives_back_the_ratings_that_changed(run_audit, tmp_path):
    run_audit()
    rows = pacsv.read_csv(tmp_path / "audit" / "quepid.csv")
    assert rows.column_names == ["query", "docid", "rating"]
    ratings = rows["rating"].to_pylist()
    ratings[3] = 3 - ratings[3]
    pacsv.write_csv(rows.set_column(2, "rating", pa.array(ratings)), tmp_path / "back.csv")
    summary = run_audit(accept=tmp_path / "back.csv")
    assert summary["decisions"]["all"] == summary["relabel"] == 1
    relabelled = pacsv.read_csv(tmp_path / "audit" / "relabel.csv").to_pylist()[0]
    assert relabelled["query"] == rows["query"][3].as_py()
    assert {"E": 3, "S": 2, "C": 1, "I": 0}[relabelled["new_label"]] == ratings[3]


# Decisions that cannot be used


@pytest.mark.parametrize(
    ("content", "row", "message"),
    [
        ("example_id,decision\n{a},keep\n999999,drop\n", 2, "'999999' is not that of a judged training pair"),
        ("example_id,decision\n{test},drop\n", 1, "is not that of a judged training pair"),
        ("example_id,decision\nx,drop\n", 1, "'x' is not that of a judged training pair"),
        ("example_id,decision\n{a},kep\n", 1, "'kep' is not a decision. Did you mean 'keep'?"),
        ("example_id,decision\n{a},keep\n{b},keep\n{a},drop\n", 3, "decides 'drop' on the pair {a}, and a row before"),
        ("example_id,esci_label,decision\n{a},{other},keep\n", 1, "in this dataset, and {other} in this file"),
        ("example_id,decision\n{a},keep,3\n", 1, "3 values for 2 columns"),
        ("query,docid,rating\nno such query,1,3\n", 1, "is that of no label issue"),
        ("query,docid,rating\n{query},{product},7\n", 1, "'7' is not a rating"),
        ("example_id,what\n{a},keep\n", None, "is no file of decisions"),
    ],
)
def test_a_decision_that_cannot_be_used_is_named_with_file_and_row(
    run_audit, audited_data, tmp_path, content, row, message
):
    run_audit()
    first, second = pq.read_table(tmp_path / "audit" / "issues.parquet").to_pylist()[:2]
    test = audited_data.column("example_id")[audited_data.column("split") == "test"][0]
    words = {
        "a": first["example_id"],
        "b": second["example_id"],
        "test": test,
        "other": "I" if first["esci_label"] != "I" else "E",
        "query": first["query"],
        "product": first["product_id"],
    }
    (tmp_path / "mine.csv").write_text(content.format(**words))
    before = {path: path.read_bytes() for path in (tmp_path / "audit").iterdir()}
    with pytest.raises(UserError) as error:
        run_audit(accept=tmp_path / "mine.csv", drop=0.1)
    assert message.format(**words) in str(error.value)
    assert (error.value.file, error.value.row) == (tmp_path / "mine.csv", row)
    assert {path: path.read_bytes() for path in (tmp_path / "audit").iterdir()} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop": 0.0}, "drop=0.0 is no share"),
        ({"drop": 4.0}, "drop=4.0 is no share"),
        ({"page_pairs": 0}, "page_pairs=0"),
        ({"accept": "nowhere.csv"}, "there is no such file"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_made(run_audit, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        run_audit(**{name: tmp_path / value if name == "accept" else value for name, value in options.items()})
    assert not (tmp_path / "audit").exists()


def test_it_does_not_run_in_several_processes(run_audit, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"in a single process\.\n.*accelerate launch -m zhichun train RECIPE --folds"):
        run_audit()


@pytest.mark.parametrize("name", ["data", "runs/fold-0"])
def test_a_folder_of_something_else_is_not_written_into(audited_data, fold_runs, tmp_path, name):
    with pytest.raises(UserError, match=r"the folder holds a (dataset|run)\.\nChoose another --out"):
        audit(audited_data.folder, tmp_path / name, runs=fold_runs)


# Runs that do not belong to the dataset, or are not whole


def edit(path, change):
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def rewrite(run, change):
    path = run / "predictions.parquet"
    pq.write_table(change(pq.read_table(path)), path)


def without_numbers(table):
    values = np.array(table["p_S"].to_numpy())
    values[0] = np.nan
    return table.set_column(table.column_names.index("p_S"), "p_S", pa.array(values))


DAMAGES = {
    "no finished run of fold 2": lambda run: shutil.rmtree(run / "model"),
    "the run's task is 'gain'": lambda run: edit(run / "recipe.json", lambda recipe: {**recipe, "task": "gain"}),
    "the run held out fold None, not 2": lambda run: edit(
        run / "recipe.json", lambda recipe: {**recipe, "train": {"validation_fold": None}}
    ),
    "trained on another dataset": lambda run: edit(
        run / "environment.json", lambda found: {"dataset": {**found["dataset"], "manifest": "0"}}
    ),
    "is not predicted": lambda run: rewrite(run, lambda table: table.slice(1)),
    "is predicted twice": lambda run: rewrite(run, lambda table: pa.concat_tables([table, table.slice(0, 1)])),
    "is not a training pair of this fold": lambda run: rewrite(
        run, lambda table: pa.concat_tables([table, pq.read_table(run.parent / "fold-1" / "predictions.parquet")])
    ),
    "has no column 'p_C'": lambda run: rewrite(run, lambda table: table.drop_columns(["p_C"])),
    "nan.* cannot be": lambda run: rewrite(run, without_numbers),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_a_run_that_cannot_be_used_is_named(run_audit, fold_runs, tmp_path, message):
    DAMAGES[message](fold_runs / "fold-2")
    with pytest.raises(UserError, match=message) as error:
        run_audit()
    assert "fold-2" in str(error.value.file)
    assert not (tmp_path / "audit").exists()
