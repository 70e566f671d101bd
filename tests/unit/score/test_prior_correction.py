"""CAN's prior correction: one step by hand, what it is fitted to, and what `evaluate` and `score` do with it."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhichun.cli import main
from zhichun.core.errors import UserError
from zhichun.core.tasks import TASKS
from zhichun.measure.evaluate import evaluate
from zhichun.score.prior_correction import HeldOutPredictions, PriorCorrection, entropy, normalise_once
from zhichun.score.scorer import Scorer

EVEN = np.full(4, 0.25)


def held_out(probabilities_HC, labels_H, query_ids=None, task="esci"):
    ids = np.arange(len(labels_H)) if query_ids is None else np.asarray(query_ids)
    return HeldOutPredictions(TASKS[task], np.asarray(probabilities_HC, float), np.asarray(labels_H), ids, "file")


def test_one_step_by_hand():
    # Columns: 0.5 / (4 + 0.5) = 1/9 and 0.5 / (1 + 0.5) = 1/3. Times the prior: 0.6 / 9 and 0.4 / 3, which is 1 : 2.
    corrected_PC = normalise_once(np.array([[0.5, 0.5]]), np.array([4.0, 1.0]), np.array([0.6, 0.4]))
    assert corrected_PC.tolist() == [pytest.approx([1 / 3, 2 / 3])]


def test_a_pair_whose_classes_never_occur_stays_as_it_is():
    given_PC = np.array([[0.5, 0.5, 0.0]])
    assert np.array_equal(normalise_once(given_PC, np.ones(3), np.array([0.0, 0.0, 1.0])), given_PC)


def test_the_step_is_alternating_normalisation_of_the_stacked_matrix():
    confident_HC = np.random.default_rng(0).dirichlet(np.ones(4), 7)
    uncertain_PC = np.random.default_rng(1).dirichlet(np.ones(4), 3)
    prior_C = np.array([0.6, 0.2, 0.05, 0.15])
    found_PC = normalise_once(uncertain_PC, confident_HC.sum(axis=0), prior_C)
    for pair in range(3):
        stacked = np.vstack([confident_HC, uncertain_PC[pair]])
        columns = stacked @ np.diag(1 / stacked.sum(axis=0)) @ np.diag(prior_C)
        assert np.allclose(found_PC[pair], (np.diag(1 / columns.sum(axis=1)) @ columns)[-1])


def test_entropy_is_a_share_of_the_highest():
    given = np.array([EVEN, [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]])
    assert entropy(given).tolist() == pytest.approx([1.0, 0.0, 0.5])


def test_the_prior_is_that_of_the_labels_and_confident_are_those_below_the_threshold():
    sure, unsure = [0.97, 0.01, 0.01, 0.01], [0.4, 0.3, 0.2, 0.1]
    fitted = PriorCorrection.fit(held_out([sure, sure, unsure, EVEN], [0, 0, 1, 3]), 0.5)
    assert fitted.prior_C.tolist() == [0.5, 0.25, 0.0, 0.25]
    assert fitted.confident_C == pytest.approx([1.94, 0.02, 0.02, 0.02])
    corrected_PC = fitted(np.array([sure, unsure]))
    assert corrected_PC[0].tolist() == sure  # confident pairs stay
    assert corrected_PC[1].tolist() == pytest.approx(
        normalise_once(np.array([unsure]), fitted.confident_C, fitted.prior_C)[0]
    )
    assert corrected_PC[1, 2] == 0  # what was never judged is never answered


def test_two_classes_have_the_prior_of_their_own_targets():
    fitted = PriorCorrection.fit(held_out([[0.9, 0.1]] * 4, [0, 1, 2, 3], task="substitute"), 0.5)
    assert fitted.prior_C.tolist() == [0.75, 0.25]


def test_a_correction_is_measured_on_queries_that_it_was_not_made_of():
    """Each half has the prior of the other: of its own, the uncertain pairs would all be right."""
    sure = [0.97, 0.01, 0.01, 0.01]
    pairs = held_out([sure, EVEN, sure, EVEN], [0, 1, 0, 2], query_ids=[7, 7, 9, 9])
    corrected_HC = pairs.corrected(0.5)
    assert corrected_HC[1, 1] == corrected_HC[3, 2] == 0
    assert corrected_HC[1, 2] > 0.25
    assert corrected_HC[3, 1] > 0.25
    assert corrected_HC[0].tolist() == corrected_HC[2].tolist() == sure
    assert held_out([sure, EVEN], [0, 1], query_ids=[7, 7]).corrected(0.5) is None
    assert held_out([sure, EVEN], [0, 1], query_ids=[7, 9]).corrected(0.5) is None


@pytest.mark.parametrize("threshold", [-0.1, 1.0, float("nan")])
def test_a_threshold_that_cannot_be_is_refused(threshold):
    with pytest.raises(UserError, match=r"from 0 to below 1, such as 0\.9"):
        PriorCorrection.fit(held_out([EVEN], [0]), threshold)


def test_a_threshold_below_which_nothing_is_confident_is_refused():
    with pytest.raises(UserError, match=r"none has an entropy of at most 0\.9 of the highest"):
        PriorCorrection.fit(held_out([EVEN, EVEN], [0, 1]), 0.9)


def test_a_run_without_predictions_and_a_regressor_are_refused(tiny_run, tmp_path):
    with pytest.raises(UserError, match=r"predictions\.parquet: there is no such file\.\n.*held out"):
        HeldOutPredictions.of_run(tmp_path, TASKS["esci"])
    with pytest.raises(UserError, match="a regressor has no classes"):
        HeldOutPredictions.of_run(tiny_run, TASKS["gain"])


@pytest.fixture(scope="module")
def unsure_run(tiny_run, tmp_path_factory):
    """A copy of the tiny run with held-out predictions such that its own, which are all unsure, are corrected."""
    run = shutil.copytree(tiny_run, tmp_path_factory.mktemp("unsure") / "run")
    table = pq.read_table(run / "predictions.parquet")
    said_HC = np.full((table.num_rows, 4), 0.02)
    said_HC[np.arange(table.num_rows), np.arange(table.num_rows) % 4] = 0.94
    for place, name in enumerate(("p_E", "p_S", "p_C", "p_I")):
        table = table.set_column(table.column_names.index(name), name, pa.array(said_HC[:, place].astype(np.float32)))
    pq.write_table(table, run / "predictions.parquet")
    return run


def test_evaluate_records_the_correction_and_what_it_does(unsure_run, tiny_dataset, tmp_path):
    plain = evaluate(unsure_run, tiny_dataset, out=tmp_path / "plain", shown=False)
    measured = evaluate(unsure_run, tiny_dataset, out=tmp_path / "out", prior_correction=0.4, shown=False)
    recorded = measured["prior_correction"]
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == measured
    assert (recorded["threshold"], sum(recorded["prior"].values())) == (0.4, pytest.approx(1))
    assert recorded["test"]["changed"] > 0
    for name in ("micro_f1", "macro_f1", "ndcg", "log_loss"):
        assert recorded["test"]["before"][name] == plain[name]
        assert recorded["test"]["after"][name] == measured[name]
    assert measured["log_loss"] != plain["log_loss"]
    assert recorded["held_out"]["pairs"] == pq.read_table(unsure_run / "predictions.parquet").num_rows
    assert recorded["held_out"]["changed"] == 0  # all of these are sure
    assert "prior_correction" not in plain
    scored = [pq.read_table(tmp_path / name / "scored.parquet") for name in ("plain", "out")]
    assert scored[0].column("p_E") != scored[1].column("p_E")


def test_a_corrected_score_depends_on_its_own_pair_alone(unsure_run):
    scorer = Scorer.load(unsure_run).with_prior_correction(unsure_run, 0.4)
    titles = ["red running shoes", "usb cable", "leather bag"]
    together = scorer.score("red shoes", titles)
    assert not np.allclose(together.probabilities, Scorer.load(unsure_run).score("red shoes", titles).probabilities)
    assert np.allclose(together.probabilities.sum(axis=1), 1)
    alone = np.concatenate([scorer.score("red shoes", [title]).probabilities for title in titles])
    assert np.allclose(together.probabilities, alone, atol=1e-6)


def test_the_command_line_scores_and_measures_with_it(unsure_run, tiny_dataset, tmp_path, capsys):
    (tmp_path / "pairs.csv").write_text("query,title\nred shoes,red running shoes\n")
    for option, name in (([], "plain.parquet"), (["--prior-correction", "0.4"], "corrected.parquet")):
        main_or_none(["score", str(unsure_run), str(tmp_path / "pairs.csv"), str(tmp_path / name), *option])
    found = [pq.read_table(tmp_path / name).column("p_E")[0].as_py() for name in ("plain.parquet", "corrected.parquet")]
    assert found[0] != found[1]
    capsys.readouterr()
    options = ["--data", str(tiny_dataset), "--out", str(tmp_path / "out"), "--prior-correction", "0.4"]
    main_or_none(["evaluate", str(unsure_run), *options])
    said = capsys.readouterr().out
    assert "prior correction: before → after" in said
    assert "held out" in said


def main_or_none(arguments):
    with pytest.raises(SystemExit) as ending:
        main(arguments)
    assert ending.value.code == 0
