"""An index of a stack: the scores that it gives without one, and a product is read once and never again."""

import shutil

import numpy as np
import pyarrow as pa
import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from zhichun.cli import app
from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.fit.stack import stack
from zhichun.measure.evaluate import evaluate
from zhichun.score.export.export_run import export
from zhichun.score.index.build import build_index
from zhichun.score.index.store import IndexConfig, States, shard_folders
from zhichun.score.rank import rank
from zhichun.score.scorer import load_scorer

QUERY = "red running shoes"
# Mean distance of the scores: where a cosine is rounded over a tree's threshold, one product's score makes a step.
WITHIN = {"fp32": 1e-6, "fp16": 1e-3, "int8": 0.01}


@pytest.fixture(scope="module")
def made(tiny_dataset, sentence_encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stack") / "stack"
    stack([], tiny_dataset, folder, similarity=str(sentence_encoder), shown=False)
    return folder


@pytest.fixture(scope="module")
def index(made, products, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors") / "index"
    build_index(made, products, folder, precision="fp32")
    return folder


def ranked(place, index, products):
    scorer = load_scorer(place, products=index)
    return {each.product_id: each.score for each in rank(scorer, QUERY, products)}, scorer


@pytest.mark.parametrize("precision", WITHIN)
def test_it_gives_the_scores_of_the_stack_and_reads_no_product(made, products, precision, tmp_path):
    changes = build_index(made, products, tmp_path / "index", precision=precision)
    assert changes.computed <= changes.products == products.num_rows
    expected, _ = ranked(made, None, products)
    scorer = load_scorer(made, products=tmp_path / "index")
    read = []
    reader = scorer.stage.similarity.reader
    original = reader.singles
    object.__setattr__(reader, "singles", lambda tokens: read.extend(tokens) or original(tokens))
    found = {each.product_id: each.score for each in rank(scorer, QUERY, products)}
    assert np.mean([abs(score - expected[name]) for name, score in found.items()]) < WITHIN[precision]
    assert len(read) == 1, "the query"


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_product_has_one_score_whether_it_is_in_the_index_or_not(made, products, precision, tmp_path):
    for name, some in (("whole", products), ("half", products.slice(0, products.num_rows // 2))):
        build_index(made, some, tmp_path / name, precision=precision)
    whole, _ = ranked(made, tmp_path / "whole", products)
    half, scorer = ranked(made, tmp_path / "half", products)
    assert half == pytest.approx(whole, abs=1e-6)
    assert scorer.stage.similarity.known, "what is not in it was computed"


def test_only_what_changed_is_computed_and_what_was_removed_is_gone(made, products, index, tmp_path):
    folder = tmp_path / "index"
    shutil.copytree(index, folder)
    title = pa.array(["a new lamp", *products.column(schema.TITLE).to_pylist()[1:-1]], pa.large_string())
    place = products.column_names.index(schema.TITLE)
    changed = products.slice(0, products.num_rows - 1)
    changed = changed.set_column(place, schema.TITLE, title.cast(products.schema.field(schema.TITLE).type))
    made_of = build_index(made, changed, folder, precision="fp32")
    assert (made_of.computed, made_of.removed > 0) == (1, True)
    assert ranked(made, folder, changed)[0] == pytest.approx(ranked(made, None, changed)[0], abs=1e-5)


def test_vectors_that_are_removed_while_it_is_open_are_computed_again(made, products, index, tmp_path):
    folder = tmp_path / "index"
    shutil.copytree(index, folder)
    expected, scorer = ranked(made, folder, products)
    for path in shard_folders(folder):
        states = np.load(path / "states.npy", mmap_mode="r+")
        states[:7] = 0
        states.flush()
    assert {each.product_id: each.score for each in rank(scorer, QUERY, products)} == pytest.approx(expected, abs=1e-5)


def test_an_export_of_the_stack_scores_from_the_same_index(made, products, index, tmp_path):
    export(made, ["onnx"], out=tmp_path / "served")
    assert ranked(tmp_path / "served", index, products)[0] == pytest.approx(ranked(made, index, products)[0], abs=1e-4)
    build_index(tmp_path / "served", products, tmp_path / "index", precision="fp32")
    assert IndexConfig.load(tmp_path / "index") == IndexConfig.load(index)
    of_graph, of_torch = (States.open(folder).shards[0].encoded.states_NS for folder in (tmp_path / "index", index))
    assert of_graph == pytest.approx(of_torch, abs=1e-5)


def test_an_index_of_another_encoder_and_a_stack_without_one_are_refused(
    made, products, index, tiny_dataset, sentence_encoder, tmp_path
):
    shutil.copytree(sentence_encoder, tmp_path / "encoder")
    file = tmp_path / "encoder" / "model.safetensors"
    save_file({name: each * 2 for name, each in load_file(file).items()}, file, {"format": "pt"})
    stack([], tiny_dataset, tmp_path / "other", similarity=str(tmp_path / "encoder"), shown=False)
    with pytest.raises(UserError, match="the index is not of the model"):
        load_scorer(tmp_path / "other", products=index)
    with pytest.raises(UserError, match="is an index of another model"):
        build_index(tmp_path / "other", products, index, precision="fp32")
    shutil.copytree(made, tmp_path / "without")
    shutil.rmtree(tmp_path / "without" / "similarity")
    with pytest.raises(UserError, match="reads no similarity") as refused:
        build_index(tmp_path / "without", products, tmp_path / "index")
    assert "--similarity ENCODER" in refused.value.remedy


def test_the_commands_take_it(made, products, index, tiny_dataset, tmp_path):
    measured = evaluate(made, tiny_dataset, out=tmp_path / "plain", shown=False)
    kept = evaluate(made, tiny_dataset, out=tmp_path / "kept", products=index, shown=False)
    assert kept["micro_f1"] == pytest.approx(measured["micro_f1"], abs=1e-2)
    run = CliRunner().invoke
    said = run(app, ["rank", str(made), QUERY, "--products", str(index), "--top", "3"])
    assert said.exit_code == 0, said.output
    again = run(app, ["index", str(made), "--products", str(tiny_dataset), "--out", str(index), "--precision", "fp32"])
    assert "0 computed, 0 removed" in again.output, again.output
    pairs = tmp_path / "pairs.csv"
    pairs.write_text(f"query,product_id\n{QUERY},{products.column(schema.PRODUCT_ID)[0].as_py()}\n")
    scored = run(app, ["score", str(made), str(pairs), str(tmp_path / "scored.csv"), "--products", str(index)])
    assert scored.exit_code == 0, scored.output
