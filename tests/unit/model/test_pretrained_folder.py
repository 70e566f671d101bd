"""What pre-training leaves: opened by transformers, taken over by fine-tuning, refused where it does not fit."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from zhichun.core.errors import UserError
from zhichun.core.files import HASHES_FILE
from zhichun.core.tasks import TASKS
from zhichun.data.dataset import Dataset
from zhichun.fit.pretrain import pretrain
from zhichun.fit.recipe import PretrainingRecipe
from zhichun.fit.train import build_model, make_featurizer, train
from zhichun.model.encoder import load_encoder, load_tokenizer
from zhichun.model.encoder_settings import TinyEncoder
from zhichun.model.model_folder import TABLES, PretrainedTables
from zhichun.text.vocabulary import Vocabulary

SETTINGS = (
    "train.batch_size=100",
    "train.micro_batch_size=50",
    'objective.product2brand={"kind": "Product2Brand", "size": 8}',
    'objective.product2color={"kind": "Product2Color", "size": 8}',
)


@pytest.fixture(scope="module")
def pretrained(tiny_recipe, tiny_dataset, tmp_path_factory):
    """A finished run of MLM, brand and color with the tiny recipe's shape; read only."""
    shape = tiny_recipe.model
    recipe = PretrainingRecipe().with_settings(["train.epochs=1", "train.held_out=0.1", *SETTINGS])
    model = replace(recipe.model, tiny=shape.tiny, max_length=shape.max_length)
    recipe = replace(recipe, model=model)
    return pretrain(recipe, tiny_dataset, tmp_path_factory.mktemp("pretrained") / "run")


@pytest.fixture
def recipe(tiny_recipe, pretrained):
    return tiny_recipe.with_settings(["model.tiny=TinyEncoder", f"model.encoder={pretrained.path}"])


def fresh_model(recipe, dataset):
    featurizer = make_featurizer(recipe.model, dataset)
    torch.manual_seed(0)
    return build_model(recipe.model, featurizer, TASKS[recipe.task]), featurizer


