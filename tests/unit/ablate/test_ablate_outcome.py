"""What several seeds of a row say together: worked out by hand on made-up predictions."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhichun.ablate.outcome import Outcome, difference, estimate

QUERY_IDS = [7, 7, 9, 9]
LABELS = ["E", "I", "E", "S"]


def outcome(folder, seed, predicted, *, order=(0, 1, 2, 3), **figures):
    """A finished run that predicted these labels of the four pairs, a probability of 0.7 for each."""
    folder.mkdir(parents=True)
    columns = {
        "example_id": [10, 11, 12, 13],
        "query_id": QUERY_IDS,
        "esci_label": LABELS,
        **{f"p_{label}": [0.7 if label == said else 0.1 for said in predicted] for label in "ESCI"},
        "gain": [{"E": 0.7, "S": 0.2, "C": 0.15, "I": 0.1}[said] for said in predicted],
    }
    pq.write_table(pa.table(columns).take(pa.array(order)), folder / "scored.parquet")
    of_run = {"seed": seed, "task": "esci", "figures": figures, "floor": {}, "seconds": 1.0}
    (folder / "outcome.json").write_text(json.dumps({**of_run, "seconds_before": None}))
    return Outcome.read(folder)


@pytest.fixture
def ours(tmp_path):
    # Right: of query 7 both and one, of query 9 both and both.
    return [outcome(tmp_path / "a0", 0, "EIES"), outcome(tmp_path / "a1", 1, "ECES", order=(3, 0, 2, 1))]


@pytest.fixture
def theirs(tmp_path):
    # Right: of query 7 both and both, of query 9 none and one.
    return [outcome(tmp_path / "b0", 0, "EICC"), outcome(tmp_path / "b1", 1, "EICS")]


def test_micro_f1_is_the_share_of_right_pairs_over_the_seeds(ours):
    found = estimate(ours, "micro_f1")
    assert found.mean == pytest.approx(7 / 8)
    # Of two queries a draw is twice the one, twice the other, or both; more than 2.5 % of the draws are each.
    assert (found.low, found.high) == pytest.approx((3 / 4, 1))
    assert found.p is None


def test_the_difference_draws_whole_queries_of_pairs_averaged_over_seeds(ours, theirs):
    found = difference(ours, theirs, "micro_f1")
    # Query 7: (1 + 1/2)/2 − 1 = −1/4 a pair; query 9: 1 − (0 + 1/2)/2 = 3/4 a pair.
    assert found.mean == pytest.approx(1 / 4)
    assert (found.low, found.high) == pytest.approx((-1 / 4, 3 / 4))
    assert found.over == "queries"
    # |d* − d| ≥ 1/4 for the two draws of one query twice, which are one half of all.
    assert found.p == pytest.approx(0.5, abs=0.02)


def test_ndcg_is_compared_query_by_query(ours, theirs):
    assert estimate(ours, "ndcg").mean == pytest.approx(1)  # the E comes first in each query and with each seed
    # Of query 9, E and S are tied with seed 0, and S comes first with seed 1; the best order gains 1 + 0.1 d.
    d = 1 / np.log2(3)
    best, tied, swapped = 1 + 0.1 * d, 1.1 * (1 + d) / 2, 0.1 + d
    lost = 1 - (tied + swapped) / 2 / best
    found = difference(ours, theirs, "ndcg")
    assert found.mean == pytest.approx(lost / 2)
    assert (found.low, found.high) == pytest.approx((0, lost))


def test_only_seeds_that_both_rows_have_are_compared(ours, theirs):
    assert difference(ours, theirs[:1], "micro_f1") == difference(ours[:1], theirs[:1], "micro_f1")
    assert difference(ours, theirs[:1], "micro_f1").mean == pytest.approx(1 / 2)


def test_what_no_query_has_is_compared_seed_by_seed(tmp_path):
    ours = [outcome(tmp_path / f"a{seed}", seed, "EIES", mlm_loss=loss) for seed, loss in enumerate((2.0, 2.2, 2.4))]
    theirs = [outcome(tmp_path / f"b{seed}", seed, "EIES", mlm_loss=loss) for seed, loss in enumerate((1.9, 2.2, 2.2))]
    found = difference(ours, theirs, "mlm_loss")
    # Differences 0.1, 0, 0.2: mean 0.1, deviation 0.1; t of 2 degrees of freedom is 4.303.
    assert found.mean == pytest.approx(0.1)
    assert found.high - found.mean == pytest.approx(4.303 * 0.1 / 3**0.5)
    assert found.over == "seeds"
    assert estimate(ours[:1], "mlm_loss").low is None
    # The reversed order of the seeds pairs the same runs.
    assert difference(ours, theirs[::-1], "mlm_loss").mean == pytest.approx(0.1)


def test_a_run_without_an_outcome_is_not_finished(tmp_path):
    assert Outcome.read(tmp_path) is None
