"""Making a stack of runs of all folds: what is refused as a leak, what is written, and what a kill leaves."""

import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.files import read_json
from zhichun.data.predictions import read_nested, read_out_of_fold
from zhichun.fit import stack as module
from zhichun.fit.calibrate import calibrate
from zhichun.fit.folds import runs_without, train_folds
from zhichun.fit.recipe import PretrainingRecipe, Recipe
from zhichun.fit.run_folder import refuse_leaks
from zhichun.fit.second_stage import StackSettings
from zhichun.fit.stack import stack
from zhichun.measure.evaluate import rows_of, trained_pairs
from zhichun.score.folders import fingerprint_of
from zhichun.score.similarity import Similarity
from zhichun.score.stacked import StackConfig, load_stage

SETTINGS = StackSettings(rounds=5)
SIMILARITIES = ("similarity", "texts_similarity", "least_word", "similarity_to_best")


@pytest.fixture
def make(audited_data, fold_runs, tmp_path):
    def make(*runs, **options):
        options = {"settings": SETTINGS, "shown": False, **options}
        return stack(runs or [fold_runs], audited_data.folder, tmp_path / "stack", **options)

    return make


def edit(run, change):
    recipe = read_json(run / "recipe.json")
    change(recipe)
    (run / "recipe.json").write_text(json.dumps(recipe))


def test_it_is_written_as_text_and_read_again(make, audited_data, fold_runs, tmp_path):
    made = make()
    folder = tmp_path / "stack"
    config = StackConfig.load(folder)
    assert [entry.path for entry in config.members] == [f"../runs/fold-{fold}/model" for fold in range(5)]
    assert (folder / "classes.txt").read_text().startswith("tree\nversion=")
    assert "figures" not in made, "without nested runs nothing is measured"
    assert "nested" in (folder / "report.html").read_text()
    for shares in made["importance"].values():
        assert sum(shares.values()) == pytest.approx(1)
    stage, rows = load_stage(folder, config), read_out_of_fold(audited_data, fold_runs)
    candidates = stage.read(audited_data.texts(rows.rows_P))
    predicted = stage.predict(candidates, [rows.probabilities_PC])
    assert (predicted.probabilities.argmax(axis=1) == audited_data.labels[rows.rows_P]).mean() > 0.8
    known = np.flatnonzero(trained_pairs(folder, audited_data))
    np.testing.assert_array_equal(known, rows_of(audited_data, "train"), "its trees learn from all folds")


def test_made_again_it_is_the_same(make, tmp_path):
    make()
    first = fingerprint_of(tmp_path / "stack")
    make(overwrite=True)
    assert fingerprint_of(tmp_path / "stack") == first
    make(overwrite=True, settings=StackSettings(rounds=6))
    assert fingerprint_of(tmp_path / "stack") != first


def test_nested_runs_give_figures_and_an_ablation(make, nested_runs, tmp_path):
    made = make()
    assert {"ndcg", "micro_f1"} <= made["figures"]["stack"].keys()
    assert list(made["ablation"]) == [
        "probabilities",
        "list",
        "words",
        "brand and color",
        "numbers",
        "lengths and locale",
    ]
    page = (tmp_path / "stack" / "report.html").read_text()
    assert "Without a group of features" in page
    assert '<th scope="row">brand and color</th>' in page


