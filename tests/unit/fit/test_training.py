"""From a dataset folder to a run: who is held out, and what cannot be trained on."""

import numpy as np
import pytest
from accelerate import Accelerator

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.data.dataset.dataset import Dataset
from zhichun.data.dataset.feature_store import open_pairs
from zhichun.fit import train as training
from zhichun.fit.train import HeldOut, train
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

    monkeypatch.setattr(training, "Accelerator", OfThirty)
    recipe = tiny_recipe.with_settings(["train.batch_size=30"])  # but steps are as even as can be: some have 28
    with pytest.raises(UserError, match=r"a step of 28 pairs is too small for 30 processes"):
        train(recipe, tiny_dataset, tmp_path / "run")


def test_held_out_pairs_fewer_than_processes_are_scored_all_the_same(tiny_recipe, tiny_dataset, tiny_run, monkeypatch):
    class OfTwo(Accelerator):
        num_processes = property(lambda self: 2)

    trained = TrainedModel.load(tiny_run / "model")
    dataset = Dataset.open(tiny_dataset)
    pairs = open_pairs(dataset, trained.featurizer, 32)
    monkeypatch.setattr(training, "gather_object", lambda mine: [*mine, np.zeros((0, 0), np.float32)])
    held_out = HeldOut(OfTwo(cpu=True), None, dataset, pairs, np.array([7]), trained.task)
    assert held_out.logits(trained.model).shape == (1, 4)
