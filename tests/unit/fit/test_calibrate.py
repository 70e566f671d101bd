"""Temperature: found again where it is known, kept in the model folder, and in every score, also of an export."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhichun.cli import main
from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.tasks import CALIBRATION_FILE, TASKS, Task
from zhichun.fit.calibrate import best_temperature, calibrate
from zhichun.score.export.export_folder import ExportConfig
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


def test_every_score_has_it_and_no_label_changes(too_sure):
    before = Scorer.load(too_sure).score("red shoe", PRODUCTS)
    found = calibrate(too_sure)
    after = Scorer.load(too_sure).score("red shoe", PRODUCTS)
    assert found["temperature"] == pytest.approx(3, rel=0.1)
    expected = before.probabilities ** (1 / found["temperature"])
    np.testing.assert_allclose(after.probabilities, expected / expected.sum(axis=1, keepdims=True), atol=1e-5)
    assert after.labels == before.labels
    assert calibrate(too_sure) == found  # it is of the predictions as they were trained


def test_the_figures_are_those_of_pairs_that_it_was_not_fitted_to_and_the_error_falls(too_sure):
    figures = calibrate(too_sure)["figures"]
    assert set(figures) == {"all", "us", "es"}
    before, after = (figures["all"][when]["ece"] for when in ("before", "after"))
    assert after["value"] < 0.03 < before["value"] / 2
    assert after["low"] <= after["value"] <= after["high"]


def test_an_export_keeps_it():
    config = ExportConfig(
        task="esci", max_length=8, fields=("title",), inputs=(), side_features={}, checks={}, about={}, temperature=2.0
    )
    logits = np.array([[2.0, 0, 0, 0]], np.float32)
    np.testing.assert_array_equal(
        config.task_of.predict(logits).probabilities, TASKS["esci"].predict(logits / 2).probabilities
    )
    assert config.task_of == TASKS["esci"]  # models of one task go together, whatever their temperature


def test_a_damaged_calibration_is_refused(too_sure):
    path = too_sure / "model" / CALIBRATION_FILE
    for text, message in (
        ('{"temperature": "high"}', "another kind"),
        ("{", "cannot be read"),
        ('{"temperature": 0.0}', "cannot be"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            Scorer.load(too_sure)
    with pytest.raises(UserError, match="temperature nan"):
        Task("esci", schema.LABELS, float("nan"))


def test_one_that_does_not_help_is_not_kept(too_sure):
    calibrate(too_sure)
    assert (too_sure / "model" / CALIBRATION_FILE).is_file()
    table = pq.read_table(too_sure / "predictions.parquet")
    half = np.full(len(table), 0.25)
    for name in schema.LABELS:
        place = table.column_names.index(f"p_{name}")
        table = table.set_column(place, f"p_{name}", pa.array(half))
    pq.write_table(table, too_sure / "predictions.parquet")
    assert calibrate(too_sure)["temperature"] == 1
    assert not (too_sure / "model" / CALIBRATION_FILE).exists()


def test_too_few_queries_are_refused(too_sure):
    table = pq.read_table(too_sure / "predictions.parquet")
    pq.write_table(table.slice(0, 190), too_sure / "predictions.parquet")
    with pytest.raises(UserError, match="held out 19 queries"):
        calibrate(too_sure)


def test_the_command_says_what_was_kept(too_sure, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["calibrate", str(too_sure)])
    assert ended.value.code in (0, None)
    assert "kept in the model folder" in capsys.readouterr().out
    assert json.loads((too_sure / "model" / CALIBRATION_FILE).read_text())["pairs"] == 2000
