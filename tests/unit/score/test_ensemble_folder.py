"""An ensemble folder: what may go into it, and that it answers as its members do."""

import copy
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.files import read_json, write_json
from zhichun.core.tasks import TASKS
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import open_pairs
from zhichun.data.readers.pair_tables import append_columns
from zhichun.fit.train import build_model
from zhichun.measure.evaluate import evaluate
from zhichun.model.model_folder import TrainedModel
from zhichun.score.ensemble import ask_members, average, whole_pairs
from zhichun.score.folders import fingerprint_of, model_folder
from zhichun.score.make_ensemble import make_ensemble
from zhichun.score.rank import rank
from zhichun.score.scorer import Scorer, load_scorer
from zhichun.text.pairs import PairTexts

QUERIES = ["red shoes", "black cast iron pan", "lamp", "mesa"] * 6
TITLES = [f"{color} {thing}" for color in ("red", "black") for thing in ("shoes", "iron pan", "desk lamp")] * 4


def write_model(folder, trained):
    (folder / "model").mkdir(parents=True)
    trained.save(folder / "model")


@pytest.fixture(scope="module")
def runs(tiny_run, tmp_path_factory):
    """Two classifiers, two regressors and a substitute model, whose answers differ; nobody trained them."""
    folder = tmp_path_factory.mktemp("runs")
    trained = TrainedModel.load(tiny_run / "model")
    for seed, name in enumerate(("a", "b", "gain-1", "gain-2", "substitute")):
        torch.manual_seed(seed)
        task = TASKS[name.split("-")[0]] if "-" in name or name == "substitute" else TASKS["esci"]
        model = copy.deepcopy(trained.model) if task.name == "esci" else None
        model = model or build_model(trained.settings, trained.featurizer, task).eval()
        with torch.no_grad():
            for key, weight in model.named_parameters():
                if "encoder" not in key:  # so that answers depend on the trigrams of a title
                    weight.copy_(torch.randn_like(weight) * (weight.ndim == 2))
        write_model(folder / name, replace(trained, model=model, task=task))
    return folder


@pytest.fixture
def dataset(tiny_dataset):
    return Dataset.open(tiny_dataset)


def of(runs, *names):
    return [runs / name for name in names]


def pairs():
    return QUERIES, {schema.TITLE: TITLES}, ["us"] * len(QUERIES)


def of_texts(scorer):
    return scorer.predict(scorer.read(PairTexts(*pairs())))


def of_examples(scorer, dataset, rows):
    return scorer.predict(open_pairs(dataset, scorer.featurizer, scorer.max_length), rows)


def predict_held_out(run, dataset, rows):
    """Leave what training leaves: predictions of held-out pairs."""
    said = of_examples(Scorer.load(run), dataset, rows)
    pq.write_table(append_columns(dataset.examples.take(pa.array(rows)), said), run / "predictions.parquet")


@pytest.fixture
def held_out_runs(runs, dataset, tmp_path):
    """Copies of the runs that have all held the pairs of fold 1 out."""
    shutil.copytree(runs, tmp_path / "held")
    rows = np.flatnonzero((dataset.column("fold") == 1) & (dataset.column("split") == "train"))
    for name in ("a", "b", "gain-1"):
        predict_held_out(tmp_path / "held" / name, dataset, rows)
    return tmp_path / "held"


@pytest.mark.parametrize("name", ["a", "gain-1", "substitute"])
def test_an_ensemble_of_one_is_its_member_bit_for_bit(runs, dataset, tmp_path, name):
    config = make_ensemble(of(runs, name), tmp_path / "one")
    members = list(zip(config.members, config.locate(tmp_path / "one"), strict=True))
    one, alone = load_scorer(tmp_path / "one"), Scorer.load(runs / name)
    assert one.task == alone.task
    rows = np.arange(40)
    for made, own in (
        (of_texts(one), of_texts(alone)),
        (
            average([answer.prediction for answer in ask_members(members, dataset, rows)], [1.0]),
            of_examples(alone, dataset, rows),
        ),
        (one.score("lamp", ["desk lamp", {"title": "red shoes"}]), alone.score("lamp", ["desk lamp", "red shoes"])),
    ):
        assert made.score.tobytes() == own.score.tobytes()
        assert (made.probabilities is None) == (own.probabilities is None)
        assert own.probabilities is None or made.probabilities.tobytes() == own.probabilities.tobytes()


