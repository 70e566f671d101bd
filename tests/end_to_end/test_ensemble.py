"""`zhichun ensemble`, and every command that takes the folder in place of a run."""

import json
import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

MEMBERS = {
    "classifier": [],
    "other": ["--set=train.seed=1"],
    "regressor": ["--set=task=gain", "--set=objective.loss=SquaredError", "--set=train.metric=ndcg"],
}


@pytest.fixture(scope="module")
def folder(home, shrunk, succeed, tmp_path_factory):
    """Two classifiers and a regressor that held out the same fold, and an ensemble of all three."""
    folder = tmp_path_factory.mktemp("ensembles")
    for name, settings in MEMBERS.items():
        options = ["--data", home / "data", "--out", folder / name, "--set=train.validation_fold=1", *shrunk]
        succeed("train", "tiny", *options, *settings)
    return folder


@pytest.fixture(scope="module")
def three(folder, succeed):
    said = succeed("ensemble", *(folder / name for name in MEMBERS), "--out", folder / "three")
    assert said.splitlines()[0] == f"  0.500  gain  {folder}/regressor", "who weighs most is asked first"
    assert said.endswith(f"{folder}/three: 3 models. Next: zhichun evaluate {folder}/three --data DATA\n")
    return folder / "three"


def columns(path, *names):
    table = pq.read_table(path)
    return [table.column(name).to_numpy() for name in names]


@pytest.fixture(scope="module")
def evaluated(three, home, succeed):
    return succeed("evaluate", three, "--data", home / "data")


def test_it_is_evaluated_beside_its_members(evaluated, three, folder, home, succeed):
    assert re.search(r"together minus the best member \(.*\), nDCG: [+-]0\.\d{4} \(95 %: ", evaluated)
    measured = json.loads((three / "metrics.json").read_text())
    together = 0
    for member in measured["ensemble"]["members"]:
        version = ("--version", measured["version"])
        succeed("evaluate", member["name"], "--data", home / "data", "--out", folder / "alone", *version)
        alone = json.loads((folder / "alone" / "metrics.json").read_text())
        assert alone["ndcg"] == pytest.approx(member["ndcg"])
        together += member["weight"] * columns(folder / "alone" / "scored.parquet", "gain")[0]
    assert columns(three / "scored.parquet", "gain")[0] == pytest.approx(together, abs=1e-6)


def test_it_scores_files(evaluated, three, folder, home, succeed):
    table = pq.read_table(three / "scored.parquet").select(["query", "product_id", "product_locale"])
    pq.write_table(table, folder / "pairs.parquet")
    options = (folder / "pairs.parquet", folder / "out.parquet", "--products", home / "data", "--overwrite")
    succeed("score", three, *options)
    names = ("p_E", "p_S", "p_C", "p_I", "gain")
    for made, expected in zip(
        columns(folder / "out.parquet", *names), columns(three / "scored.parquet", *names), strict=True
    ):
        assert np.abs(made - expected).max() < 1e-5


def test_it_ranks_a_catalogue(three, home, succeed):
    assert "red shoes (us, " in succeed("rank", three, "red shoes", "--products", home / "data", "--top", 3)


def test_weights_are_fitted_to_what_all_held_out(folder, home, succeed, fail):
    members = [folder / name for name in MEMBERS]
    out = ("--out", folder / "fitted", "--weights", "fitted")
    assert "fitted weights need judgements.\nName the dataset folder with --data" in fail("ensemble", *members, *out)
    said = succeed("ensemble", *members, *out, "--data", home / "data", "--copy")
    assert re.search(r"\d+ pairs of \d+ queries that all held out", said)
    assert re.search(r"fitted minus equal weights, nDCG: [+-]0\.\d{4}", said)
    assert f"Next: zhichun evaluate {folder}/fitted --data {home}/data\n" in said
    assert "the folder exists" in fail("ensemble", *members, *out, "--data", home / "data")


def test_a_member_that_is_gone_or_changed_is_named(three, folder, fail, home):
    moved = (folder / "other").rename(folder / "gone")
    said = fail("rank", three, "red shoes", "--products", home / "data")
    assert f"the member {folder}/other is not there" in said
    shutil.copytree(moved, folder / "other")
    shutil.copy(folder / "classifier" / "model" / "model.safetensors", folder / "other" / "model")
    said = fail("evaluate", three, "--data", home / "data")
    assert f"the member {folder}/other has changed" in said
    assert f"--out {three} --overwrite" in said
