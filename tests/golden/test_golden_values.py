"""Every setting of every packaged recipe, kept as data; and beside them, by hand, what the paper and its code say.

A change that is meant renews the file, and its commit says why:

    ZHICHUN_RENEW_GOLDEN=1 pytest tests/golden/test_golden_values.py
"""

import importlib
import json
import os
from functools import reduce
from pathlib import Path

import pytest

from zhichun.fit.recipe import PACKAGED, AnyRecipe, functions_of, load_recipe

FILE = Path(__file__).with_name("recipes.json")

NAMES = [
    f"{module}:{function}"
    for module in PACKAGED
    for function in functions_of(importlib.import_module(f"zhichun.fit.recipes.{module}"))
]
WRITTEN = [f"kdd2022:{name}" for name in ("task1", "task2", "task3", *(f"task1_member{k}" for k in range(1, 7)))]
RELEASED = [f"kdd2022:task{task}_as_released" for task in (1, 2, 3)]
CLASSIFIERS = ["kdd2022:task2", "kdd2022:task3", *(f"kdd2022:task1_member{k}" for k in (1, 2, 3))]
REGRESSORS = ["kdd2022:task1", *(f"kdd2022:task1_member{k}" for k in (4, 5, 6))]
WITH_UNIT = [f"kdd2022:{name}" for name in ("baseline", "task1", "task2", "task3", "task1_member6")]
PRETRAINING = ["kdd2022:pretrain", "kdd2022:pretrain_as_released"]

FINE_TUNING = {
    "model.encoder": "microsoft/infoxlm-large",
    "model.max_length": 256,
    "model.country": 8,
    "model.brand": 128,
    "model.color": 128,
    "model.dropout": 0.1,
    "model.pooling": "first",
    "objective.rdrop.alpha": 0.5,
    "objective.ema.decay": 0.999,
    "objective.second_view.kind": "FGM",
    "objective.second_view.at": "table",
    "train.learning_rate": 1e-5,
    "train.weight_decay": 0.01,
}
# What the paper and its released code give, as the note on the method has it: each line is one thing they say.
PAPER = (
    ([*WRITTEN, *RELEASED], FINE_TUNING),
    (
        WRITTEN,
        {
            "objective.second_view.epsilon": 1.0,
            "objective.rdrop.reduction": "mean",
            "objective.total": "sum",
            "train.batch_size": 32,
            "train.micro_batch_tokens": 32 * 256,
            "train.warmup": 0.1,
            "train.clip": 1.0,
            "train.epochs": 5,
            "train.evaluations": 1,
        },
    ),
    (
        RELEASED,
        {
            "objective.second_view.epsilon": 0.5,
            "objective.rdrop.reduction": "sum",
            "objective.total": "mean",
            "train.batch_size": 256,
            "train.warmup": 0.02,
            "train.clip": None,
            "train.epochs": 10,
            "train.evaluations": 10,
            "model.trigram_start": "random",
        },
    ),
    (CLASSIFIERS, {"objective.loss.kind": "Poly1", "objective.loss.epsilon": 1.0, "objective.mixup.alpha": 0.2}),
    (CLASSIFIERS, {"objective.mixup.mixed": "cls"}),
    (REGRESSORS, {"task": "gain", "objective.loss.kind": "SquaredError", "objective.mixup": None}),
    (["kdd2022:task1_as_released"], {"task": "gain", "objective.loss.kind": "SquaredError", "objective.mixup": None}),
    (["kdd2022:task3", "kdd2022:task3_as_released"], {"task": "substitute"}),
    (
        ["kdd2022:task2", "kdd2022:task2_as_released", *(f"kdd2022:task1_member{k}" for k in (1, 2, 3))],
        {"task": "esci"},
    ),
    (WITH_UNIT, {"model.trigrams": 64, "model.trigram_start": "word2vec"}),
    ([f"kdd2022:task1_member{k}" for k in range(1, 6)], {"model.trigrams": None}),
    (["kdd2022:task1", *(f"kdd2022:task1_member{k}" for k in range(1, 7))], {"train.metric": "ndcg"}),
    (["kdd2022:task2", "kdd2022:task3"], {"train.metric": "micro_f1"}),
    (["kdd2022:task2"], {"model.fields": ["title", "brand", "color", "bullets", "description"]}),
    (
        ["kdd2022:task1_member2"],
        {"model.fields": ["title", "bullets", "description", "brand", "color"], "train.validation_fold": None},
    ),
    (
        ["kdd2022:task1_member3"],
        {"model.fields": ["title", "description", "bullets", "brand", "color"], "train.validation_fold": None},
    ),
    (["kdd2022:task1_member1"], {"train.validation_fold": 1}),
    (["kdd2022:baseline"], {"objective.loss.kind": "CrossEntropy", "objective.second_view": None}),
    (["kdd2022:baseline"], {"objective.rdrop": None, "objective.mixup": None, "objective.ema": None}),
    (
        PRETRAINING,
        {
            "model.encoder": "microsoft/infoxlm-large",
            "model.max_length": 256,
            "objective.mlm.weight": 1.0,
            "objective.mlm.share": 0.15,
            "objective.pair_mlm": None,
            "objective.product2query.weight": 5.0,
            "objective.product2query.mean_jp": 8.0,
            "objective.product2query.draws": 4,
            "objective.product2query.loss.kind": "Poly1",
            "objective.product2query.loss.epsilon": 1.0,
            "objective.product2brand.weight": 0.15,
            "objective.product2brand.size": 128,
            "objective.product2color.weight": 0.15,
            "objective.product2color.size": 128,
            "objective.contrastive.momentum": 0.999,
            "objective.contrastive.queue": 20,
            "objective.ema.decay": 0.999,
            "train.batch_size": 128,
            "train.micro_batch_size": 8,
            "train.learning_rate": 2e-5,
            "train.warmup": 0.03,
            "train.epochs": 10,
            "train.metric": "mlm.loss",
        },
    ),
    (["kdd2022:pretrain"], {"objective.product2query.mean": 4.0, "objective.product2query.delete": 0.5}),
    (["kdd2022:pretrain"], {"objective.contrastive.temperature": 0.03}),
    (
        ["kdd2022:pretrain_as_released"],
        {
            "objective.product2query.mean": 8.0,
            "objective.product2query.delete": None,
            "objective.contrastive.temperature": 1 / 33,
        },
    ),
)


def recipe_as_data(name):
    return load_recipe(name, AnyRecipe).to_json()


def test_every_setting_of_every_recipe_is_that_on_file():
    found = {name: recipe_as_data(name) for name in NAMES}
    if os.environ.get("ZHICHUN_RENEW_GOLDEN"):
        FILE.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
    assert found == json.loads(FILE.read_text("utf-8"))


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("kdd2022:")])
def test_the_paper_s_values(name):
    recipe = recipe_as_data(name)
    expected = {key: value for names, values in PAPER if name in names for key, value in values.items()}
    assert expected
    found = {key: reduce(lambda value, part: value[part], key.split("."), recipe) for key in expected}
    assert found == expected
