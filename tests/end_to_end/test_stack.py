"""`zhichun stack`, and every command that takes the folder in place of a run."""

import json
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from zhichun.core import schema
from zhichun.metrics import Judged, nDCG
from zhichun.score.scorer import load_scorer
from zhichun.serve.batcher import PairColumns, score
from zhichun.text.pairs import PairTexts


@pytest.fixture(scope="module")
def data(home, succeed, tmp_path_factory):
    """The tiny shop in two folds."""
    folder = tmp_path_factory.mktemp("stacks") / "data"
    succeed("prepare", home / "shop", folder, "--folds", 2)
    return folder


@pytest.fixture(scope="module")
def folds(data, shrunk, succeed):
    """The runs of both folds, each without its own."""
    smaller = [*shrunk, "--set=model.tiny.layers=1"]
    succeed("train", "tiny", "--data", data, "--out", data.parent / "folds", "--folds", 2, *smaller)
    return data.parent / "folds"


@pytest.fixture(scope="module")
def stack(folds, data, sentence_encoder, succeed):
    out = folds.parent / "stack"
    said = succeed("stack", folds, "--data", data, "--out", out, "--similarity", sentence_encoder)
    assert said.endswith(f"Next: zhichun evaluate {out} --data {data}\n")
    return out


@pytest.fixture(scope="module")
def evaluated(stack, data, succeed):
    return succeed("evaluate", stack, "--data", data)


def columns(path, *names):
    table = pq.read_table(path)
    return [table.column(name).to_numpy() for name in names]


NAMES = ("p_E", "p_S", "p_C", "p_I", "gain")


def test_it_is_evaluated_beside_its_models_and_the_size_of_lists(evaluated, stack):
    measured = json.loads((stack / "metrics.json").read_text())
    assert [member["weight"] for member in measured["ensemble"]["members"]] == [0.5] * 2
    assert measured["list_size_alone"].keys() >= {"micro_f1", "macro_f1", "ndcg", "log_loss"}
    assert measured["list_size_alone"]["ndcg"] == pytest.approx(measured["random_order"]["ndcg"])
    assert set(measured["by_list"]) <= {"lists", "singletons"}
    assert sum(part["pairs"] for part in measured["by_list"].values()) == measured["pairs"]
    assert "list\n" not in evaluated
    assert "size" in evaluated


def test_it_scores_files_as_it_is_evaluated(evaluated, stack, folds, data, succeed):
    table = pq.read_table(stack / "scored.parquet").select(["query", "product_id", "product_locale"])
    pq.write_table(table, folds.parent / "pairs.parquet")
    out = folds.parent / "out.parquet"
    succeed("score", stack, folds.parent / "pairs.parquet", out, "--products", data, "--overwrite")
    for made, expected in zip(columns(out, *NAMES), columns(stack / "scored.parquet", *NAMES), strict=True):
        assert np.abs(made - expected).max() < 1e-5


def test_it_ranks_a_catalogue(stack, data, succeed):
    assert "red shoes (us, " in succeed("rank", stack, "red shoes", "--products", data, "--top", 3)


def test_a_permutation_of_a_list_changes_nothing_and_the_list_changes_the_answer(stack):
    scorer, products = load_scorer(stack), [f"red {name}" for name in ("shoes", "lamp", "boots", "table", "shoes")]
    expected = scorer.score("red shoes", products)
    order = np.random.default_rng(0).permutation(5)
    shuffled = scorer.score("red shoes", [products[place] for place in order])
    assert np.abs(shuffled.score - expected.score[order]).max() < 1e-6
    assert expected.score[0] == expected.score[4], "twice the same product"
    assert (scorer.score("red shoes", products[1:3]).score != expected.score[1:3]).any()


def test_requests_that_are_scored_together_are_lists_of_their_own(stack):
    scorer = load_scorer(stack)
    titles = {"red shoes": ["red shoes", "lamp", "red boots"], "lamp": ["lamp", "red shoes", "table"]}
    requests = [
        PairColumns([query] * 3, {**dict.fromkeys(schema.TEXT_COLUMNS, [None] * 3), schema.TITLE: given}, ["us"] * 3)
        for query, given in titles.items()
    ]
    together = [(request.in_lists(), place) for place in (2, 0, 1) for request in requests]
    figures = score(scorer, PairColumns.of(together))
    for number, (query, given) in enumerate(titles.items()):
        expected = scorer.score(query, given).score
        assert figures[number::2, 0] == pytest.approx(expected[[2, 0, 1]], abs=1e-6)


def test_an_export_answers_alike_without_torch(stack, folds, succeed):
    out = folds.parent / "exported"
    said = succeed("export", stack, "--to", "onnx", "--out", out)
    assert "a stack with its exported models" in said
    shutil.move(stack.parent / "folds", stack.parent / "gone")
    try:
        code = (
            "import sys; from zhichun.score.scorer import load_scorer;"
            f"print(*load_scorer({str(out)!r}).score('red shoes', ['red shoes', 'blue lamp']).score);"
            "assert not {'torch', 'transformers'} & sys.modules.keys()"
        )
        alone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    finally:
        shutil.move(stack.parent / "gone", stack.parent / "folds")
    expected = load_scorer(stack).score("red shoes", ["red shoes", "blue lamp"]).score
    assert [float(score) for score in alone.split()] == pytest.approx(expected.tolist(), abs=1e-3)


