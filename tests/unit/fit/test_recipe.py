"""Recipes: by name, by file, from a recorded JSON; changed with --set; refused with the right remedy."""

import json

import pytest

from zhichun.core.errors import UserError
from zhichun.fit.recipe import PretrainingRecipe, Recipe, describe, load_recipe
from zhichun.objective.losses import CrossEntropy, Focal, Poly1, SquaredError
from zhichun.objective.methods import FGM

PACKAGED = [
    "tiny",
    "kdd2022:baseline",
    *(f"kdd2022:task{task}{reading}" for task in (1, 2, 3) for reading in ("", "_as_released")),
    *(f"kdd2022:task1_member{member}" for member in range(1, 7)),
    "distil:student",
    "distil:pooled",
    "distil:one_score",
]


@pytest.mark.parametrize("name", PACKAGED)
def test_a_packaged_recipe_goes_through_json_unchanged(name):
    recipe = load_recipe(name)
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


@pytest.mark.parametrize("name", PACKAGED)
def test_every_setting_says_what_it_means(name):
    rows = describe(load_recipe(name))
    assert {"task", "model.encoder", "model.tiny.layers", "objective.loss", "train.learning_rate"} <= {
        r[0] for r in rows
    }
    assert [key for key, _, words in rows if len(words) < 10] == []


def test_describe_shows_values_as_set_takes_them():
    shown = {key: value for key, value, _ in describe(load_recipe("tiny").with_settings(["model.brand=null"]))}
    assert shown["model.brand"] == "null"
    assert shown["train.learning_rate"] == "0.0005"
    assert shown["objective.loss"] == "CrossEntropy"
    assert load_recipe("tiny").with_settings([f"model.fields={shown['model.fields']}"]) == load_recipe("tiny")


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("train.epochs=3", 3),
        ("train.learning_rate=2e-5", 2e-5),
        ("train.learning_rate=1", 1.0),
        ("train.clip=null", None),
        ("train.validation_fold=2", 2),
        ("train.metric=ndcg", "ndcg"),
        ("model.trigrams=null", None),
        ('model.fields=["title","brand"]', ("title", "brand")),
        ("model.encoder=a/path=with-an-equals-sign", "a/path=with-an-equals-sign"),
        ("model.tiny.layers = 2", 2),
    ],
)
def test_set_gives_values_of_the_right_type(assignment, expected):
    changed = load_recipe("tiny").with_settings([assignment])
    for name in assignment.partition("=")[0].strip().split("."):
        changed = getattr(changed, name)
    assert changed == expected
    assert type(changed) is type(expected)


def test_a_loss_is_set_by_its_name_or_as_a_whole():
    by_name = load_recipe("tiny").with_settings(["objective.loss=Focal"])
    assert by_name.objective.loss == Focal(gamma=2.0)
    whole = 'objective.loss={"kind":"Poly1","epsilon":2,"label_smoothing":0.1,"class_weights":[1,2,3,4]}'
    loss = Poly1(epsilon=2.0, label_smoothing=0.1, class_weights=(1.0, 2.0, 3.0, 4.0))
    assert load_recipe("tiny").with_settings([whole]).objective.loss == loss
    smoothed = load_recipe("tiny").with_settings(["objective.loss.label_smoothing=0.2"])
    assert smoothed.objective.loss == CrossEntropy(label_smoothing=0.2)


def test_what_is_said_of_a_loss_includes_the_settings_that_all_have():
    described = describe(load_recipe("tiny").with_settings(["objective.loss=GHMC"]))
    rows = {key: (value, words) for key, value, words in described}
    assert rows["objective.loss"][0] == "GHMC"
    assert rows["objective.loss.bins"] == ("10", "Number of bins for norms from 0 to 1.")
    assert rows["objective.loss.label_smoothing"][1].startswith("Share of the target")


def test_later_assignments_win_and_the_rest_stays():
    recipe = load_recipe("tiny")
    changed = recipe.with_settings(["train.epochs=3", "train.epochs=4"])
    assert changed.train.epochs == 4
    assert changed.with_settings([f"train.epochs={recipe.train.epochs}"]) == recipe


