"""What a table is going to run, and what is refused before anything is."""

import shutil

import pytest

from zhichun.ablate.ablation import Ablation, Row
from zhichun.ablate.clock import Clock
from zhichun.ablate.plan import Plan
from zhichun.ablate.result import baseline_of
from zhichun.core.errors import UserError
from zhichun.fit.recipe import PretrainingRecipe, functions_of, load_recipe, load_value
from zhichun.fit.recipes import ablations


def table(*rows, **others):
    return Ablation(name="A table", caption="", metrics=("micro_f1",), rows=rows, **others)


PLAIN, FOCAL = Row(name="plain"), Row(name="Focal", settings=("objective.loss=Focal",))


@pytest.fixture
def another_dataset(tiny_dataset, tmp_path):
    shutil.copytree(tiny_dataset, tmp_path / "another")
    manifest = tmp_path / "another" / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    return tmp_path / "another"


@pytest.fixture
def plan(tiny_dataset, tiny_recipe, tmp_path):
    def plan(*rows, compared_with="first", seeds=1, **others):
        ablation = table(*rows, compared_with=compared_with)
        return Plan(ablation=ablation, base=tiny_recipe, out=tmp_path, seeds=seeds, **{"data": tiny_dataset, **others})

    return plan


def test_every_row_is_run_once_before_any_is_run_twice(plan, tmp_path):
    runs = plan(PLAIN, FOCAL, seeds=2).runs
    assert [(run.row.name, run.recipe.train.seed) for run in runs] == [
        ("plain", 0),
        ("Focal", 0),
        ("plain", 1),
        ("Focal", 1),
    ]
    assert runs[3].folder == tmp_path / "focal" / "seed-1"


def test_a_rows_own_setting_wins_and_that_is_known(plan):
    made = plan(PLAIN, FOCAL, settings=("objective.loss=Poly1", "train.epochs=2"))
    assert [type(run.recipe.objective.loss).__name__ for run in made.runs] == ["Poly1", "Focal"]
    assert {run.recipe.train.epochs for run in made.runs} == {2}
    assert made.overruled == [("objective.loss=Poly1", ["Focal"])]


def test_a_setting_within_what_rows_switch_on_holds_for_these_rows_only(plan):
    made = plan(PLAIN, FOCAL, settings=("objective.loss.gamma=1",))
    assert type(made.runs[0].recipe.objective.loss).__name__ == "CrossEntropy"
    assert made.runs[1].recipe.objective.loss.gamma == 1.0
    assert made.overruled == []


def test_a_setting_within_what_all_rows_switch_off_is_refused(plan):
    off = Row(name="off", settings=("objective.ema=null",))
    with pytest.raises(UserError, match=r"--set objective\.ema\.decay=0\.9 has no effect"):
        plan(off, settings=("objective.ema.decay=0.9",))
    on = Row(name="on", settings=("objective.ema=null", "objective.ema=EMA"))
    made = plan(off, on, settings=("objective.ema.decay=0.9",))
    assert [run.recipe.objective.ema and run.recipe.objective.ema.decay for run in made.runs] == [None, 0.9]


def test_a_row_is_compared_within_its_task(plan):
    gain = ("task=gain", "objective.loss=SquaredError", "train.metric=ndcg")
    rows = [PLAIN, Row(name="gain", settings=gain), FOCAL, Row(name="slow", settings=(*gain, "train.epochs=2"))]
    rows.append(Row(name="last", settings=("objective.loss=Poly1",)))

    def compared(made):
        return [row and row.name for row in (baseline_of(made, row) for row in rows)]

    assert compared(plan(*rows)) == [None, None, "plain", "gain", "plain"]
    assert compared(plan(*rows, compared_with="above")) == [None, None, "plain", "gain", "Focal"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("train.epohcs=1",), "Did you mean 'train.epochs'?"),
        (("train.seed=3",), "--set: train.seed=3 would give all runs one seed.\nUse --seeds."),
        (("task=gain",), "row 'plain': the task 'gain' cannot be trained with the loss CrossEntropy"),
        (("objective.loss.gama=1",), "row 'Focal': there is no setting 'objective.loss.gama'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(plan, settings, message):
    with pytest.raises(UserError) as error:
        plan(PLAIN, FOCAL, settings=settings)
    assert message in str(error.value)


def test_a_setting_that_all_rows_have_of_their_own_is_refused(plan):
    with pytest.raises(UserError, match=r"objective\.loss=Poly1 has no effect: every row has its own"):
        plan(FOCAL, settings=("objective.loss=Poly1",))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: table(), "A table has no row"),
        (lambda: table(Row(name="a b"), Row(name="A-b")), "rows share a name: A-b, a b"),
        (lambda: Row(name="+"), "a row cannot be called '+'"),
        (lambda: Row(name="x", settings=("train.epochs",)), "row 'x': 'train.epochs' is no setting.\nWrite KEY=VALUE"),
        (lambda: Row(name="x", settings=("train.seed=1",)), "row 'x': train.seed=1 would give all runs one seed"),
        (lambda: Row(name="x", paper={"microf1": 0.5}), "no metric 'microf1'.\nDid you mean 'micro_f1'?"),
        (lambda: table(PLAIN).row("plan"), "no row 'plan'.\nDid you mean 'plain'?"),
    ],
)
def test_a_table_that_cannot_be_is_refused(make, message):
    with pytest.raises(UserError) as error:
        make()
    assert message in str(error.value)


def test_rows_that_are_the_same_on_top_of_a_recipe_are_refused(plan):
    with pytest.raises(UserError, match="the rows 'plain' and 'CE' are the same"):
        plan(PLAIN, Row(name="CE", settings=("objective.loss=CrossEntropy",)))