def test_members_are_averaged_whatever_their_order(runs, tmp_path):
    names = ("a", "b", "gain-1")
    make_ensemble(of(runs, *names), tmp_path / "one")
    make_ensemble(of(runs, *names[::-1]), tmp_path / "other")
    assert (tmp_path / "one" / "ensemble.json").read_text() == (tmp_path / "other" / "ensemble.json").read_text()
    assert fingerprint_of(tmp_path / "one") == fingerprint_of(tmp_path / "other")
    made = of_texts(load_scorer(tmp_path / "one"))
    first, second, gain = (of_texts(Scorer.load(run)) for run in of(runs, *names))
    assert made.score == pytest.approx(((first.score + second.score) / 2 + gain.score) / 2, abs=1e-6)
    assert made.probabilities == pytest.approx((first.probabilities + second.probabilities) / 2, abs=1e-6)


def test_an_ensemble_ranks_as_a_run_does(runs, tmp_path):
    make_ensemble(of(runs, "a", "gain-1"), tmp_path / "two")
    columns = {name: [None] * 6 for name in schema.PRODUCT_COLUMNS} | {
        schema.PRODUCT_ID: list("uvwxyz"),
        schema.TITLE: TITLES[:6],
        schema.LOCALE: ["us"] * 6,
    }
    catalogue = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    ensemble = load_scorer(tmp_path / "two")
    ranked = rank(ensemble, "red shoes", catalogue)
    expected = ensemble.score("red shoes", TITLES[:6])
    assert [product.score for product in ranked] == sorted(expected.score.tolist(), reverse=True)


def test_evaluation_holds_the_ensemble_against_its_members(runs, tiny_dataset, tmp_path):
    make_ensemble(of(runs, "a", "b", "gain-1"), tmp_path / "three")
    measured = evaluate(tmp_path / "three", tiny_dataset, shown=False)
    assert measured["version"] == "small", "with a regressor in it, it is for task 1"
    assert read_json(tmp_path / "three" / "metrics.json")["ndcg"] == measured["ndcg"]
    found = measured["ensemble"]
    by_name = {member["name"]: member for member in found["members"]}
    for name in ("a", "gain-1"):
        alone = evaluate(runs / name, tiny_dataset, version="small", out=tmp_path / name, shown=False)
        assert by_name[str(runs / name)]["ndcg"] == pytest.approx(alone["ndcg"], abs=1e-12)
    best = max(by_name, key=lambda name: by_name[name]["ndcg"])
    gap = found["against_best"]["ndcg"]
    assert gap["member"] == best
    assert gap["mean"] == pytest.approx(measured["ndcg"] - by_name[best]["ndcg"])


def test_folds_of_one_recipe_weigh_as_one(runs, tmp_path):
    for fold, name in enumerate(("gain-1", "gain-2")):
        shutil.copytree(runs / name, tmp_path / "folds" / f"fold-{fold}")
    shutil.copytree(runs / "a", tmp_path / "a")
    made = make_ensemble([tmp_path / "folds", tmp_path / "a"], tmp_path / "out")
    assert {entry.name: entry.weight for entry in made.members} == {
        f"{tmp_path}/a": 0.5,
        f"{tmp_path}/folds/fold-0": 0.25,
        f"{tmp_path}/folds/fold-1": 0.25,
    }


def test_the_folder_refers_to_models_that_move_with_it_and_copies_them_if_asked(runs, tmp_path):
    shutil.copytree(runs / "a", tmp_path / "here" / "a")
    made = make_ensemble([tmp_path / "here" / "a"], tmp_path / "here" / "out")
    assert made.members[0].path == "../a/model"
    make_ensemble([tmp_path / "here" / "a"], tmp_path / "here" / "whole", copy=True)
    expected = of_texts(load_scorer(tmp_path / "here" / "out")).score
    (tmp_path / "here").rename(tmp_path / "there")
    assert (of_texts(load_scorer(tmp_path / "there" / "out")).score == expected).all()
    shutil.rmtree(tmp_path / "there" / "a")
    assert (of_texts(load_scorer(tmp_path / "there" / "whole")).score == expected).all()
    with pytest.raises(UserError, match=r"there/a/model: the member .*here/a is not there"):
        load_scorer(tmp_path / "there" / "out")


def test_a_member_that_was_trained_anew_is_not_taken_for_the_one_that_was_meant(runs, tmp_path):
    shutil.copytree(runs / "a", tmp_path / "a")
    make_ensemble([tmp_path / "a"], tmp_path / "out")
    shutil.copy(runs / "b" / "model" / "model.safetensors", tmp_path / "a" / "model")
    with pytest.raises(UserError, match=r"has changed since .*\n.*zhichun ensemble RUN"):
        load_scorer(tmp_path / "out")