def test_a_loss_is_set_by_its_name_together_with_its_task():
    changed = load_recipe("tiny").with_settings(["task=gain", "objective.loss=SquaredError", "train.metric=ndcg"])
    assert changed.objective.loss == SquaredError()
    assert load_recipe("kdd2022:task1").objective.loss == SquaredError()
    assert load_recipe("kdd2022:task3").objective.loss == Poly1()


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["train.epohcs=3"], "no setting 'train.epohcs'.\nDid you mean 'train.epochs'?"),
        (["trian.epochs=3"], "no setting 'trian'.\nDid you mean 'train'?"),
        (["model.tiny.layer=3"], "no setting 'model.tiny.layer'.\nDid you mean 'model.tiny.layers'?"),
        (["train.epochs"], "has no value.\nWrite --set KEY=VALUE."),
        (["train.epochs.more=1"], "train.epochs is 6 and has no setting 'more'"),
        (["model.interaction.state=8"], "model.interaction is Full and has no setting 'state'.\nSet it as a whole"),
        (["train.epochs=many"], "train.epochs='many' is not of type int"),
        (["train.epochs=1.5"], "train.epochs=1.5 is not of type int"),
        (["train.epochs=true"], "train.epochs=True is not of type int"),
        (["train.epochs=null"], "train.epochs=None is not of type int"),
        (["train.metric=microf1"], "train.metric='microf1' is unknown.\nDid you mean 'micro_f1'?"),
        (["model.fields=title"], "model.fields='title' is not a list"),
        (['model.fields=["titel"]'], "Did you mean 'title'?"),
        (["objective.loss=CrossEntropie"], "objective.loss has no kind 'CrossEntropie'.\nDid you mean 'CrossEntropy'?"),
        (["objective.loss=SquaredError"], "task 'esci' cannot be trained with the loss SquaredError"),
        (["task=gain"], "Use --set objective.loss=SquaredError"),
        (["task=gain", "objective.loss=SquaredError"], "the task 'gain' has no micro_f1.\nUse --set train.metric=ndcg"),
        (["task=substitute", "train.metric=ndcg"], "the task 'substitute' has no ndcg.\nUse --set train.metric=micro"),
        (["train.epochs=0"], "train.epochs=0 must be above 0"),
        (["train.seed=99999999999999999999"], "must be at most 4.29497e+09.\nNo generator takes more."),
        (["model.dropout=2"], "model.dropout=2.0 must be at least 0 and below 1"),
        (["model.tiny.dropout=-0.5"], "model.tiny.dropout=-0.5 must be at least 0 and below 1"),
        (["model.tiny.layers=0"], "model.tiny.layers=0 must be at least 1"),
        (["model.max_length=99999999"], "model.max_length=99999999 must be at least 8 and at most 65536"),
        (["train.warmup=1.0"], "train.warmup=1.0 must be at least 0 and below 1"),
        (["train.clip=0"], "train.clip=0.0 must be above 0.\nSwitch it off with train.clip=null"),
        (["train.patience=0"], "Switch it off with train.patience=null"),
        (
            ["objective.loss.class_weights=[1,2,3]"],
            "are 3 weights.\nGive one for each class of the task 'esci': E, S, C",
        ),
        (["task=substitute", "objective.loss.class_weights=[1,1,1,1]"], "of the task 'substitute': other, S."),
        (['objective.loss={"kind":"Poly1","epsilon":0}'], "with 0 it is the loss CrossEntropy"),
        (["objective.loss.label_smoothing=1"], "label_smoothing=1.0: must be above 0 and below 1"),
        (["train.layer_decay=1"], "train.layer_decay=null, which is off"),
        (["train.activation_checkpointing=layer"], "Did you mean 'layers'?"),
        (['train.soft_labels={"predictions":["run"],"share":0}'], "Switch them off with train.soft_labels=null"),
        (["model.pooling=mean"], "model.pooling='mean' is unknown"),
        (["train.learning_rate=NaN"], "train.learning_rate=nan is not a finite number"),
        (["train.weight_decay=Infinity"], "train.weight_decay=inf is not a finite number"),
        (["train.clip=-Infinity"], "train.clip=-inf is not a finite number"),
        (["train.warmup=1" + "0" * 400], "train.warmup=inf is not a finite number"),
        (["train.learning_rate=true"], "train.learning_rate=True is not of type float"),
        (
            ['objective.loss={"kind":"CrossEntropy","class_weights":[1,NaN,1,1]}'],
            "=nan is not a finite number",
        ),
        (["train.seed=-1"], "train.seed=-1 must be at least 0"),
        (["model.max_length=7"], "model.max_length=7 must be at least 8 and at most 65536.\nFewer leave no room"),
        (["model.brand=0"], "Switch it off with model.brand=null"),
    ],
)
def test_what_cannot_be_set_is_answered_with_what_can(assignments, message):
    with pytest.raises(UserError) as error:
        load_recipe("tiny").with_settings(assignments)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tinny", "no recipe 'tinny'.\nDid you mean 'tiny'? Or name a file"),
        ("kdd2022", "has no recipe 'kdd2022'.\nPossible: baseline, "),
        ("kdd2022:tsak2", "has no recipe 'tsak2'.\nDid you mean 'task2'?"),
        ("nowhere.py:mine", "nowhere.py: there is no such file"),
        ("nowhere.json", "nowhere.json: cannot be read"),
        ("nowhere.yaml", "nowhere.yaml: cannot be read"),
    ],
)
def test_a_recipe_that_does_not_exist_is_answered_with_one_that_does(name, message):
    with pytest.raises(UserError) as error:
        load_recipe(name)
    assert message in str(error.value)


def test_a_function_of_one_s_own_file_is_a_recipe(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from zhichun.fit.recipe import Recipe, load_recipe\n"
        "def short() -> Recipe:\n    return load_recipe('tiny').with_settings(['train.epochs=1'])\n"
        "def mine() -> 'Recipe':\n    return Recipe()\n"
        "def helper():\n    return None\n"
    )
    assert load_recipe(f"{file}:short").train.epochs == 1
    assert load_recipe(str(file)) == Recipe()  # the function named as the file
    with pytest.raises(UserError, match=r"no recipe 'helper'\.\n.*mine, short"):
        load_recipe(f"{file}:helper")


