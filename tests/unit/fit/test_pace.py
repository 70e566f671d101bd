"""What `auto` stands for, and what a run that is too short says."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from transformers import BertConfig

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.data.dataset import Dataset
from zhichun.fit.recipe import load_recipe
from zhichun.fit.train import pace_of, pairs_read, too_short, with_pace
from zhichun.fit.train_settings import PretrainSettings, TrainSettings
from zhichun.model.encoder_settings import EncoderSettings, TinyEncoder, hidden_size

TINY = EncoderSettings(tiny=TinyEncoder(hidden=128))


def encoder(path, hidden):
    BertConfig(hidden_size=hidden).save_pretrained(path)
    return EncoderSettings(encoder=str(path))


@pytest.mark.parametrize(("hidden", "rate"), [(1024, 1e-5), (768, 1.8e-5), (384, 7.1e-5)])
def test_the_rate_rises_with_the_square_as_the_encoder_shrinks(tmp_path, hidden, rate):
    assert pace_of(encoder(tmp_path, hidden), 2_900, 32)[1] == rate


@pytest.mark.parametrize(("pairs", "epochs"), [(32, 8), (2_900, 5), (12_800, 2), (2_000_000, 2), (0, 8)])
def test_few_pairs_are_read_more_often(pairs, epochs):
    assert pace_of(TINY, pairs, 32) == (epochs, 6.4e-4)


def dataset(tmp_path, pairs):
    columns = {schema.SPLIT: ["train"] * pairs + ["test"] * 50, schema.WEIGHT: np.ones(pairs + 50)}
    return Dataset(tmp_path, pa.table(columns), {})


def test_auto_becomes_numbers_and_what_is_given_stays(tmp_path):
    recipe = load_recipe("tiny").with_settings(["train.epochs=auto"])
    found = with_pace(recipe, dataset(tmp_path, 2_900)).train
    assert (found.epochs, found.learning_rate) == (5, 5e-4)
    assert with_pace(load_recipe("tiny"), dataset(tmp_path, 2_900)) == load_recipe("tiny")
    best = load_recipe("zhichun:best").with_settings([f"model.encoder={encoder(tmp_path, 384).encoder}"])
    found = with_pace(best, dataset(tmp_path, 2_900)).train
    assert found.numbers() == (5, 7.1e-5)
    assert type(best).from_json(best.to_json()) == best


def test_of_long_lists_the_pairs_that_an_epoch_reads_count(tmp_path):
    pairs = dataset(tmp_path, 2_900)
    ids = pa.array([*np.arange(2_900) // 100, *[100] * 50])  # 29 lists of 100, of which an epoch reads 16 each
    columns = {schema.QUERY_ID: ids, schema.ORIGIN: pa.array([schema.JUDGED] * 2_950)}
    examples = pairs.examples
    for name, column in columns.items():
        examples = examples.append_column(name, column)
    recipe = load_recipe("tiny").with_settings(["train.epochs=auto", 'train.lists={"kind":"Lists"}'])
    rows = np.arange(2_900)
    assert pairs_read(recipe.train, replace(pairs, examples=examples), rows) == 29 * 16
    assert with_pace(recipe, replace(pairs, examples=examples)).train.epochs == 8


def test_a_run_that_is_too_short_says_what_fits(tmp_path):
    minilm = encoder(tmp_path, 384)
    paper = TrainSettings(epochs=5, learning_rate=1e-5)
    said = too_short(paper, minilm, 2_900)
    assert "5 epochs of 2,900 pairs at a learning rate of 1e-05 are short" in said
    assert "--set train.learning_rate=7.1e-05 --set train.epochs=5" in said
    assert not too_short(replace(paper, learning_rate=2e-5), minilm, 2_900)
    assert not too_short(paper, replace(minilm, encoder=encoder(tmp_path / "large", 1024).encoder), 2_900)


def test_auto_is_for_fine_tuning_alone_and_other_words_are_refused():
    with pytest.raises(UserError, match="for fine-tuning alone"):
        PretrainSettings(epochs="auto")
    with pytest.raises(UserError, match=r"train\.epochs='automatic' is not of type int"):
        load_recipe("tiny").with_settings(["train.epochs=automatic"])


def test_an_encoder_without_a_configuration_is_refused(tmp_path):
    with pytest.raises(UserError, match="no configuration with its size"):
        hidden_size(EncoderSettings(encoder=str(tmp_path / "nothing")))
