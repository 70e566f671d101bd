"""A model that reads query and product apart: the same scores from an index and without one, by every engine."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.data.prepare.clean_catalogue import read_catalogue
from zhichun.fit.train import train
from zhichun.score.export.export_run import export
from zhichun.score.index.build import build_index
from zhichun.score.index.scorer import IndexScorer
from zhichun.score.scorer import Scorer, load_scorer
from zhichun.text.pairs import PairTexts

FORMS = {
    "whole states": "",
    "small states, both updated": ', "state": 16, "updates": "both"',
}
ENGINES = ("onnx", "openvino")
ONE = pytest.mark.parametrize("made", ["whole states"], indirect=True)
QUERIES = ["red shoes", "usb cable for a phone with a very long query that is cut somewhere here", "x"]


@pytest.fixture(scope="module", params=FORMS)
def made(request, tiny_recipe, tiny_dataset, once):
    """A run, its export, and indexes of half of the catalogue by torch and by each of the export's engines."""
    return once(f"split, {request.param}", partial(make, FORMS[request.param], tiny_recipe, tiny_dataset))


def make(more, tiny_recipe, tiny_dataset, folder):
    form = f'{{"kind": "Split", "product_layers": 1, "query_tokens": 12{more}}}'
    settings = [f"model.interaction={form}", "train.epochs=3", "train.learning_rate=0.01", "model.max_length=40"]
    run = train(tiny_recipe.with_settings(settings), tiny_dataset, folder / "run").path
    export(run, ENGINES, out=folder / "export", data=tiny_dataset, shown=False)
    some = read_catalogue(tiny_dataset).slice(0, 20)
    build_index(run, some, folder / "index-torch", precision="fp32")
    for engine in ENGINES:
        build_index(folder / "export", some, folder / f"index-{engine}", precision="fp32", engine=engine)


@pytest.fixture(scope="module")
def texts(tiny_dataset):
    """Each query with forty products, of which an index has half; some of them odd."""
    products = read_catalogue(tiny_dataset).slice(0, 38)
    columns = {name: products.column(name).to_pylist() * len(QUERIES) for name in schema.TEXT_COLUMNS}
    queries = [query for query in QUERIES for _ in range(38)]
    for title in ("", "靴 👟 <b>x</b>", "x " * 500):
        queries.append("shoes")
        for name, column in columns.items():
            column.append(title if name == schema.TITLE else None)
    return queries, columns, ["us"] * len(queries)


def probabilities(scorer, texts):
    return scorer.predict(scorer.read(PairTexts(*texts))).probabilities


WAYS = [("run", None, "torch"), *(("export", None, engine) for engine in ENGINES)] + [
    (folder, index, engine)
    for folder, engine in (("run", "torch"), ("export", "onnx"), ("export", "openvino"))
    for index in ("torch", *ENGINES)
]


def test_every_way_gives_the_scores_of_the_run(made, texts):
    expected = probabilities(Scorer.load(made / "run"), texts)
    assert np.ptp(expected, axis=0).max() > 0.02, "the pairs differ, or nothing would be seen"
    for folder, index, engine in WAYS:
        products = None if index is None else made / f"index-{index}"
        scorer = load_scorer(made / folder, engine=engine, products=products)
        assert scorer.engine_name == (engine if index is None else f"{engine}, from an index in fp32")
        assert np.abs(probabilities(scorer, texts) - expected).max() < 1e-5, (folder, index, engine)


@ONE
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_rounded_states_give_one_score_by_every_engine(precision, made, texts, tiny_dataset, tmp_path):
    build_index(made / "run", read_catalogue(tiny_dataset).slice(0, 20), tmp_path / "index", precision=precision)
    by_torch = IndexScorer.load(made / "run", tmp_path / "index")
    kept = [row for row in range(len(texts[0])) if row % 38 < 20 and row < 38 * len(QUERIES)]
    expected = probabilities(by_torch, texts)[kept]
    for engine in ENGINES:
        found = probabilities(IndexScorer.load(made / "export", tmp_path / "index", engine=engine), texts)[kept]
        assert np.abs(found - expected).max() < 1e-5


@ONE
def test_order_and_other_candidates_change_nothing(made, texts):
    queries, columns, locales = texts
    scorer = IndexScorer.load(made / "export", made / "index-torch", engine="onnx")
    expected = probabilities(scorer, texts)
    backwards = {name: column[::-1] for name, column in columns.items()}
    assert np.abs(probabilities(scorer, (queries[::-1], backwards, locales))[::-1] - expected).max() < 1e-6
    alone = {name: column[17:18] for name, column in columns.items()}
    assert np.abs(probabilities(scorer, (queries[17:18], alone, ["us"])) - expected[17]).max() < 1e-6


@ONE
def test_an_export_is_scored_from_an_index_without_torch(made):
    program = (
        "import sys; from pathlib import Path\n"
        "from zhichun.score.scorer import load_scorer\n"
        "scorer = load_scorer(sys.argv[1], products=Path(sys.argv[2]), engine='onnx')\n"
        "assert len(scorer.score('red shoes', ['a red shoe', 'a cable']).score) == 2\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(made / "export"), str(made / "index-torch")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@ONE
def test_what_cannot_be_is_refused(made, tiny_export, tiny_dataset, tmp_path):
    with pytest.raises(UserError, match=r"cannot be exported to onnx-int8(.|\n)*onnx or openvino"):
        export(made / "run", ["onnx-int8"], out=tmp_path / "export", data=tiny_dataset, shown=False)
    with pytest.raises(UserError, match=r"reads query and product together(.|\n)*zhichun:fast"):
        IndexScorer.load(tiny_export, made / "index-torch")
    with pytest.raises(UserError, match=r"there is no engine 'openvino-bf16'"):
        IndexScorer.load(made / "export", made / "index-torch", engine="openvino-bf16")
    with pytest.raises(UserError, match=r"is not scored by the engine 'onnx'(.|\n)*zhichun export"):
        IndexScorer.load(made / "run", made / "index-torch", engine="onnx")
