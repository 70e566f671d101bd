"""From a dataset folder to a run: who is held out, and what cannot be trained on."""

import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from accelerate import Accelerator

from zhichun.cli import main
from zhichun.core import schema
from zhichun.core.console import Stages
from zhichun.core.errors import UserError
from zhichun.data.dataset import Dataset
from zhichun.fit import loop
from zhichun.fit import train as training
from zhichun.fit.train import FineTune, train
from zhichun.measure.evaluate import evaluate
from zhichun.metrics import Judged, label_codes, nDCG
from zhichun.model.model_folder import TrainedModel


@pytest.mark.parametrize("fold", [None, 2])
def test_no_query_is_both_trained_on_and_held_out_and_no_test_pair_either(tiny_dataset, fold):
    dataset = Dataset.open(tiny_dataset)
    rows = dataset.split(fold)
    queries = [set(dataset.column(schema.QUERY_ID)[part]) for part in rows]
    assert queries[0] & queries[1] == set()
    assert sum(map(len, rows)) == (dataset.column(schema.SPLIT) == "train").sum()
    if fold is not None:
        assert set(dataset.column(schema.FOLD)[rows[1]]) == {fold}


def test_a_fold_that_does_not_exist_is_refused(tiny_dataset):
    with pytest.raises(UserError, match=r"no pair to validate on\.\n.*validation_fold"):
        Dataset.open(tiny_dataset).split(9)


