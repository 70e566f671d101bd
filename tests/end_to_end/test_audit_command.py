"""`zhichun audit` from judgements to a corrected dataset, and the folds that it trains, also when it is killed."""

import json
import os
import re
import signal
import sys
from pathlib import Path

import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from forks import Job

KILLED = ("os.rename", "fold-2.*predictions.*partial", 1)


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def killed(forks, home, shrunk, tmp_path_factory):
    """An audit folder whose third fold was killed at its very end."""
    folder = tmp_path_factory.mktemp("killed") / "audit"
    arguments = ["-m", "zhichun", "audit", "tiny", "--data", home / "data", "--out", folder, *shrunk]
    assert forks.run(Job(arguments, killed_at=KILLED)) == [-signal.SIGKILL]
    assert sorted(path.name for path in folder.iterdir()) == ["folds"]
    assert sorted(path.name for path in (folder / "folds").iterdir()) == ["fold-0", "fold-1", "fold-2"]
    return folder


@pytest.fixture(scope="module")
def audited(killed, home, shrunk, zhichun):
    """The same folder, after the audit was called again."""
    before = {fold: times(killed / "folds" / fold) for fold in ("fold-0", "fold-1")}
    done = zhichun("audit", "tiny", "--data", home / "data", "--out", killed, *shrunk, "--drop", "0.04")
    assert done.status == 0, done.err
    assert {fold: times(killed / "folds" / fold) for fold in before} == before, "a finished fold is not trained again"
    assert [f"fold {fold} of 5: was done already" in done.err for fold in (1, 2, 3, 4, 5)] == [True] * 2 + [False] * 3
    assert re.search(r"fold 3 of 5: done in \d+ s; about \d+ s for the other 2\n", done.err)
    assert re.search(r"fold 5 of 5: \d+/\d+  .*loss", done.err), "progress says which fold"
    return killed, done.out


def test_it_says_what_it_found_and_what_is_next(audited):
    folder, said = audited
    summary = json.loads((folder / "summary.json").read_text())
    assert said.startswith(f"{folder}: {summary['issues']:,} of {summary['pairs']:,} judgements in doubt (")
    share = f"{summary['drop']['listed'] / summary['pairs']:.1%} of the training pairs"
    assert f"{folder}/drop.csv: {summary['drop']['listed']} pairs to drop ({share}), 0 of them decided" in said
    assert said.endswith(f"Next: zhichun prepare SOURCE NEW_DATA --drop-issues {folder}/drop.csv\n")


def test_predictions_are_those_of_runs_that_were_never_killed(audited, home, shrunk, tmp_path, succeed):
    folder, _ = audited
    said = succeed("train", "tiny", "--data", home / "data", "--out", tmp_path / "runs", "--folds", 5, *shrunk)
    assert said.endswith(f"Next: zhichun audit --data {home}/data --runs {tmp_path}/runs --out AUDIT\n")
    for fold in range(5):
        name = f"fold-{fold}/predictions.parquet"
        assert (tmp_path / "runs" / name).read_bytes() == (folder / "folds" / name).read_bytes()
    succeed("audit", "--data", home / "data", "--runs", tmp_path / "runs", "--out", tmp_path / "audit")
    for name in ("issues.parquet", "issues.csv", "out_of_fold.parquet", "index.html"):
        assert (tmp_path / "audit" / name).read_bytes() == (folder / name).read_bytes(), name


def test_decisions_reach_a_new_dataset_and_nothing_else_changes(audited, home, tmp_path, succeed):
    folder, _ = audited
    issues = pq.read_table(folder / "issues.parquet").to_pylist()
    new = "I" if issues[0]["esci_label"] != "I" else "E"
    ids = [row["example_id"] for row in issues]
    (tmp_path / "decisions.csv").write_text(f"example_id,decision\n{ids[0]},{new}\n{ids[1]},drop\n{ids[2]},keep\n")
    arguments = ["--data", home / "data", "--out", folder, "--accept", tmp_path / "decisions.csv", "--drop", "0.04"]
    said = succeed("audit", *arguments)
    dropped = pacsv.read_csv(folder / "drop.csv")["example_id"].to_pylist()
    assert ids[1] in dropped
    assert not {ids[0], ids[2]} & set(dropped)
    assert f"--drop-issues {folder}/drop.csv --relabel {folder}/relabel.csv" in said
    lists = ["--drop-issues", folder / "drop.csv", "--relabel", folder / "relabel.csv"]
    said = succeed("prepare", home / "shop", tmp_path / "data", *lists)
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    before, after = (
        {row["example_id"]: row for row in pq.read_table(data / "examples.parquet").to_pylist()}
        for data in (home / "data", tmp_path / "data")
    )
    assert set(before) == set(after)
    assert {example for example, row in after.items() if row["weight"] == 0} == set(dropped)
    assert [step.get("untrained") for step in manifest["steps"] if step["step"] == "drop issues"] == [len(dropped)]
    relabelled = pq.read_table(tmp_path / "data" / "relabelled.parquet").to_pylist()
    for row in relabelled:
        assert (row["example_id"], row["new_label"]) == (ids[0], new)
    unchanged = {row["example_id"] for row in relabelled}
    same = set(after) - unchanged - set(dropped)
    assert all(after[example] == before[example] for example in same)
    assert ("relabel: 1 labels changed" in said) == (len(relabelled) == 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "tiny", "--folds", 4], r"the dataset has 5 folds, not 4\.\nUse --folds 5, or prepare it"),
        (["train", "tiny", "--folds", 5, "--set=train.validation_fold=1"], "train.validation_fold=1 has no effect"),
        (["train", "distil:pooled", "--folds", 5], r"pool.parquet: no teacher held out every fold"),
        (["audit"], r"there is no finished run of fold 0\.\nTrain or resume it"),
        (["audit", "tiny", "--runs", "runs"], "give only one of the two"),
        (["audit", "kdd2022:task3"], "the recipe's task is 'substitute', which does not tell the four labels apart"),
        (["audit", "tiny", "--drop", 4], r"drop=4.0 is no share"),
    ],
)
def test_what_cannot_be_is_refused_at_once(home, tmp_path, arguments, message, fail):
    said = fail(*arguments, "--data", home / "data", "--out", tmp_path / "out")
    assert re.search(message, said)
    assert not (tmp_path / "out").exists()


def test_runs_that_are_there_are_only_gone_on_with_when_told_to(audited, home, shrunk, tmp_path, fail, zhichun):
    folder, _ = audited
    train = ["train", "tiny", "--data", home / "data", "--folds", 5, *shrunk]
    assert "fold-1: there is a run already.\nGo on with --resume" in fail(*train, "--out", folder / "folds")
    assert "there is a single run, not a folder of runs." in fail(*train, "--out", home / "run", "--resume")
    done = zhichun("audit", "--set", "train.epochs=2", "--data", home / "data", "--out", tmp_path / "audit")
    assert done.status == 2
    assert "has no effect without a RECIPE" in done.err


def test_without_cleanlab_it_says_what_to_install_before_it_trains(home, tmp_path, shrunk, fail, monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    said = fail("audit", "tiny", "--data", home / "data", "--out", tmp_path / "audit", *shrunk)
    assert "pip install 'zhichun[audit]'" in said
    assert not os.path.lexists(tmp_path / "audit")