def test_a_recorded_recipe_is_read_back(tmp_path):
    recipe = load_recipe("kdd2022:task1").with_settings(["model.color=null"])
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.to_json()))
    assert load_recipe(str(tmp_path / "recipe.json")) == recipe


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": 2}', "is of recipe format 2; this version reads 1"),
        ('{"format": 1, "tsak": "esci"}', "no setting 'tsak'.\nDid you mean 'task'?"),
        ('{"format": 1', "cannot be read"),
    ],
)
def test_a_recorded_recipe_that_cannot_be_read_is_named(tmp_path, content, message):
    (tmp_path / "recipe.json").write_text(content)
    with pytest.raises(UserError) as error:
        load_recipe(str(tmp_path / "recipe.json"))
    assert message in str(error.value)


def test_a_kind_that_was_just_named_can_be_set_further(tiny_recipe):
    changed = tiny_recipe.with_settings(
        [
            "objective.second_view=FGM",
            "objective.second_view.epsilon=0.5",
            "objective.second_view.at=output",
            'objective.loss={"kind":"Poly1","label_smoothing":0.1}',
            "objective.loss.epsilon=2.0",
        ]
    )
    assert changed.objective.second_view == FGM(epsilon=0.5, at="output")
    assert changed.objective.loss == Poly1(label_smoothing=0.1, epsilon=2.0)


def test_a_misspelt_setting_of_a_kind_that_was_just_named_is_answered(tiny_recipe):
    with pytest.raises(UserError, match=r"Did you mean 'objective\.second_view\.epsilon'"):
        tiny_recipe.with_settings(["objective.second_view=FGM", "objective.second_view.epsilo=0.5"])


def test_a_recipe_in_yaml_is_another_one_and_what_differs(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "base: kdd2022:task2  # a comment\n"
        "model: {brand: null, fields: [title, color], encoder: a/path}\n"
        "objective:\n  loss: {kind: Poly1, epsilon: 2}\n  second_view: {epsilon: 1e-1}\n"
        "train:\n  learning_rate: 2e-5\n  epochs: 3\n  seed: 1\ntrain.warmup: 1.5e-1\n"
    )
    settings = ["model.brand=null", 'model.fields=["title","color"]', "model.encoder=a/path"]
    settings += ['objective.loss={"kind":"Poly1","epsilon":2}', "objective.second_view.epsilon=0.1"]
    settings += ["train.learning_rate=2e-5", "train.epochs=3", "train.seed=1", "train.warmup=0.15"]
    assert load_recipe(str(file)) == load_recipe("kdd2022:task2").with_settings(settings)
    file.write_text("")
    assert load_recipe(str(file)) == Recipe()


def test_a_recipe_in_yaml_may_be_of_pretraining_and_build_on_another_file(tmp_path):
    (tmp_path / "a.yml").write_text("base: tiny:pretrain\ntrain: {epochs: 2}\n")
    (tmp_path / "b.yaml").write_text(f"base: {tmp_path / 'a.yml'}\ntrain: {{seed: 3}}\n")
    (tmp_path / "beside.YAML").write_text("base: b.yaml\n")  # as seen from the file, wherever one is
    found = load_recipe(str(tmp_path / "beside.YAML"), PretrainingRecipe)
    assert found == load_recipe("tiny:pretrain", PretrainingRecipe).with_settings(["train.epochs=2", "train.seed=3"])
    with pytest.raises(UserError, match="is a recipe for `zhichun pretrain`"):
        load_recipe(str(tmp_path / "b.yaml"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("train: {epohcs: 3}", "no setting 'train.epohcs'.\nDid you mean 'train.epochs'?"),
        ("train: {epochs: many}", "train.epochs='many' is not of type int"),
        ("train: {epochs: 3, epochs: 4}", "'epochs' is there twice"),
        ("train: 3", "train=3 should name one of"),
        ("train: {validation_fold: 2026-11-26}", "train.validation_fold='2026-11-26' is not of type int"),
        ("train: {learning_rate: .nan}", "train.learning_rate=nan is not a finite number"),
        ("train: {warmup: &a [*a]}", "cannot be read"),
        ("train: &a {warmup: *a}", "cannot be read"),
        ("? [1]\n: 2", "cannot be read"),
        ("- tiny", "cannot be read (no settings)"),
        ("train: [", "cannot be read"),
        ("train: !!python/object:os.system {}", "cannot be read"),
        ("base: tinny", "no recipe 'tinny'.\nDid you mean 'tiny'?"),
        ("base: mine.yaml", "mine.yaml: cannot be read"),
    ],
)
def test_a_recipe_in_yaml_that_cannot_be_used_names_file_and_key(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(UserError) as error:
        load_recipe("mine.yaml")
    assert str(error.value).startswith("mine.yaml: ")
    assert message in str(error.value)