def test_without_runs_the_trees_read_texts_and_similarity_alone(data, sentence_encoder, succeed):
    out, served = data.parent / "trees", data.parent / "served"
    succeed("stack", "--data", data, "--out", out, "--similarity", sentence_encoder)
    succeed("evaluate", out, "--data", data)
    measured = json.loads((out / "metrics.json").read_text())
    assert measured["micro_f1"] > measured["list_size_alone"]["micro_f1"]
    assert "red shoes (us, " in succeed("rank", out, "red shoes", "--products", data, "--top", 3)
    succeed("export", out, "--to", "onnx", "--out", served)
    products = ["red shoes", "blue lamp", "red lamp"]
    expected, found = (load_scorer(place).score("red shoes", products) for place in (out, served))
    assert found.score == pytest.approx(expected.score, abs=1e-4)
    assert load_scorer(out).score("red shoes", products[::-1]).score[::-1] == pytest.approx(expected.score, abs=1e-6)
    assert load_scorer(out).engine_name == "trees"


def test_a_model_beside_the_trees_is_averaged_with_them(folds, data, sentence_encoder, succeed):
    trees, run, both, served = (folds.parent / name for name in ("trees", "folds/fold-1", "both", "both-served"))
    how = ["--data", data, "--similarity", sentence_encoder, "--overwrite"]
    succeed("stack", *how, "--out", trees)
    succeed("stack", *how, "--out", both, "--beside", run, "--share", 0.25)
    succeed("export", both, "--to", "onnx", "--out", served)
    products = ["red shoes", "blue lamp", "red lamp"]
    of_trees, of_run, of_both, exported = (
        load_scorer(place).score("red shoes", products) for place in (trees, run, both, served)
    )
    for name in ("score", "probabilities"):
        expected = 0.75 * getattr(of_trees, name) + 0.25 * getattr(of_run, name)
        assert np.abs(getattr(of_both, name) - expected).max() < 1e-6
        assert np.abs(getattr(exported, name) - expected).max() < 1e-3
    succeed("evaluate", both, "--data", data)
    measured = json.loads((both / "metrics.json").read_text())
    assert [member["weight"] for member in measured["ensemble"]["members"]] == [0.25]
    assert "whose share is 0.25" in (both / "report.html").read_text()


@pytest.mark.parametrize("size", [10, 100])
def test_lists_that_are_cut_or_filled_rank_no_worse_than_the_models_alone(stack, data, size):
    """The judged pairs of a list beside fewer, and beside products of the catalogue that nobody judged for it."""
    scorer, random, gaps = load_scorer(stack), np.random.default_rng(0), []
    products = pq.read_table(data / "products.parquet").to_pylist()
    texts = {(row["product_locale"], row["product_id"]): row for row in products}
    pairs = pq.read_table(data / "examples.parquet", filters=[("split", "=", "test")]).to_pylist()
    for query_id in sorted({pair["query_id"] for pair in pairs}):
        judged = [pair for pair in pairs if pair["query_id"] == query_id]
        query, locale = judged[0]["query"], judged[0]["product_locale"]
        others = [row for row in products if row["product_locale"] == locale]
        kept = [judged[place] for place in random.permutation(len(judged))[:size]]
        rows = [texts[locale, pair["product_id"]] for pair in kept]
        rows += [others[place] for place in random.permutation(len(others))[: size - len(kept)]]
        columns = {name: [row[name] for row in rows] for name in schema.TEXT_COLUMNS}
        read = scorer.read(PairTexts([query] * len(rows), columns, [locale] * len(rows)))
        models = scorer.ask(read.pairs, None, None)
        labels = np.array([schema.LABELS.index(pair["esci_label"]) for pair in kept])
        stacked, alone = (
            scorer.stage.combine(read.candidates, models, 2).score,
            np.mean([made.score for made in models], axis=0),
        )
        values = [
            nDCG()(Judged(np.zeros(len(kept), int), labels, scores=given[: len(kept)].astype(float)))
            for given in (stacked, alone)
        ]
        gaps.append(values[0] - values[1])
    assert np.mean(gaps) > -0.02


@pytest.mark.parametrize("of_all_folds", [True, False])
def test_the_next_step_that_a_pool_names_trains_a_student(
    folds, data, sentence_encoder, of_all_folds, tmp_path, succeed
):
    run = folds / "fold-1" if of_all_folds else shutil.copytree(folds / "fold-1", tmp_path / "run")
    queries, out = tmp_path / "queries.csv", tmp_path / "pool.parquet"
    queries.write_text("query,locale\nred zebra shoes,us\nblue zebra lamp,us\ngreen zebra table,us\n")
    said = succeed("pool", run, "--data", data, "--queries", queries, "--per-query", 2, "--out", out)
    words = shlex.split(said.rpartition("Next: zhichun ")[2].replace("STUDENT", str(tmp_path / "student")))
    small = [f"--set=model.encoder={sentence_encoder}", "--set=model.max_length=32", "--set=train.epochs=1"]
    assert "trained. Next: zhichun evaluate" in succeed(*words, *small)
    assert ("predictions=" in said) == of_all_folds
