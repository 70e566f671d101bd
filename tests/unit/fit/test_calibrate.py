"""Calibration: found where it is known, kept with the model and in every score; labels that keep a promise."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhichun.cli import main
from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.tasks import CALIBRATION_FILE, TASKS, Calibration, are_given
from zhichun.fit.calibrate import best_temperature, calibrate, cross_fitted, rising_curve, thresholds
from zhichun.score.ensemble import average
from zhichun.score.export.export_run import export
from zhichun.score.scorer import Scorer

PRODUCTS = [{"title": "red running shoe", "brand": "Aria"}, {"title": "blue desk lamp"}]


def drawn(pairs, temperature, seed=0):
    """Labels drawn from probabilities, and logits that are too sure by a factor."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(pairs, 4)) * 1.5
    chances = np.cumsum(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), axis=1)
    return logits * temperature, (rng.random((pairs, 1)) > chances[:, :-1]).sum(axis=1)


@pytest.fixture
def too_sure(tiny_run, tmp_path):
    """A copy of a run whose held-out predictions are too sure by a factor of 3, of 200 queries."""
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    logits, labels = drawn(2000, 3.0)
    probabilities = TASKS["esci"].predict(logits.astype(np.float32)).probabilities
    columns = {f"p_{name}": probabilities[:, place] for place, name in enumerate(schema.LABELS)}
    columns |= {schema.LABEL: [schema.LABELS[code] for code in labels], schema.QUERY_ID: np.repeat(np.arange(200), 10)}
    columns |= {schema.LOCALE: np.repeat(["us", "es"], 1000)}
    pq.write_table(pa.table(columns), run / "predictions.parquet")
    return run


def test_a_temperature_is_found_again():
    assert best_temperature(*drawn(20_000, 2.5)) == pytest.approx(2.5, rel=0.05)
    assert best_temperature(*drawn(20_000, 0.5)) == pytest.approx(0.5, rel=0.05)


def test_every_score_has_it_in_files_of_training_and_in_the_model(too_sure):
    before = Scorer.load(too_sure).score("red shoe", PRODUCTS)
    said = pq.read_table(too_sure / "predictions.parquet")
    found = calibrate(too_sure)
    after = Scorer.load(too_sure)
    logits = np.log(before.probabilities)
    np.testing.assert_allclose(
        after.score("red shoe", PRODUCTS).probabilities, after.task.predict(logits).probabilities, atol=1e-5
    )
    table = pq.read_table(too_sure / "predictions.parquet")
    columns = [np.stack([of[f"p_{name}"].to_numpy() for name in schema.LABELS], axis=1) for of in (said, table)]
    np.testing.assert_allclose(columns[1], after.task.predict(np.log(columns[0])).probabilities, atol=1e-5)
    assert calibrate(too_sure) == found  # it is of the predictions as they were trained
    assert pq.read_table(too_sure / "predictions.parquet") == table


def test_a_temperature_changes_no_label_and_is_found_in_a_run(too_sure):
    table = pq.read_table(too_sure / "predictions.parquet")
    pq.write_table(table.slice(0, 900), too_sure / "predictions.parquet")  # too few for curves
    before = Scorer.load(too_sure).score("red shoe", PRODUCTS)
    found = calibrate(too_sure)
    after = Scorer.load(too_sure).score("red shoe", PRODUCTS)
    assert found["kind"] == "temperature"
    assert found["temperature"] == pytest.approx(3, rel=0.15)
    expected = before.probabilities ** (1 / found["temperature"])
    np.testing.assert_allclose(after.probabilities, expected / expected.sum(axis=1, keepdims=True), atol=1e-5)
    assert after.labels == before.labels


def test_the_figures_are_those_of_pairs_that_it_was_not_fitted_to_and_the_error_falls(too_sure):
    figures = calibrate(too_sure)["figures"]
    assert set(figures) == {"all", "us", "es"}
    before, after = (figures["all"][when]["ece"] for when in ("before", "after"))
    assert after["value"] < 0.03 < before["value"] / 2
    assert after["low"] <= after["value"] <= after["high"]


def test_an_export_keeps_it(too_sure, traced, tmp_path):
    calibrate(too_sure, precision=0.6)
    scorers = Scorer.load(too_sure), Scorer.load(export(too_sure, ["onnx"], out=tmp_path / "export", shown=False))
    run, exported = (scorer.score("red shoe", PRODUCTS) for scorer in scorers)
    np.testing.assert_allclose(exported.probabilities, run.probabilities, atol=1e-5)
    assert scorers[0].task.calibration == scorers[1].task.calibration
    assert scorers[1].task == TASKS["esci"]  # models of one task go together, however they are calibrated