def test_what_a_fold_is_measured_by_left_it_out(make, nested_runs, audited_data, monkeypatch):
    """Each run says its own number of the two folds that it left out, and nothing of the others."""
    folds = audited_data.column("fold")[read_out_of_fold(audited_data, nested_runs).rows_P]
    numbered = {both: np.full((len(folds), 4), np.nan) for both in read_nested(audited_data, nested_runs)}
    for both, given in numbered.items():
        number = (10 * both[0] + both[1]) / 100
        given[np.isin(folds, both)] = [number, (1 - number) / 2, (1 - number) / 4, (1 - number) / 4]
    learnt, asked, stages, fit = [], [], [], module.fit_second_stage

    class Spy:
        def __init__(self, stage):
            self.stage = stage

        def __getattr__(self, name):
            return getattr(self.stage, name)

        def predict(self, candidates, given):
            asked.append([(100 * part[:, 0]).round().tolist() for part in given])
            return self.stage.predict(candidates, given)

    def spy(corpus, judged, *more, **options):
        learnt.append(judged)
        stage = Spy(fit(corpus, judged, *more, **options))
        stages.append((options.get("like"), stage))
        return stage

    monkeypatch.setattr(module, "_nested", lambda dataset, runs: numbered)
    monkeypatch.setattr(module, "fit_second_stage", spy)
    make()
    for fold, judged in enumerate(learnt[1:6]):  # the first is the stack itself
        assert set(judged.folds_P) == {0, 1, 2, 3, 4} - {fold}
        for other in set(judged.folds_P):
            low, high = sorted((fold, other))
            numbers = (100 * judged.probabilities_PM[judged.folds_P == other, 0]).round()
            assert set(numbers) == {10 * low + high}
    assert list(map(set, asked[0])) == [{1}, {2}, {3}, {4}], "fold 0 is predicted by those that left it out"
    assert list(map(set, asked[3])) == [{3}, {13}, {23}, {34}]
    assert [like for like, _ in stages[1:6]] == [None] * 5, "the scale too is fitted without the fold"
    assert [like for like, _ in stages[6:11]] == [stage for _, stage in stages[1:6]]


LEAKS = {
    "its checkpoint was chosen by fold 2, which it predicts": lambda recipe, folder: recipe["train"].update(
        keep="best"
    ),
    "the run held out fold 1, not 2": lambda recipe, folder: recipe["train"].update(validation_fold=1),
    "the teacher .*/other/fold-1 has read queries of fold 2": lambda recipe, folder: recipe["train"].update(
        soft_labels={"predictions": [str(folder / "other")]}
    ),
    "the encoder .*/pre has read queries of fold 2": lambda recipe, folder: recipe["model"].update(
        encoder=str(folder / "pre")
    ),
}


@pytest.mark.parametrize("message", LEAKS)
def test_a_planted_leak_is_refused(make, fold_runs, tmp_path, message):
    shutil.copytree(fold_runs / "fold-1", tmp_path / "other" / "fold-1")
    (tmp_path / "pre").mkdir()
    recorded = PretrainingRecipe().with_settings(["objective.pair_mlm=PairMLM", "train.validation_fold=1"])
    (tmp_path / "pre" / "recipe.json").write_text(json.dumps(recorded.to_json()))
    edit(fold_runs / "fold-2", lambda recipe: LEAKS[message](recipe, tmp_path))
    with pytest.raises(UserError, match=message) as error:
        make()
    assert error.value.file == fold_runs / "fold-2"
    assert error.value.remedy
    assert not (tmp_path / "stack").exists()


@pytest.mark.parametrize("relative", [True, False])
def test_a_leak_of_the_first_of_two_stages_of_pre_training_is_refused(fold_runs, tmp_path, relative):
    for name, encoder, settings in (("first", None, ["objective.pair_mlm=PairMLM"]), ("second", "first", [])):
        (tmp_path / name / "encoder").mkdir(parents=True)
        recorded = PretrainingRecipe().with_settings(settings).to_json()
        if encoder:
            recorded["model"]["encoder"] = f"{encoder}/encoder" if relative else str(tmp_path / encoder / "encoder")
        (tmp_path / name / "recipe.json").write_text(json.dumps(recorded))
    run, place = fold_runs / "fold-2", tmp_path / "second" / "encoder"
    edit(run, lambda recipe: recipe["model"].update(encoder=str(place)))
    with pytest.raises(UserError, match=r"the encoder .*first/encoder has read queries of fold 2"):
        refuse_leaks(read_json(run / "recipe.json"), run)


def pre_trained(folder, left_out):
    """Record an encoder that was pre-trained on queries of all folds but one."""
    settings = ["objective.pair_mlm=PairMLM", f"train.validation_fold={left_out}"]
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps(PretrainingRecipe().with_settings(settings).to_json()))
    return str(folder)


