"""Soft labels: from the predictions of other runs to targets, and from targets to a run."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.tasks import TASKS, gain_vector
from zhichun.data.dataset import Dataset
from zhichun.fit.recipe import load_recipe
from zhichun.fit.train import train
from zhichun.fit.train_settings import SoftLabels, judged_targets
from zhichun.objective.losses import GHMC, CrossEntropy, Focal, Poly1

ESCI = [f"p_{name}" for name in schema.LABELS]


def predicted(dataset, rows, seed=0, task="esci"):
    """Predictions of some rows of the examples, as a run writes them; and as an array."""
    said_RC = np.random.default_rng(seed).dirichlet(np.ones(4), len(rows))
    table = dataset.examples.take(pa.array(rows))
    for place, name in enumerate(ESCI):
        table = table.append_column(name, pa.array(said_RC[:, place]))
    return table.append_column("gain", pa.array(said_RC @ gain_vector())), said_RC


@pytest.fixture(scope="module")
def dataset(tiny_dataset):
    return Dataset.open(tiny_dataset)


@pytest.fixture(scope="module")
def training(dataset):
    """Rows of the training split."""
    return np.flatnonzero(dataset.column(schema.SPLIT) == schema.TRAIN)


@pytest.fixture
def folds(dataset, training, tmp_path):
    """The runs of five folds, each with predictions of its own fold, and what they say of all."""
    table, said_RC = predicted(dataset, training)
    fold_R = dataset.column(schema.FOLD)[training]
    for fold in range(5):
        (tmp_path / "oof" / f"fold-{fold}").mkdir(parents=True)
        pq.write_table(
            table.filter(pa.array(fold_R == fold)), tmp_path / "oof" / f"fold-{fold}" / "predictions.parquet"
        )
    return tmp_path / "oof", said_RC


def mixed(dataset, rows, *places, task="esci", **options):
    task = TASKS[task]
    soft = SoftLabels(predictions=tuple(map(str, places)), **options)
    return soft.mix(dataset, rows, task, task.targets(dataset.labels[rows]))


def test_the_target_is_the_hard_label_and_a_share_of_the_prediction(dataset, training, folds):
    target_RC = mixed(dataset, training, folds[0])
    assert target_RC.dtype == np.float32
    expected_RC = 0.7 * np.eye(4)[dataset.labels[training]] + 0.3 * folds[1]
    assert np.allclose(target_RC, expected_RC, atol=1e-6)


def test_a_subset_in_another_order_gets_its_own(dataset, training, folds):
    rows = training[::-3]
    assert np.allclose(mixed(dataset, rows, folds[0], share=1.0), folds[1][::-3], atol=1e-6)


def test_temperature_evens_probabilities_out(dataset, training, folds):
    root_RC = np.sqrt(folds[1])
    expected_RC = root_RC / root_RC.sum(axis=1, keepdims=True)
    assert np.allclose(mixed(dataset, training, folds[0], share=1.0, temperature=2.0), expected_RC, atol=1e-6)


def test_of_several_tables_the_mean_counts(dataset, training, folds, tmp_path):
    table, other_RC = predicted(dataset, training, seed=1)
    pq.write_table(table, tmp_path / "other.parquet")
    target_RC = mixed(dataset, training, folds[0], tmp_path / "other.parquet", share=1.0)
    assert np.allclose(target_RC, (folds[1] + other_RC) / 2, atol=1e-6)


def test_a_four_class_model_teaches_the_other_tasks_too(dataset, training, folds):
    is_substitute_R = dataset.labels[training] == 1
    target_RC = mixed(dataset, training, folds[0], task="substitute")
    assert np.allclose(target_RC[:, 1], 0.7 * is_substitute_R + 0.3 * folds[1][:, 1], atol=1e-6)
    assert np.allclose(target_RC.sum(axis=1), 1)
    target_R = mixed(dataset, training, folds[0], task="gain")
    gains = gain_vector()
    assert np.allclose(target_R, 0.7 * gains[dataset.labels[training]] + 0.3 * folds[1] @ gains, atol=1e-6)


@pytest.mark.parametrize("dropped", [[], [schema.EXAMPLE_ID], [schema.EXAMPLE_ID, schema.QUERY_ID]])
def test_pairs_are_known_by_their_id_or_by_query_product_and_locale(dataset, training, tmp_path, dropped):
    table, said_RC = predicted(dataset, training)
    shuffled = np.random.default_rng(0).permutation(len(training))
    pa.csv.write_csv(table.take(pa.array(shuffled)).drop_columns(dropped), tmp_path / "scored.csv")
    assert np.allclose(mixed(dataset, training, tmp_path / "scored.csv", share=1.0), said_RC, atol=1e-6)


def test_made_pairs_keep_their_hard_label_unless_they_are_named(dataset, training, tmp_path):
    origins = np.array([schema.JUDGED] * dataset.examples.num_rows, object)
    origins[training[:10]] = "balanced"
    place = dataset.examples.column_names.index(schema.ORIGIN)
    made = Dataset(dataset.folder, dataset.examples.set_column(place, schema.ORIGIN, pa.array(origins)), {})
    table, said_RC = predicted(dataset, training)
    pq.write_table(table.slice(5), tmp_path / "scored.parquet")
    target_RC = mixed(made, training, tmp_path / "scored.parquet", share=1.0)
    assert np.array_equal(target_RC[:5], np.eye(4)[dataset.labels[training[:5]]])
    assert np.allclose(target_RC[5:], said_RC[5:], atol=1e-6)


def test_a_pair_without_a_prediction_is_named(dataset, training, folds):
    (folds[0] / "fold-2" / "predictions.parquet").unlink()
    missing = training[dataset.column(schema.FOLD)[training] == 2]
    example = dataset.column(schema.EXAMPLE_ID)[missing[0]]
    with pytest.raises(
        UserError,
        match=rf"examples\.parquet, row {missing[0] + 1}: .*fold-0/predictions\.parquet and 3 more: no prediction of "
        rf"the pair with the example_id {example}, nor of {len(missing) - 1} more .*\nGive the runs of all folds",
    ):
        mixed(dataset, training, folds[0])


def edited(dataset, training, change):
    return change(predicted(dataset, training)[0])


def with_column(name, value):
    def change(table):
        values = table.column(name).to_pylist()
        values[3] = value
        return table.set_column(table.column_names.index(name), name, pa.array(values))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["p_C"]), r"has no column 'p_C', which the task 'esci' needs\.\n.*without --prefix"),
        (
            lambda t: t.drop_columns([schema.EXAMPLE_ID, schema.PRODUCT_ID]),
            r"has no column 'example_id' to know the pairs by\.\nIt has: query,",
        ),
        (with_column("p_E", 1.5), r"row 4: p_E, p_S, p_C, p_I = 1\.5, .* cannot be"),
        (with_column("p_E", float("nan")), r"row 4: p_E, p_S, p_C, p_I = nan, .* cannot be"),
        (with_column("p_E", None), r"row 4: p_E, p_S, p_C, p_I = nan, .* cannot be"),
        (with_column(schema.PRODUCT_ID, "X"), r"row 4: the example is of product 'X', and in .*\n.* dataset that is"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_its_row(dataset, training, tmp_path, change, message):
    pq.write_table(change(predicted(dataset, training)[0]), tmp_path / "scored.parquet")
    with pytest.raises(UserError, match=rf"scored\.parquet.*{message}"):
        mixed(dataset, training, tmp_path / "scored.parquet")


def test_a_place_without_predictions_is_refused(dataset, training, tmp_path):
    with pytest.raises(UserError, match=r"nowhere: there is no such file or folder\.\nName a finished run"):
        mixed(dataset, training, tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"holds no predictions\.\n.*fold-\*/predictions\.parquet"):
        mixed(dataset, training, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 0.0}, r"share=0\.0 .*\nSwitch them off with train\.soft_labels=null"),
        ({"share": 1.1}, r"share=1\.1 .*"),
        ({"temperature": 0.0}, r"temperature=0\.0 must be above 0"),
        ({"predictions": ()}, r"names nothing\.\n"),
    ],
)
def test_settings_that_cannot_be_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        SoftLabels(**{"predictions": ("run",), **options})


def test_a_temperature_for_gains_is_refused(tiny_recipe):
    settings = ["task=gain", "objective.loss=SquaredError", "train.metric=ndcg"]
    soft = 'train.soft_labels={"predictions":["run"],"temperature":2}'
    with pytest.raises(UserError, match="temperature has no effect on the task 'gain'"):
        tiny_recipe.with_settings([*settings, soft])


def test_pairs_that_the_predicting_run_was_trained_on_are_counted(dataset, training, tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    pq.write_table(predicted(dataset, training)[0], run / "scored.parquet")
    assert SoftLabels(predictions=(str(run),)).seen(dataset) == {}
    held_out = pq.read_table(run / "predictions.parquet").num_rows
    seen = SoftLabels(predictions=(str(run / "scored.parquet"),)).seen(dataset)
    assert seen == {run / "scored.parquet": len(training) - held_out}


def with_soft_labels(recipe, *places):
    return recipe.with_settings([f"train.soft_labels={json.dumps({'predictions': [str(place) for place in places]})}"])


def test_a_run_on_soft_labels_is_another_and_a_resume_on_changed_ones_is_refused(
    tiny_recipe, tiny_dataset, tiny_run, folds, tmp_path
):
    recipe = with_soft_labels(tiny_recipe, folds[0])
    run = train(recipe, tiny_dataset, tmp_path / "run")
    losses = [[record["loss"] for record in made.records() if "loss" in record] for made in (run, type(run)(tiny_run))]
    assert losses[0] != losses[1]
    inputs = json.loads((run.path / "environment.json").read_text())["inputs"]
    assert [item["file"] for item in inputs] == [str(folds[0] / f"fold-{n}" / "predictions.parquet") for n in range(5)]
    assert train(recipe, tiny_dataset, run.path, resume=True) == run
    shutil.copy(folds[0] / "fold-0" / "predictions.parquet", folds[0] / "fold-1")
    with pytest.raises(
        UserError, match=r"with other soft labels \(.*fold-1/predictions\.parquet\)|with other soft labels"
    ):
        train(recipe, tiny_dataset, run.path, resume=True)


def test_a_run_is_warned_of_predictions_that_are_not_out_of_fold(
    dataset, training, tiny_recipe, tiny_dataset, tiny_run, tmp_path, capsys
):
    teacher = shutil.copytree(tiny_run, tmp_path / "teacher")
    pq.write_table(predicted(dataset, training)[0], teacher / "scored.parquet")
    train(with_soft_labels(tiny_recipe, teacher / "scored.parquet"), tiny_dataset, tmp_path / "run")
    said = " ".join(capsys.readouterr().err.split())
    assert "scored.parquet: the run that made it was trained on" in said


def test_the_packaged_student_names_its_teacher():
    student = load_recipe("distil:student")
    assert student.train.soft_labels is not None
    assert student.model.encoder != load_recipe("kdd2022:task2").model.encoder


def judged_by(dataset, name, values, kind):
    """Give a dataset one more column of what judges said."""
    return Dataset(dataset.folder, dataset.examples.append_column(name, pa.array(values, kind)), dataset.manifest)


@pytest.fixture(scope="module")
def shares(dataset):
    """A dataset with shares of its labels, and these, ``[E, 4]``."""
    shares_EL = np.random.default_rng(3).dirichlet(np.ones(4), dataset.examples.num_rows).astype(np.float32)
    return judged_by(dataset, schema.LABEL_SHARES, list(shares_EL), pa.list_(pa.float32(), 4)), shares_EL


def test_shares_of_judges_are_the_target_of_every_task(shares, training):
    dataset, shares_EL = shares
    rows = training[::-2]
    assert np.array_equal(judged_targets(dataset, rows, TASKS["esci"]), shares_EL[rows])
    substitute_RC = judged_targets(dataset, rows, TASKS["substitute"])
    assert np.allclose(substitute_RC, np.stack([1 - shares_EL[rows, 1], shares_EL[rows, 1]], axis=1))
    assert np.allclose(judged_targets(dataset, rows, TASKS["gain"]), shares_EL[rows] @ [1, 0.1, 0.01, 0])


def test_the_mean_gain_of_judges_is_the_target_of_regressors_alone(dataset, training):
    gains_E = np.linspace(0, 1, dataset.examples.num_rows, dtype=np.float32)
    judged = judged_by(dataset, schema.JUDGED_GAIN, gains_E, pa.float32())
    assert np.array_equal(judged_targets(judged, training, TASKS["gain"]), gains_E[training])
    assert np.array_equal(judged_targets(judged, training, TASKS["esci"]), dataset.labels[training])


def test_predictions_are_mixed_with_the_shares_of_judges(shares, training, folds):
    dataset, shares_EL = shares
    soft = SoftLabels(predictions=(str(folds[0]),), share=0.3)
    hard = judged_targets(dataset, training, TASKS["esci"])
    mixed_RC = soft.mix(dataset, training, TASKS["esci"], hard)
    assert np.allclose(mixed_RC, 0.7 * shares_EL[training] + 0.3 * folds[1], atol=1e-6)


@pytest.mark.parametrize("loss", [CrossEntropy(), Focal(), Poly1(), GHMC(), CrossEntropy(label_smoothing=0.1)])
def test_every_loss_takes_the_shares_of_judges(loss):
    logits_BC = torch.tensor([[2.0, 1.0, -1.0, 0.0]] * 3)
    soft = loss(logits_BC[:1], torch.tensor([[2 / 3, 1 / 3, 0, 0]]))
    assert torch.isfinite(soft).all()
    if not isinstance(loss, GHMC):  # its weights depend on the target; the others are linear in it
        assert torch.allclose(soft, loss(logits_BC, torch.tensor([0, 0, 1])).mean(), atol=1e-6)


def test_a_run_is_trained_towards_the_shares_of_judges(tiny_recipe, tiny_dataset, tiny_run, tmp_path):
    data = shutil.copytree(tiny_dataset, tmp_path / "data")
    examples = pq.read_table(data / schema.EXAMPLES_FILE)
    evenly = pa.array([[0.25] * 4] * examples.num_rows, pa.list_(pa.float32(), 4))
    pq.write_table(examples.append_column(schema.LABEL_SHARES, evenly), data / schema.EXAMPLES_FILE)
    run = train(tiny_recipe, data, tmp_path / "run")
    away = []
    for made in (run.path, tiny_run):
        table = pq.read_table(made / "predictions.parquet")
        away.append(np.abs(np.stack([table.column(name).to_numpy() for name in ESCI]) - 0.25).mean())
    assert away[0] < away[1]
