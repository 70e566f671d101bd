"""What `zhichun agreement` shows and writes, and the raters beside a model in `zhichun evaluate`."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from scoring_stub import Stub

from zhichun.cli import main
from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.schema import LABELS
from zhichun.data.dataset.dataset import Dataset
from zhichun.data.readers.ratings import read_ratings
from zhichun.judgements.agreement import measure_agreement
from zhichun.measure.evaluate import beside_raters
from zhichun.metrics.significance import Interval

GRADES = {"3": "E", "2": "S", "1": "C", "0": "I"}


@pytest.fixture
def ratings(tiny_dataset, tmp_path) -> Path:
    """Three judges of every pair of a dataset, who say the label or anything: one is better than the others."""
    dataset, rng = Dataset.open(tiny_dataset), np.random.default_rng(0)
    lines = ["query,product_id,product_locale,judge,label"]
    for row in dataset.examples.to_pylist():
        label = LABELS.index(row[schema.LABEL])
        said = {"[a]": label if rng.random() < 0.9 else rng.integers(4)}
        said |= {judge: label if rng.random() < 0.7 else rng.integers(4) for judge in ("b", "c")}
        where = f'"{row[schema.QUERY]}",{row[schema.PRODUCT_ID]},{row[schema.LOCALE]}'
        lines += [f"{where},{judge},{LABELS[code]}" for judge, code in said.items()]
    (tmp_path / "ratings.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "ratings.csv"


def test_the_command_shows_figures_by_locale_label_and_rater_and_writes_them(ratings, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["agreement", str(ratings), "--draws", "50", "--out", str(tmp_path / "found.json")])
    assert ended.value.code in (0, None)
    shown = capsys.readouterr().out
    for text in ("b and c", "E against", "us", "jp", "[a]", "ceiling", "independently"):
        assert text in shown
    found = json.loads((tmp_path / "found.json").read_text())
    kappas = {who: of["kappa"]["value"] for who, of in found["between"].items()}
    assert kappas["b and c"] < min(kappas["[a] and b"], kappas["[a] and c"]) < 0.8
    assert found["raters"]["[a]"]["micro_f1"]["value"] > found["raters"]["b"]["micro_f1"]["value"]
    assert sum(of["share"] for of in found["by_label"].values()) == pytest.approx(1)


def test_what_is_not_defined_is_null_and_raters_without_a_common_pair_are_not_beside_each_other(tmp_path):
    rows = [f"shoe,{product},{judge},E" for product, judges in ((1, "ab"), (2, "ac")) for judge in judges]
    (tmp_path / "ratings.csv").write_text("\n".join(["query,product_id,judge,label", *rows]) + "\n")
    with pytest.raises(SystemExit) as ended:
        main(["agreement", str(tmp_path / "ratings.csv"), "--draws", "10", "--out", str(tmp_path / "found.json")])
    assert ended.value.code in (0, None)
    found = json.loads((tmp_path / "found.json").read_text(), parse_constant=pytest.fail)
    assert found["all"]["kappa"]["value"] is None
    assert list(found["between"]) == ["a and b", "a and c"]


def test_a_model_stands_between_its_raters_and_the_ceiling(ratings, tiny_dataset):
    dataset = Dataset.open(tiny_dataset)
    rows = np.flatnonzero(dataset.column(schema.SPLIT) == "train")
    task = Stub().task
    truth = task.of_probabilities(np.eye(4)[dataset.labels[rows]])
    found = beside_raters(truth, dataset, rows, read_ratings(ratings))
    figures = {who: of["micro_f1"]["value"] for who, of in found["figures"].items()}
    assert found["pairs"] == len(rows)
    assert figures["rater b"] < figures["rater [a]"] < figures["model"]
    assert figures["model"] == pytest.approx(figures["ceiling"], abs=0.05)  # it knows what was drawn from
    assert list(found["figures"]["model"]) == ["ndcg", "ndcg@10", "micro_f1", "macro_f1"]


def test_a_figure_beside_the_raters_that_is_not_defined_is_null(ratings, tiny_dataset, monkeypatch):
    undefined = {"ndcg": Interval(0.5, float("nan"), float("nan"))}
    monkeypatch.setattr("zhichun.measure.evaluate.ceiling", lambda ratings: undefined)
    dataset, rows = Dataset.open(tiny_dataset), np.arange(20)
    truth = Stub().task.of_probabilities(np.eye(4)[dataset.labels[rows]])
    figures = beside_raters(truth, dataset, rows, read_ratings(ratings))["figures"]
    assert figures["ceiling"] == {"ndcg": {"value": 0.5, "low": None, "high": None}}
    json.dumps(figures, allow_nan=False)


def test_ratings_of_other_pairs_say_nothing_of_a_model(tmp_path, tiny_dataset):
    dataset = Dataset.open(tiny_dataset)
    (tmp_path / "other.csv").write_text("query,product_id,judge,label\nshoe,1,a,E\nshoe,1,b,E\n")
    rows = np.arange(3)
    truth = Stub().task.of_probabilities(np.eye(4)[dataset.labels[rows]])
    with pytest.raises(UserError, match="no pair that is evaluated was rated by two"):
        beside_raters(truth, dataset, rows, read_ratings(tmp_path / "other.csv"))


@pytest.mark.skipif("CHORUS_DATA" not in os.environ, reason="CHORUS_DATA names no ratings")
def test_chorus_agrees_as_its_description_says():
    found = measure_agreement(read_ratings(Path(os.environ["CHORUS_DATA"]) / "ratings.csv", labels=GRADES), draws=50)
    assert found["pairs"] == 3188
    assert found["all"]["unanimous"]["value"] == pytest.approx(0.715, abs=0.0005)
    kappas = [of["kappa"]["value"] for of in found["between"].values()]
    squared = [of["quadratic_kappa"]["value"] for of in found["between"].values()]
    assert (min(kappas), max(kappas)) == pytest.approx((0.60, 0.68), abs=0.005)
    assert (min(squared), max(squared)) == pytest.approx((0.74, 0.80), abs=0.005)
    assert found["raters"]["judge1"]["ndcg"]["value"] < found["ceiling"]["ndcg"]["value"] < 1