@pytest.mark.parametrize("through", ["encoder", "teacher"])
def test_what_a_teacher_learnt_from_is_followed_to_its_end(fold_runs, tmp_path, through):
    """A teacher that left the fold out, whose encoder, or the encoder of whose own teacher, did not."""
    teacher, first = tmp_path / "teacher", tmp_path / "first"
    for place in (teacher, first):
        shutil.copytree(fold_runs / "fold-2", place)
    whose = teacher if through == "encoder" else first
    if whose == first:
        edit(teacher, lambda recipe: recipe["train"].update(soft_labels={"predictions": ["first"]}))
    run = fold_runs / "fold-2"
    edit(run, lambda recipe: recipe["train"].update(soft_labels={"predictions": [str(teacher)]}))
    edit(whose, lambda recipe: recipe["model"].update(encoder=pre_trained(tmp_path / "without", 2)))
    refuse_leaks(read_json(run / "recipe.json"), run)
    edit(whose, lambda recipe: recipe["model"].update(encoder=pre_trained(tmp_path / "with", 1)))
    with pytest.raises(UserError, match=r"the encoder .*/with has read queries of fold 2, which this run held out"):
        refuse_leaks(read_json(run / "recipe.json"), run)


def test_a_fold_s_calibration_on_itself_is_refused(make, fold_runs):
    (fold_runs / "fold-3" / "model" / "calibration.json").write_text('{"temperature": 2.0}')
    with pytest.raises(UserError, match=r"calibrated on the fold .*\nDelete .*fold-3/model/calibration\.json") as error:
        make()
    assert error.value.file == fold_runs / "fold-3"


def test_what_is_read_of_a_calibrated_run_is_what_it_said_as_it_was_trained(
    make, audited_data, nested_runs, tiny_run, monkeypatch
):
    monkeypatch.setattr("zhichun.fit.calibrate.LEAST_QUERIES", 1)
    runs = [nested_runs / "fold-3", nested_runs / "nested-1-3"]
    for run in runs:
        shutil.copytree(tiny_run / "model", run / "model", dirs_exist_ok=True)
    plain, before = make(), [pq.read_table(run / "predictions.parquet")["p_E"] for run in runs]
    for run, said in zip(runs, before, strict=True):
        calibrate(run)
        assert pq.read_table(run / "predictions.parquet")["p_E"] != said
    with pytest.raises(UserError, match="calibrated on the fold"):
        make(overwrite=True)
    (runs[0] / "model" / "calibration.json").unlink()  # as the message says
    assert make(overwrite=True) == plain


def test_a_planted_leak_of_a_nested_run_is_refused(make, nested_runs):
    edit(nested_runs / "nested-1-3", lambda recipe: recipe["train"].update(keep="best"))
    with pytest.raises(UserError, match="chosen by fold 1 and 3"):
        make()