def test_a_damaged_calibration_is_refused(too_sure):
    path = too_sure / "model" / CALIBRATION_FILE
    for text, message in (
        ('{"temperature": "high", "format": 1}', "not of type float"),
        ("{", "cannot be read"),
        ('{"temperature": 2.0}', "format is missing"),
        ('{"temperature": 0.0, "format": 1}', "must be above 0"),
        ('{"curves": [[[0.5], [0.5, 0.6]]], "format": 1}', "equally long"),
        ('{"curves": [[[0.1, 0.5], [0.6, 0.5]]], "format": 1}', "falls"),
        ('{"curves": [[[0.5], [0.5]]], "format": 1}', "not of the task"),
        ('{"least": {"X": 0.5}, "format": 1}', "not of the task"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            Scorer.load(too_sure)


def test_a_curve_rises_and_finds_what_is_true():
    rng = np.random.default_rng(0)
    said = rng.random(20_000)
    xs, ys = rising_curve(said, rng.random(20_000) < said**2)
    assert np.diff(xs).min() >= 0
    assert np.diff(ys).min() > 0  # no two scores become one
    np.testing.assert_allclose(np.interp([0.2, 0.5, 0.8], xs, ys), [0.04, 0.25, 0.64], atol=0.03)
    assert rising_curve(said[:10], np.zeros(10, bool))[1][0] > 0


def test_curves_are_kept_where_a_temperature_is_not_enough():
    logits, labels = drawn(4000, 1.0)
    bent = np.where(np.arange(4) == 3, 2.0, 0.5) + logits  # two of four classes are said too often
    bent[:, 0] *= 3
    queries = np.repeat(np.arange(400), 10)
    kind, probabilities, _ = cross_fitted(bent, labels, queries)
    assert kind == "curves"
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert cross_fitted(bent[:900], labels[:900], queries[:900])[0] == "temperature"


def test_labels_keep_their_promise_on_other_queries_whose_pairs_err_together():
    kept = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        # Whether a query is understood decides for all of its ten pairs together, nearly.
        understood = np.repeat(rng.normal(size=(2, 300)), 10, axis=1) * 1.5
        sure = 1 / (1 + np.exp(-(1.5 + understood + rng.normal(size=(2, 3000)) * 0.5)))
        shown = np.stack([sure, 1 - sure], axis=-1)
        chance = np.repeat(rng.random((2, 300)), 10, axis=1)  # one draw a query
        right = (chance < sure) == (sure > 0.5)
        labels = np.where(right, sure < 0.5, sure > 0.5).astype(int)
        least = thresholds(shown[0], labels[0], np.repeat(np.arange(300), 10), 0.9)
        given = are_given(shown[1], least) & (sure[1] > 0.5)
        if given.any():
            kept.append(right[1][given].mean())
    assert len(kept) > 10
    assert np.mean([share >= 0.87 for share in kept]) >= 0.9  # that of 300 other queries is drawn too


def test_a_label_that_keeps_no_promise_is_never_given_and_one_that_always_does_always():
    sure = np.full((400, 2), [0.95, 0.05])
    queries = np.arange(400)
    assert thresholds(sure, np.zeros(400, int), queries, 0.9) == [0.95, None]
    assert thresholds(sure, np.repeat([0, 1], 200), queries, 0.9) == [None, None]
    assert thresholds(sure, np.zeros(400, int), np.zeros(400, int), 0.9) == [None, None]  # one query says little


def test_a_label_below_its_threshold_is_not_given():
    task = TASKS["esci"].__class__("esci", schema.LABELS, Calibration(least={"E": 0.9, "I": None}))
    logits = np.log(
        [[0.95, 0.03, 0.01, 0.01], [0.8, 0.1, 0.05, 0.05], [0.1, 0.8, 0.05, 0.05], [0.01, 0.01, 0.01, 0.97]]
    )
    prediction = task.predict(logits.astype(np.float32))
    assert prediction.labels == ["E", None, "S", None]
    # An average has no promise, and says what is likeliest.
    assert average([prediction], [1.0]).labels == ["E", "E", "S", "I"]


def test_one_that_does_not_help_is_not_kept(too_sure):
    calibrate(too_sure)
    assert (too_sure / "model" / CALIBRATION_FILE).is_file()
    table = pq.read_table(too_sure / "predictions.parquet")
    half = np.full(len(table), 0.25)
    for name in (name for name in table.column_names if name.startswith("as_trained_")):
        table = table.set_column(table.column_names.index(name), name, pa.array(half))
    pq.write_table(table, too_sure / "predictions.parquet")
    assert calibrate(too_sure)["kind"] == "none"
    assert not (too_sure / "model" / CALIBRATION_FILE).exists()


def test_too_few_queries_are_refused(too_sure):
    table = pq.read_table(too_sure / "predictions.parquet")
    pq.write_table(table.slice(0, 190), too_sure / "predictions.parquet")
    with pytest.raises(UserError, match=r"held out 19 queries(.|\n)*zhichun train … --set train\.validation_fold=0"):
        calibrate(too_sure)
    recipe = json.loads((too_sure / "recipe.json").read_text())
    recipe["train"]["validation_fold"] = 0  # as that says, and it is of too few
    (too_sure / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(UserError, match=r"held out 19 queries(.|\n)*with fewer --folds"):
        calibrate(too_sure)


def test_the_command_says_what_was_kept_and_which_labels_are_given(too_sure, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["calibrate", str(too_sure), "--precision", "0.6"])
    assert ended.value.code in (0, None)
    shown = capsys.readouterr().out
    assert "temperature 3." in shown or "temperature 2.9" in shown
    assert "promised at 0.6" in shown
    kept = json.loads((too_sure / "model" / CALIBRATION_FILE).read_text())
    assert kept["about"]["pairs"] == 2000
    assert set(kept["least"]) == set(schema.LABELS)
    table = pq.read_table(too_sure / "predictions.parquet")
    given = table["label"].to_pylist()
    right = [label == judged for label, judged in zip(given, table[schema.LABEL].to_pylist(), strict=True) if label]
    assert 0 < len(right) < 2000
    assert np.mean(right) > 0.6
    with pytest.raises(UserError, match="cannot be promised"):
        calibrate(too_sure, precision=1.0)
