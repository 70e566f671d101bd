"""The whole way on the real extract of the Shopping Queries Dataset, where `ESCI_DATA` names it."""

import json
import math

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from zhichun.core import schema
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import train_unigram
from zhichun.metrics import Judged, nDCG
from zhichun.text.tokenizer import PairTokenizer

pytestmark = pytest.mark.esci

PIECES = 4000
# The recipe `tiny`, with less of everything: ten seconds on one core.
SETTINGS = (
    "train.epochs=2",
    "train.learning_rate=2e-3",
    "model.tiny.layers=2",
    "model.tiny.hidden=64",
    f"model.tiny.pieces={PIECES}",
    "model.max_length=32",
)


@pytest.fixture(scope="module")
def trained(esci_data, tmp_path_factory, succeed):
    """A folder with the dataset, and a run that was trained on it and measured."""
    folder = tmp_path_factory.mktemp("esci")
    succeed("prepare", esci_data, folder / "data")
    # Of all texts a tokenizer takes longer to train than all else here; those of a shop train theirs in other tests.
    tokenizer = folder / "data" / "tokenizers" / f"unigram-{PIECES}"
    tokenizer.mkdir(parents=True)
    batches = Dataset.open(folder / "data").product_batches()
    titles = [title for batch in batches for title in batch.column(schema.TITLE).to_pylist() if title]
    PairTokenizer(train_unigram(titles, PIECES)).save(tokenizer)
    settings = [f"--set={setting}" for setting in SETTINGS]
    succeed("train", "tiny", "--data", folder / "data", "--out", folder / "run", *settings)
    succeed("evaluate", folder / "run", "--data", folder / "data")
    return folder


@pytest.fixture(scope="module")
def measured(trained):
    return json.loads((trained / "run" / "metrics.json").read_text("utf-8"))


def test_every_judged_pair_is_kept(trained, esci_data):
    raw = pq.read_table(esci_data / schema.OFFICIAL_EXAMPLES_FILE)
    kept = pq.read_table(trained / "data" / schema.EXAMPLES_FILE)
    assert kept.num_rows == raw.num_rows
    assert pq.read_metadata(trained / "data" / "rejected.parquet").num_rows == 0
    for name in (schema.LABEL, schema.LOCALE, schema.SPLIT):
        assert pc.value_counts(kept[name]).to_pylist() == pc.value_counts(raw[name]).to_pylist()


def test_the_figures_make_sense(measured, esci_data):
    in_test = pc.equal(pq.read_table(esci_data / schema.OFFICIAL_EXAMPLES_FILE)[schema.SPLIT], "test")
    assert measured["pairs"] == pc.sum(in_test).as_py() == sum(map(sum, measured["confusion"]))
    assert set(measured["by_locale"]) == set(schema.LOCALES)
    for figures in (measured, *measured["by_locale"].values()):
        shares = [figures[name] for name in figures if name.startswith(("mi", "ma", "f1", "ndcg", "mrr", "prec"))]
        assert len(shares) > 10
        assert all(0 <= share <= 1 for share in shares)
        assert 0 < figures["ndcg"] <= 1
    assert sum(figures["pairs"] for figures in measured["by_locale"].values()) == measured["pairs"]


def test_something_was_learnt(measured):
    """More than by guessing: the answer is right more often, and its probabilities say more than four equal ones."""
    assert measured["micro_f1"] > 0.4
    assert measured["macro_f1"] > measured["always_exact"]["macro_f1"]
    assert measured["log_loss"] < math.log(4) - 0.15
    assert measured["ndcg"] > measured["random_order"]["ndcg"] - 0.02  # few queries have more than one product


def test_a_scored_file_has_the_rows_and_the_scores_of_the_evaluation(trained, esci_data, tmp_path, succeed):
    scored = pq.read_table(trained / "run" / "scored.parquet")
    given = scored.select([schema.EXAMPLE_ID, schema.QUERY, schema.PRODUCT_ID, schema.LOCALE])
    pq.write_table(given, tmp_path / "pairs.parquet")
    out = tmp_path / "out.parquet"
    said = succeed("score", trained / "run", tmp_path / "pairs.parquet", out, "--products", esci_data)
    assert said == f"{out}: {given.num_rows} pairs scored by torch\n"
    found = pq.read_table(out)
    assert found.select(given.column_names).equals(given)
    for name in ("p_E", "p_S", "p_C", "p_I", "gain"):
        assert np.abs(found[name].to_numpy() - scored[name].to_numpy()).max() < 1e-5
    assert found["label"].to_pylist() == scored["label"].to_pylist()


@pytest.mark.parametrize("locale", schema.LOCALES)
def test_real_products_are_ranked(trained, locale, succeed):
    scored = pq.read_table(trained / "run" / "scored.parquet")
    query = scored.filter(pc.equal(scored[schema.LOCALE], locale))[schema.QUERY][0].as_py()
    said = succeed("rank", trained / "run", query, "--products", trained / "data", "--locale", locale, "--top", "2")
    assert f"({locale}, " in said
    assert said.count("│ 0.") >= 10


def test_task_1_is_the_small_version_where_a_random_order_is_far_lower(trained):
    dataset = Dataset.open(trained / "data")
    query_ids = dataset.column(schema.QUERY_ID)
    test = np.flatnonzero(dataset.column(schema.SPLIT) == schema.TEST)
    random = {}
    for version in ("small", "all"):
        rows = dataset.of_version(test, version, ranking=True)[1]
        judged = Judged(query_ids[rows], dataset.labels[rows]).in_random_order()
        random[version] = (len(judged.queries), nDCG()(judged))
    assert dataset.of_version(test, None, ranking=True)[0] == "small"
    assert random["small"] == (36, pytest.approx(0.712, abs=5e-4))
    assert random["all"][1] == pytest.approx(0.846, abs=5e-4)
