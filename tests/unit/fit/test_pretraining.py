"""Pre-training by itself: what is read and what never is, what is measured, and what is refused."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from accelerate import Accelerator
from transformers import AutoModelForMaskedLM, XLMRobertaConfig

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.tasks import TASKS
from zhichun.data.dataset import Dataset
from zhichun.fit import loop
from zhichun.fit.pretrain import LearnCatalogue, build_objective, pretrain, readable_pairs, split
from zhichun.fit.recipe import PretrainingRecipe, Recipe, load_recipe
from zhichun.fit.train import build_model, make_featurizer, other_split, train
from zhichun.model.encoder_settings import EncoderSettings
from zhichun.model.relevance_model import ModelSettings
from zhichun.text.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def recipe(tiny_recipe):
    model = EncoderSettings(tiny=tiny_recipe.model.tiny, max_length=tiny_recipe.model.max_length)
    settings = ["train.epochs=1", "train.batch_size=100", "objective.contrastive=null", "train.held_out=0.1"]
    return replace(load_recipe("tiny:pretrain", PretrainingRecipe), model=model).with_settings(settings)


@pytest.fixture
def objective(recipe, reader, tiny_dataset):
    brands, colors = (Vocabulary.load(tiny_dataset / "vocabulary" / f"{name}.parquet") for name in ("brands", "colors"))
    torch.manual_seed(0)
    return build_objective(recipe, replace(reader, max_length=recipe.model.max_length), brands, colors)


@pytest.fixture
def learning(recipe, catalogue, tiny_dataset):
    """A pre-training that validates on 50 products."""
    made = LearnCatalogue(recipe, Dataset.open(tiny_dataset), Accelerator(cpu=True), None)
    made.validation = catalogue.rows[:50]
    return made


@pytest.mark.parametrize("fold", [None, 2])
def test_no_query_of_the_test_split_or_of_the_validation_is_read(recipe, tiny_dataset, fold):
    dataset = Dataset.open(tiny_dataset)
    changed = recipe.with_settings(["objective.pair_mlm=PairMLM", f"train.validation_fold={fold or 'null'}"])
    pairs = readable_pairs(dataset, changed)
    assert set(dataset.column(schema.SPLIT)[pairs]) == {"train"}
    assert not dataset.held_out(fold)[pairs].any()
    assert len(pairs) > 200
    assert len(readable_pairs(dataset, recipe)) == 0  # no task reads them


def test_queries_that_are_not_there_are_refused_where_a_task_reads_them(recipe, tiny_dataset):
    dataset = Dataset.open(tiny_dataset)
    all_test = pa.array(["test"] * dataset.examples.num_rows)
    examples = dataset.examples.set_column(dataset.examples.column_names.index(schema.SPLIT), schema.SPLIT, all_test)
    with pytest.raises(UserError, match=r"no training query to read\.\nUse --set objective\.pair_mlm=null"):
        readable_pairs(replace(dataset, examples=examples), recipe.with_settings(["objective.pair_mlm=PairMLM"]))


def test_no_label_is_read(recipe, tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(Dataset, "labels", property(lambda self: pytest.fail("a label was read")))
    run = pretrain(recipe.with_settings(["objective.pair_mlm=PairMLM"]), tiny_dataset, tmp_path / "run")
    assert run.encoder.is_dir()


def test_held_out_products_are_not_trained_on_and_the_shares_are_right(recipe, catalogue, tiny_dataset):
    training, validation = split(catalogue, recipe, tiny_dataset)
    assert sorted([*training, *validation]) == catalogue.rows.tolist()
    assert 15 < len(validation) < 50


def test_the_figures_are_the_same_however_many_processes_share_the_products(recipe, objective, learning):
    learning.recipe = recipe.with_settings(["train.micro_batch_size=8"])
    whole = learning.figures(objective.shipped)
    assert whole == learning.figures(objective.shipped)

    class Shared:
        device = torch.device("cpu")
        num_processes = 3

        def __init__(self, rank, others):
            self.process_index, self.others = rank, others

        def reduce(self, sums):
            self.others.append(sums)
            return sums if len(self.others) < 3 else sum(self.others)

    others: list[torch.Tensor] = []
    for rank in range(3):
        learning.accelerator = Shared(rank, others)
        together = learning.figures(objective.shipped)
    assert together == pytest.approx(whole, abs=1e-6)
    total = sum(task.weight * whole[f"{task.name}.loss"] for task in recipe.objective.tasks)
    assert whole["loss"] == pytest.approx(total)


def test_measuring_changes_nothing(objective, learning):
    before = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
    objective.train()
    learning.figures(objective.shipped)
    assert objective.model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in objective.state_dict().items())


def test_a_step_smaller_than_the_number_of_processes_is_refused(recipe, tiny_dataset, tmp_path, monkeypatch):
    class OfThirty(Accelerator):
        num_processes = property(lambda self: 30)

    monkeypatch.setattr(loop, "Accelerator", OfThirty)
    with pytest.raises(UserError, match=r"a step of \d+ products is too small for 30 processes"):
        pretrain(recipe.with_settings(["train.batch_size=20"]), tiny_dataset, tmp_path / "run")


@pytest.mark.parametrize("own", [True, False])
def test_the_log_says_whose_head_the_masked_language_model_has(own, recipe, tiny_dataset, reader, tmp_path, capsys):
    pieces = reader.tokenizer.tokenizer.get_vocab_size()
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    whole = AutoModelForMaskedLM.from_config(XLMRobertaConfig(vocab_size=pieces, **shape, max_position_embeddings=80))
    (whole if own else whole.base_model).save_pretrained(tmp_path / "checkpoint")
    reader.tokenizer.save(tmp_path / "checkpoint")
    named = replace(recipe, model=EncoderSettings(encoder=str(tmp_path / "checkpoint"), max_length=32))
    pretrain(named.with_settings(["objective.product2query=null"]), tiny_dataset, tmp_path / "run")
    said = "the checkpoint's own" if own else "new: the checkpoint has none"
    assert f"The head of the masked language model is {said}." in capsys.readouterr().err


def test_a_catalogue_without_colors_says_how_to_go_on(recipe, tiny_dataset, tmp_path):
    data = shutil.copytree(tiny_dataset, tmp_path / "data", ignore=shutil.ignore_patterns("catalogue"))
    Vocabulary((), ()).save(data / "vocabulary" / "colors.parquet")
    with pytest.raises(UserError, match=r"objective\.product2color=null"):
        pretrain(recipe, data, tmp_path / "run")
    pretrain(recipe.with_settings(["objective.product2color=null"]), data, tmp_path / "run")


def test_products_without_any_field_hurt_nobody(recipe, tiny_dataset, tmp_path):
    data = shutil.copytree(tiny_dataset, tmp_path / "data", ignore=shutil.ignore_patterns("catalogue"))
    table = pq.read_table(data / schema.PRODUCTS_FILE)
    for name in schema.TEXT_COLUMNS:
        values = [None if row % 2 else value for row, value in enumerate(table[name].to_pylist())]
        table = table.set_column(table.column_names.index(name), name, pa.array(values, pa.string()))
    pq.write_table(table, data / schema.PRODUCTS_FILE)
    run = pretrain(recipe.with_settings(["train.micro_batch_size=1"]), data, tmp_path / "run")
    assert all(np.isfinite(record["loss"]) for record in run.records() if "loss" in record)


@pytest.mark.parametrize("name", ["tiny:pretrain", "kdd2022:pretrain", "kdd2022:pretrain_as_released"])
def test_a_packaged_recipe_goes_through_json_and_the_wrong_command_refuses_it(name):
    found = load_recipe(name, PretrainingRecipe)
    assert PretrainingRecipe.from_json(found.to_json()) == found
    with pytest.raises(UserError, match="a recipe for `zhichun pretrain`"):
        load_recipe(name)
    with pytest.raises(UserError, match="a recipe for `zhichun train`"):
        load_recipe("tiny", PretrainingRecipe)


def test_the_paper_s_values_are_those_of_its_recipe():
    recipe = load_recipe("kdd2022:pretrain", PretrainingRecipe)
    tasks = {task.name: task.weight for task in recipe.objective.tasks}
    assert tasks == {
        "mlm": 1.0,
        "product2query": 5.0,
        "product2brand": 0.15,
        "product2color": 0.15,
        "contrastive": 1.0,
    }
    train = recipe.train
    assert (train.batch_size, train.micro_batch_size, train.learning_rate) == (128, 8, 2e-5)
    assert (train.warmup, train.epochs, train.metric, recipe.objective.ema.decay) == (0.03, 10, "mlm.loss", 0.999)
    assert (recipe.model.encoder, recipe.model.max_length) == ("microsoft/infoxlm-large", 256)


def test_fine_tuning_says_when_an_encoder_was_pre_trained_split_in_another_way(
    recipe, tiny_recipe, tiny_dataset, tmp_path, capsys
):
    split_at_1 = ['model.interaction={"kind": "Split", "product_layers": 1, "query_tokens": 16}']
    run = pretrain(recipe.with_settings(split_at_1), tiny_dataset, tmp_path / "pretrained").path
    alone = ["trigrams", "country", "brand", "color"]
    plain = replace(
        tiny_recipe,
        model=ModelSettings(encoder=str(run), max_length=32, **dict.fromkeys(alone)),
        train=replace(tiny_recipe.train, learning_rate=1e-4),
    )
    assert not other_split(plain.with_settings(split_at_1).model)
    assert not other_split(tiny_recipe.model)
    capsys.readouterr()
    train(plain, tiny_dataset, tmp_path / "run")
    said = capsys.readouterr().err
    named = re.search(rf"{run} was pre-trained with --set '(model\.interaction=.+)': another one is learnt anew", said)
    assert not other_split(plain.with_settings([named[1]]).model)
    assert other_split(plain.with_settings([f"model.encoder={run}/encoder"]).model)
    (run / "recipe.json").write_text(json.dumps(recipe.to_json()))  # in one text, as encoders of the hub were
    assert not other_split(plain.with_settings(split_at_1).model)


def test_a_recorded_recipe_of_either_kind_is_read_back(tmp_path, recipe):
    for kind, made in ((PretrainingRecipe, recipe), (Recipe, load_recipe("tiny"))):
        file = tmp_path / "recipe.json"
        file.write_text(json.dumps(made.to_json()))
        assert load_recipe(str(file), kind) == made


def test_a_tiny_encoder_starts_as_it_does_in_fine_tuning(recipe, objective, tiny_recipe, tiny_dataset):
    featurizer = make_featurizer(tiny_recipe.model, Dataset.open(tiny_dataset))
    torch.manual_seed(0)
    fine_tuned = build_model(tiny_recipe.model, featurizer, TASKS["esci"]).encoder.state_dict()
    assert all(torch.equal(weight, fine_tuned[name]) for name, weight in objective.model.encoder.state_dict().items())