def test_weights_are_fitted_on_what_all_held_out(held_out_runs, tiny_dataset, dataset, tmp_path):
    made = make_ensemble(of(held_out_runs, "a", "b", "gain-1"), tmp_path / "out", weights="fitted", data=tiny_dataset)
    assert sum(entry.weight for entry in made.members) == pytest.approx(1)
    gain = read_json(tmp_path / "out" / "ensemble.json")["gain"]
    assert gain["pairs"] == ((dataset.column("fold") == 1) & (dataset.column("split") == "train")).sum()
    assert set(gain) >= {"members", "equal", "fitted", "fitted_against_equal", "against_best", "left_out"}
    assert load_scorer(tmp_path / "out").task.name in ("esci", "gain")
    again = make_ensemble(
        of(held_out_runs, "gain-1", "b", "a"), tmp_path / "out", weights="fitted", data=tiny_dataset, overwrite=True
    )
    assert again == made


def test_weights_cannot_be_fitted_without_pairs_that_all_held_out(held_out_runs, tiny_dataset, dataset, tmp_path):
    rows = np.flatnonzero((dataset.column("fold") == 2) & (dataset.column("split") == "train"))
    predict_held_out(held_out_runs / "b", dataset, rows)
    with pytest.raises(UserError, match=r"held out 0 queries in common.*\nTrain all with the same") as told:
        make_ensemble(of(held_out_runs, "a", "b"), tmp_path / "out", weights="fitted", data=tiny_dataset)
    assert f"{held_out_runs / 'b'} {len(rows)} pairs" in str(told.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (("a", "substitute"), {}, "of the tasks esci and substitute cannot be averaged.*\nPut together"),
        (("gain-1", "substitute"), {}, "of the tasks gain and substitute cannot"),
        (("a", "a"), {}, "a: is the same model as .*a"),
        (("a", "none"), {}, "none: there is no such folder"),
        (("a", "b"), {"weights": "fitted"}, "fitted weights need judgements.\n.*--data"),
        (("a",), {"weights": "fitted", "data": "data"}, "nothing to weigh"),
    ],
)
def test_what_cannot_be_put_together_is_refused(runs, tmp_path, names, options, message):
    with pytest.raises(UserError, match=message):
        make_ensemble(of(runs, *names), tmp_path / "out", **options)
    assert not any(tmp_path.iterdir())


def test_what_is_there_is_not_replaced_unasked(runs, tmp_path):
    make_ensemble(of(runs, "a"), tmp_path / "out")
    with pytest.raises(UserError, match=r"the folder exists\.\n.*--overwrite"):
        make_ensemble(of(runs, "b"), tmp_path / "out")
    make_ensemble(of(runs, "b"), tmp_path / "out", overwrite=True)
    with pytest.raises(UserError, match="the folder holds something else"):
        make_ensemble(of(runs, "b"), runs / "a", overwrite=True)
    with pytest.raises(UserError, match=r"is an ensemble itself.\nName its members"):
        make_ensemble([tmp_path / "out"], tmp_path / "other")
    with pytest.raises(UserError, match=r"one run is needed here.\nName one of its members"):
        Scorer.load(tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 1}, "of format 1, .*this version reads 2"),
        ({"members": [{"name": "a"}]}, "is not as it was written"),
        ({"members": []}, "do not go together"),
    ],
)
def test_a_damaged_folder_is_refused(runs, tmp_path, change, message):
    make_ensemble(of(runs, "a"), tmp_path / "out")
    path = tmp_path / "out" / "ensemble.json"
    write_json(path, read_json(path) | change)
    with pytest.raises(UserError, match=f"{message}.*\nMake the ensemble again"):
        load_scorer(tmp_path / "out")


def test_progress_counts_whole_pairs():
    told = []
    shared = whole_pairs(told.append, 3)
    for done in (4, 4, 4):
        shared(done)
    assert told == [1, 1, 2]


def test_a_folder_of_all_folds_is_no_run_and_is_told_what_to_do(runs, tmp_path):
    shutil.copytree(runs / "a", tmp_path / "folds" / "fold-0")
    with pytest.raises(UserError, match=r"holds the runs of all folds.*\n.*fold-0, .*zhichun ensemble \S+folds --out"):
        model_folder(tmp_path / "folds")