def test_a_folder_that_is_no_dataset_leaves_no_run(tiny_recipe, tmp_path):
    with pytest.raises(UserError, match="not a dataset folder"):
        train(tiny_recipe, tmp_path / "nowhere", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_after_a_refusal_the_same_run_folder_can_be_used(tiny_recipe, tiny_dataset, tmp_path):
    with pytest.raises(UserError, match="no pair to validate on"):
        train(tiny_recipe.with_settings(["train.validation_fold=9"]), tiny_dataset, tmp_path / "run")
    assert train(tiny_recipe, tiny_dataset, tmp_path / "run").model.is_dir()


def test_a_step_smaller_than_the_number_of_processes_is_refused(tiny_recipe, tiny_dataset, tmp_path, monkeypatch):
    """A process without a pair would never come to where the others wait for its gradient."""

    class OfThirty(Accelerator):
        num_processes = property(lambda self: 30)

    monkeypatch.setattr(loop, "Accelerator", OfThirty)
    recipe = tiny_recipe.with_settings(["train.batch_size=30"])  # but steps are as even as can be: some have 28
    with pytest.raises(UserError, match=r"a step of 28 pairs is too small for 30 processes"):
        train(recipe, tiny_dataset, tmp_path / "run")


def test_held_out_pairs_fewer_than_processes_are_scored_all_the_same(tiny_recipe, tiny_dataset, tiny_run, monkeypatch):
    class OfTwo(Accelerator):
        num_processes = property(lambda self: 2)

    trained = TrainedModel.load(tiny_run / "model")
    monkeypatch.setattr(training, "gather_object", lambda mine: [*mine, np.zeros((0, 4), np.float32)])
    fine_tune = FineTune(tiny_recipe, Dataset.open(tiny_dataset), OfTwo(cpu=True), Stages(shown=False))
    fine_tune.validation = np.array([7])
    assert fine_tune.logits(trained.model).shape == (1, 4)


def test_task_1_is_chosen_and_measured_by_ndcg_on_the_small_version(tiny_recipe, tiny_dataset, tmp_path, capsys):
    settings = ["task=gain", "objective.loss=SquaredError", "train.metric=ndcg", "train.validation_fold=1"]
    recipe = tiny_recipe.with_settings(settings)
    run = train(recipe, tiny_dataset, tmp_path / "run")
    held_out = pq.read_table(run.path / "predictions.parquet").to_pandas()
    small = held_out[held_out.small_version == 1]
    assert 0 < len(small) < len(held_out)
    judged = Judged(small["query_id"].to_numpy(), label_codes(small["esci_label"]), scores=small["gain"].to_numpy())
    (validation,) = [record["validation"] for record in run.records() if "validation" in record]
    assert validation["ndcg"] == pytest.approx(nDCG()(judged))
    said = " ".join(capsys.readouterr().err.split())
    assert f"nDCG is measured on the small version: {len(small)} of {len(held_out)} held-out pairs." in said

    examples = Dataset.open(tiny_dataset).examples.to_pandas()
    test = examples[examples.split == "test"]
    counts = {"small": int((test.small_version == 1).sum()), "large": int((test.large_version == 1).sum())}
    measured = evaluate(run.path, tiny_dataset, shown=False)
    assert (measured["version"], measured["pairs"]) == ("small", counts["small"])
    assert pq.read_metadata(run.path / "scored.parquet").num_rows == counts["small"]
    for version, count in (*counts.items(), ("all", len(test))):
        found = evaluate(run.path, tiny_dataset, version=version, out=tmp_path / version, shown=False)
        assert (found["version"], found["pairs"]) == (version, count)
    with pytest.raises(UserError, match=r"no version 'smal'\.\n.*'small'"):
        evaluate(run.path, tiny_dataset, version="smal", shown=False)


def test_where_all_or_no_pairs_are_of_the_small_version_there_is_nothing_to_tell_apart(tiny_dataset):
    dataset = Dataset.open(tiny_dataset)
    rows = np.arange(len(dataset.labels))
    for value in (0, 1):
        column = dataset.examples.column_names.index("small_version")
        same = dataset.examples.set_column(column, "small_version", pa.array([value] * len(rows)))
        assert replace(dataset, examples=same).of_version(rows, None, ranking=True)[0] == "all"
    assert dataset.of_version(rows, None, ranking=False)[0] == "all"
    none = replace(dataset, examples=dataset.examples.set_column(column, "small_version", pa.array([0] * len(rows))))
    with pytest.raises(UserError, match=r"no pair is of the small version\.\nUse --version all\."):
        none.of_version(rows, "small", ranking=True)


@pytest.fixture(scope="module")
def one_pair_each(tiny_dataset, tmp_path_factory):
    """The dataset with the first pair of every query alone."""
    folder = shutil.copytree(tiny_dataset, tmp_path_factory.mktemp("alone") / "data")
    examples = pq.read_table(folder / schema.EXAMPLES_FILE)
    first = np.unique(examples.column(schema.QUERY_ID).to_numpy(), return_index=True)[1]
    pq.write_table(examples.take(pa.array(np.sort(first))), folder / schema.EXAMPLES_FILE)
    return folder


def test_where_every_query_has_one_product_nothing_is_ranked_or_chosen_by_rank(
    tiny_recipe, one_pair_each, tmp_path, capsys
):
    by_rank = tiny_recipe.with_settings(["train.metric=ndcg", "train.validation_fold=1"])
    with pytest.raises(UserError, match="ndcg chooses no weights here: in validation every query has one") as refused:
        train(by_rank, one_pair_each, tmp_path / "run")
    assert refused.value.remedy == "Use --set train.metric=loss."
    for number, change in enumerate(("train.metric=micro_f1", "train.keep=last")):
        run = train(by_rank.with_settings([change]), one_pair_each, tmp_path / f"run{number}")
        assert "In validation every query has one product" in capsys.readouterr().err
        [figures] = [record["validation"] for record in run.records() if "validation" in record]
        assert {*figures} == {"loss", "micro_f1", "macro_f1"}
    with pytest.raises(SystemExit):
        main(["evaluate", str(run.path), "--data", str(one_pair_each)])
    said = capsys.readouterr().out
    assert "Every query has one product, so nothing is ranked" in said
    assert "ndcg" not in said


@pytest.mark.parametrize(
    ("options", "then"),
    [
        ([], "audit --data data --runs runs --out AUDIT"),
        (["--nested"], "stack runs --data data --out STACK"),
        (["--set=task=gain", "--set=objective.loss=SquaredError", "--set=train.metric=loss"], "ensemble runs --out"),
    ],
)
def test_what_follows_the_runs_of_all_folds_is_what_they_are_for_said_by_one_process(
    options, then, monkeypatch, capsys
):
    monkeypatch.setattr("zhichun.fit.folds.train_folds", lambda *_, **__: [])
    call = ["train", "tiny", "--data", "data", "--out", "runs", "--folds", "2", *options]
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(SystemExit):
            main(call)
        assert (f"Next: zhichun {then}" in capsys.readouterr().out) == (rank == "0")