def test_teachers_and_encoders_that_left_the_fold_out_are_let_through(fold_runs, tmp_path):
    recorded = PretrainingRecipe().with_settings(["objective.pair_mlm=PairMLM", "train.validation_fold=2"])
    without = PretrainingRecipe()
    for name, recipe in (("of-two", recorded), ("of-none", without)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.json").write_text(json.dumps(recipe.to_json()))
        edit(fold_runs / "fold-2", lambda recipe, name=name: recipe["model"].update(encoder=str(tmp_path / name)))
        refuse_leaks(read_json(fold_runs / "fold-2" / "recipe.json"), fold_runs / "fold-2")


def test_folds_are_not_trained_by_a_teacher_that_saw_them(
    tiny_recipe, audited_data, nested_runs, tmp_path, monkeypatch
):
    taught = tiny_recipe.with_settings([f'train.soft_labels={{"predictions": ["{nested_runs}"]}}'])
    trained = []
    monkeypatch.setattr("zhichun.fit.folds.train", lambda recipe, data, out, **_: trained.append((recipe, out.name)))
    train_folds(taught, audited_data.folder, tmp_path / "out")
    for fold, (recipe, name) in enumerate(trained):
        assert (name, recipe.train.validation_fold, recipe.train.keep) == (f"fold-{fold}", fold, "last")
        assert all(str(fold) in place.rsplit("nested-", 1)[1] for place in recipe.train.soft_labels.predictions)
    assert [run.name[7:] for run in runs_without(nested_runs, 3)] == ["0-3", "1-3", "2-3", "3-4"]
    for place in nested_runs.glob("nested-*"):
        shutil.rmtree(place)
    with pytest.raises(UserError, match=r"the teacher .*fold-1 has read queries of fold 0"):
        train_folds(taught, audited_data.folder, tmp_path / "other")


def test_folds_and_both_of_two_are_trained_to_the_last_step(tiny_recipe, audited_data, tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr("zhichun.fit.folds.train", lambda recipe, data, out, **_: trained.append((recipe, out.name)))
    with_patience = tiny_recipe.with_settings(["train.patience=2"])
    train_folds(with_patience, audited_data.folder, tmp_path / "out", nested=True)
    assert [name for _, name in trained][4:7] == ["fold-4", "nested-0-1", "nested-0-2"]
    assert len(trained) == 5 + 10
    assert {(recipe.train.keep, recipe.train.patience) for recipe, _ in trained} == {("last", None)}
    assert trained[5][0].train.validation_fold == (0, 1)
    monkeypatch.setattr("zhichun.fit.folds.fold_count", lambda dataset: 2)
    with pytest.raises(UserError, match=r"without both of two folds .*\nLeave --nested out, .* --folds 3"):
        train_folds(with_patience, audited_data.folder, tmp_path / "two", folds=2, nested=True)
    recorded = json.loads(json.dumps(trained[5][0].to_json()))
    assert Recipe.from_json(recorded) == trained[5][0]


def test_a_kill_leaves_nothing_under_the_name(make, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_stack_page", killed)
    with pytest.raises(KeyboardInterrupt):
        make()
    assert not (tmp_path / "stack").exists()
    monkeypatch.undo()
    make()
    assert (tmp_path / "stack" / "stack.json").is_file()


def test_own_columns_are_read_and_those_that_the_dataset_lacks_are_named(make, audited_data, tmp_path, capsys):
    with pytest.raises(UserError, match=r"lacks the columns \['price'\].*\n.*zhichun prepare .* --keep price"):
        make(own=["price"])
    path = audited_data.folder / "products.parquet"
    products = pq.read_table(path)
    prices = [str(place) if place % 3 else None for place in range(len(products))]
    pq.write_table(products.append_column("list price", pa.array(prices, pa.string())), path)
    made = make(own=["list price"])
    assert "no number" not in capsys.readouterr().err
    priced, texts = pq.read_table(path), pa.array([f"${price}" for price in prices])
    pq.write_table(priced.append_column("tag", texts), path)
    with pytest.raises(UserError, match=r"'tag' has texts alone, such as '\$"):
        make(own=["list price", "tag"], overwrite=True)
    assert made["features"]["own columns"] == ["list price", "list price_share"]
    assert made["importance"]["classes"].keys() >= {"list price", "list price_share"}
    assert StackConfig.load(tmp_path / "stack").own == ("list price",)
    mixed = pa.array(["" if place % 3 else "12.99" if place % 2 else "1,299.00" for place in range(len(products))])
    pq.write_table(priced.append_column("mixed", mixed), path)
    make(own=["mixed"], overwrite=True)
    said = (
        r"[\d,]+ of [\d,]+ judged pairs have no number in 'mixed', but texts such as '1,299.00': it counts as missing"
    )
    assert re.search(said, capsys.readouterr().err)


def test_a_similarity_is_read_and_kept_with_the_trees(make, audited_data, fold_runs, sentence_encoder, tmp_path):
    made, folder = make(similarity=str(sentence_encoder)), tmp_path / "stack"
    assert made["features"]["most similar product"] == ["similarity_to_best"]
    stage, rows = load_stage(folder, StackConfig.load(folder)), read_out_of_fold(audited_data, fold_runs)
    assert list(stage.boosters[0].feature_name()) == [name for group in made["features"].values() for name in group]
    texts, similarity = audited_data.texts(rows.rows_P), Similarity.load(sentence_encoder)
    candidates = stage.read(texts)
    places = [candidates.names.index(name) for name in SIMILARITIES]
    keys = list(zip(*(texts.products[name] for name in schema.TEXT_COLUMNS), strict=True))
    for number in range(3):
        pairs = np.flatnonzero(candidates.list_P == number)
        distinct = [*dict.fromkeys(keys[pair] for pair in pairs)]
        (similar,), _ = similarity.of_lists([(texts.queries[pairs[0]], distinct)])
        expected = dict(zip(distinct, similar, strict=True))
        for pair in pairs:
            said = candidates.known_UF[candidates.place_P[pair], places]
            assert said == pytest.approx(expected[keys[pair]], abs=2e-5)
    with pytest.raises(UserError, match="two features named 'similarity'"):
        make(own=["similarity"], similarity=str(sentence_encoder), overwrite=True)


def test_folds_of_one_recipe_beside_the_trees_weigh_as_one(make, fold_runs, tmp_path):
    make(beside=[fold_runs], overwrite=True)
    config = StackConfig.load(tmp_path / "stack")
    assert (config.beside, config.share, len(config.members)) == (5, module.SHARE, 10)
    assert sum(entry.weight for entry in config.members[5:]) == pytest.approx(module.SHARE)


@pytest.mark.parametrize("share", [0, 1, -1, float("nan")])
def test_a_share_that_leaves_one_of_both_out_is_refused(make, fold_runs, share):
    with pytest.raises(UserError, match="is not between 0 and 1"):
        make(beside=[fold_runs], share=share)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (["product_id"], "is no number that describes"),
        (["origin"], "is no number that describes"),
        (["bm25"], "two features named 'bm25'"),
        (["p_E"], "two features named 'p_E'"),
        (["price", "price"], "two features named 'price'"),
        (["price", "price_share"], "'price_share'"),
        (["list price", "list_price"], "two features named 'list price'"),
        (["price[eur]"], r"has one of the characters"),
    ],
)
def test_own_columns_that_can_be_no_feature_are_refused(make, own, message):
    with pytest.raises(UserError, match=message):
        make(own=own)


def test_a_list_that_is_too_long_for_the_trees_is_refused(make, monkeypatch):
    monkeypatch.setattr(module, "LONGEST_LIST", 2)
    with pytest.raises(UserError, match="judged pairs; trees rank 2 at most"):
        make()


def test_too_few_queries_are_refused(make, audited_data, monkeypatch):
    monkeypatch.setattr(module, "FEWEST_QUERIES", 1000)
    with pytest.raises(UserError, match="fewer than 1000 training queries"):
        make()


def test_neither_a_run_nor_a_similarity_is_refused(audited_data, tmp_path):
    with pytest.raises(UserError, match=r"neither a run nor a similarity.*\n.*--similarity ENCODER"):
        stack([], audited_data.folder, tmp_path / "stack", shown=False)


def test_a_damaged_stack_is_refused(make, tmp_path):
    make()
    path = tmp_path / "stack" / "ranking.txt"
    path.write_text(path.read_text().replace("leaf_value=", "leaf_value=9", 1))
    with pytest.raises(UserError, match=r"ranking.txt: is damaged.*\n.*zhichun stack RUN"):
        StackConfig.load(tmp_path / "stack")


def test_a_stack_without_its_hashes_is_refused_before_a_cut_off_tree_is_read(make, tmp_path):
    make()
    (tmp_path / "stack" / "hashes.json").unlink()
    (tmp_path / "stack" / "classes.txt").write_text("tree")
    for read in (StackConfig.load, fingerprint_of):
        with pytest.raises(UserError, match=r"hashes.json.*\n.*zhichun stack"):
            read(tmp_path / "stack")