def test_a_pre_training_is_of_the_rows_encoder_and_shared_by_equal_rows(plan, tiny_recipe):
    rows = [
        Row(name="fresh"),
        Row(name="slow", pretraining=("objective.contrastive=null",)),
        Row(name="fast", settings=("train.epochs=2",), pretraining=("objective.contrastive=null",)),
        Row(name="all", pretraining=()),
    ]
    sizes = tuple(f"objective.product2{name}.size=8" for name in ("brand", "color"))
    made = plan(*rows, pretraining=load_recipe("tiny:pretrain", PretrainingRecipe), pretraining_settings=sizes, seeds=2)
    stages = {(run.row.name, run.seed): run.stages for run in made.runs}
    assert stages["fresh", 0] == ()
    assert stages["slow", 0] == stages["fast", 0]
    assert len({stage.folder for of in stages.values() for stage in of}) == 4  # two kinds, two seeds
    (stage,) = stages["all", 1]
    assert (stage.recipe.model.tiny, stage.recipe.train.seed) == (tiny_recipe.model.tiny, 1)
    assert made.of_row(rows[3])[1].recipe.model.encoder == str(stage.folder)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({}, "row 'MLM' is pre-trained.\nName a recipe with --pretraining."),
        ({"pretraining_settings": ("objective.mlm=nul",)}, "row 'MLM': objective.mlm has no kind 'nul'"),
        ({"pretraining_settings": ("train.epochs=2",)}, "Use --set-pretraining objective.product2brand.size=8."),
    ],
)
def test_a_pre_training_that_does_not_fit_is_refused(plan, others, message):
    recipe = {"pretraining": load_recipe("tiny:pretrain", PretrainingRecipe)} if others else {}
    with pytest.raises(UserError) as error:
        plan(Row(name="MLM", pretraining=()), **recipe, **others)
    assert message in str(error.value)


@pytest.mark.parametrize("row", [Row(name="plain"), Row(name="MLM", pretraining=())])
def test_a_folder_that_is_no_dataset_is_refused(plan, row, tmp_path):
    sizes = tuple(f"objective.product2{name}.size=8" for name in ("brand", "color")) if row.pretraining == () else ()
    recipe = load_recipe("tiny:pretrain", PretrainingRecipe)
    with pytest.raises(UserError, match="not a dataset folder"):
        plan(row, data=tmp_path / "nowhere", pretraining=recipe, pretraining_settings=sizes).check()


def test_settings_of_a_pre_training_that_no_row_has_are_refused(plan):
    with pytest.raises(UserError, match="--set-pretraining has no effect"):
        plan(PLAIN, pretraining_settings=("train.epochs=2",))


def test_a_model_that_cannot_be_built_is_refused_with_its_row(plan):
    vectors = Row(name="vectors", settings=("model.trigram_start=word2vec",))
    with pytest.raises(UserError, match=r"row 'vectors': there are no trigram vectors of size 8\.\nMake them with"):
        plan(PLAIN, vectors).check()


def test_a_run_of_other_settings_or_data_in_the_way_is_refused(plan, tiny_run, another_dataset):
    made = plan(PLAIN)
    made.check()
    shutil.copytree(tiny_run, made.runs[0].folder)
    made.check()  # the same recipe and the same dataset
    with pytest.raises(UserError, match=r"recipe\.json: the run there has other settings"):
        plan(PLAIN, settings=("train.epochs=2",)).check()
    with pytest.raises(UserError, match="the run there was trained on another dataset"):
        plan(PLAIN, data=another_dataset).check()


def test_the_time_that_is_left_counts_each_row_at_its_own_pace(plan):
    runs = plan(PLAIN, FOCAL, seeds=2).runs
    clock = Clock(runs)
    assert clock.line(runs[0]) == "run 1 of 4: plain, seed 0"
    clock.took(runs[0], 10)
    assert clock.left() == 30
    clock.took(runs[1], 50)
    assert clock.line(runs[2]) == "run 3 of 4: plain, seed 1, 60 s left"


@pytest.mark.parametrize("name", functions_of(ablations, Ablation))
@pytest.mark.parametrize("family", ["tiny", "kdd2022:baseline", "kdd2022:task1"])
def test_the_papers_tables_fit_the_packaged_recipes(name, family, tiny_dataset, tmp_path):
    ablation = load_value(f"ablations:{name}", Ablation, ("ablations",))
    pretraining = load_recipe(f"{family.partition(':')[0]}:pretrain", PretrainingRecipe)
    plan = Plan(
        ablation=ablation, base=load_recipe(family), pretraining=pretraining, data=tiny_dataset, out=tmp_path, seeds=1
    )
    assert len({(str(run.recipe), run.data) for run in plan.runs}) == len(ablation.rows)


def test_an_ablation_of_ones_own_file_is_found_and_a_misspelt_one_is_answered(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from zhichun.ablate import Ablation, Row\n"
        "def mine() -> Ablation:\n"
        "    return Ablation(name='Mine', caption='', metrics=('ndcg',), rows=(Row(name='plain'),))\n"
    )
    assert load_value(f"{file}:mine", Ablation, ("ablations",)).name == "Mine"
    with pytest.raises(UserError, match=r"ablations has no ablation 'tabel4'\.\nDid you mean 'table4'\?"):
        load_value("ablations:tabel4", Ablation, ("ablations",))
    with pytest.raises(UserError, match=r"there is no ablation 'table4'\.\nPossible: ablations"):
        load_value("table4", Ablation, ("ablations",))