def test_transformers_opens_encoder_and_tokenizer(pretrained, tiny_dataset):
    model, tokenizer = (kind.from_pretrained(pretrained.encoder) for kind in (AutoModel, AutoTokenizer))
    own = load_encoder(str(pretrained.encoder)).model
    assert type(model) is type(own)
    read = tokenizer("red shoes", "Running shoes 靴", return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(model.eval()(**read).last_hidden_state, own.eval()(**read).last_hidden_state)
    ours = load_tokenizer(str(pretrained.encoder))
    assert tokenizer("red shoes 靴", add_special_tokens=False)["input_ids"] == ours.encode(["red shoes 靴"])[0].tolist()
    assert (tokenizer.mask_token, tokenizer.pad_token, tokenizer.cls_token) == ("<mask>", "<pad>", "<s>")
    assert tokenizer.model_max_length == load_encoder(str(pretrained.encoder)).room == 32
    trained_on = (tiny_dataset / "tokenizers" / "unigram-500" / "tokenizer.json").read_text()
    assert (pretrained.encoder / "tokenizer.json").read_text() == trained_on


def test_encoder_and_tables_of_the_model_are_those_of_the_folder(recipe, pretrained, tiny_dataset):
    model, featurizer = fresh_model(recipe, Dataset.open(tiny_dataset))
    weights, tables = load_file(pretrained.encoder / "model.safetensors"), load_file(pretrained.encoder / TABLES)
    state = model.encoder.model.state_dict()
    assert set(state) == set(weights)
    assert all(torch.equal(state[name], weight) for name, weight in weights.items())
    for name, vocabulary in (("brand", featurizer.brands), ("color", featurizer.colors)):
        table = model.ids.tables[name].weight
        assert len(table) == len(vocabulary) == len(tables[name])
        assert torch.equal(table[1:], tables[name][1:])
        assert not torch.equal(table[0], tables[name][0])  # the unknown is no class of the pre-training


def test_rows_are_matched_by_what_they_stand_for(recipe, pretrained, tiny_dataset, tmp_path):
    data = shutil.copytree(tiny_dataset, tmp_path / "data")
    brands = Vocabulary.load(data / "vocabulary" / "brands.parquet")
    others = Vocabulary(("brand of nobody", *brands.values[::-1]), (9, *brands.counts[::-1]))
    others.save(data / "vocabulary" / "brands.parquet")
    table = fresh_model(recipe, Dataset.open(data))[0].ids.tables["brand"].weight
    learnt = load_file(pretrained.encoder / TABLES)["brand"]
    assert torch.equal(table[2:], learnt[1:].flip(0))
    assert not any(torch.equal(table[1], row) for row in learnt)


def test_the_run_folder_and_its_encoder_folder_are_the_same_to_fine_tuning(recipe, pretrained, tiny_dataset, tmp_path):
    runs = [
        train(recipe.with_settings([f"model.encoder={path}"]), tiny_dataset, tmp_path / path.name)
        for path in (pretrained.path, pretrained.encoder)
    ]
    one, other = (load_file(run.model / "model.safetensors") for run in runs)
    assert all(torch.equal(weight, other[name]) for name, weight in one.items())


def test_vectors_of_another_size_are_refused_with_the_right_one(recipe, tiny_dataset):
    with pytest.raises(UserError, match=r"model\.brand=16, .* have 8\.\nUse --set model\.brand=8"):
        fresh_model(recipe.with_settings(["model.brand=16"]), Dataset.open(tiny_dataset))


def test_a_part_that_is_off_takes_nothing(recipe, tiny_dataset):
    model, _ = fresh_model(recipe.with_settings(["model.brand=null", "model.color=null"]), Dataset.open(tiny_dataset))
    assert set(model.ids.tables) == {"country"}


def test_an_encoder_without_tables_leaves_the_start_as_it_is(recipe, pretrained, tiny_dataset, tmp_path):
    bare = shutil.copytree(pretrained.encoder, tmp_path / "encoder")
    for name in (TABLES, HASHES_FILE):
        (bare / name).unlink()
    assert PretrainedTables.beside(str(bare)) is None
    model, _ = fresh_model(recipe.with_settings([f"model.encoder={bare}"]), Dataset.open(tiny_dataset))
    assert float(model.ids.tables["brand"].weight.detach().std()) == pytest.approx(0.02, rel=0.2)


def test_a_run_that_holds_no_encoder_is_refused(recipe, pretrained, tiny_dataset, tmp_path):
    unfinished = shutil.copytree(pretrained.path, tmp_path / "unfinished", ignore=shutil.ignore_patterns("encoder"))
    with pytest.raises(UserError, match=r"unfinished: the run holds no encoder\.\n.*--resume"):
        fresh_model(recipe.with_settings([f"model.encoder={unfinished}"]), Dataset.open(tiny_dataset))


def test_settings_of_the_tiny_encoder_are_refused_beside_another(tiny_recipe, pretrained):
    assert tiny_recipe.model.tiny != TinyEncoder()
    with pytest.raises(UserError, match=r"model\.tiny have no effect.*\n.*model\.tiny=TinyEncoder"):
        tiny_recipe.with_settings([f"model.encoder={pretrained.path}"])


def test_more_tokens_than_were_pre_trained_are_refused(recipe, tiny_dataset):
    with pytest.raises(UserError, match=r"32 tokens at most\.\nUse --set model\.max_length=32"):
        fresh_model(recipe.with_settings(["model.max_length=33"]), Dataset.open(tiny_dataset))


def test_the_best_validation_is_what_is_kept(pretrained):
    figures = [record["validation"] for record in pretrained.records() if "validation" in record]
    assert len(figures) == 1
    assert {"loss", "mlm.loss", "mlm.accuracy", "product2brand.accuracy", "product2color.loss"} <= set(figures[0])
    steps = [record for record in pretrained.records() if "loss" in record]
    assert {name for record in steps for name in record["parts"]} == set(figures[0]) - {"loss"}
    assert not pretrained.checkpoints.path.exists()


def test_a_vocabulary_goes_with_the_tables(pretrained, tiny_dataset):
    tables = PretrainedTables.beside(str(pretrained.path))
    for name, file in (("brand", "brands"), ("color", "colors")):
        assert tables.vocabularies[name] == Vocabulary.load(tiny_dataset / "vocabulary" / f"{file}.parquet")
        assert tables.vectors[name].shape == (len(tables.vocabularies[name]), 8)
        assert np.isfinite(tables.vectors[name].numpy()).all()


def test_what_it_was_made_of_is_recorded(pretrained):
    recorded = json.loads((pretrained.path / "recipe.json").read_text())
    assert recorded["kind"] == "PretrainingRecipe"
    assert (pretrained.path / "report.html").is_file()
