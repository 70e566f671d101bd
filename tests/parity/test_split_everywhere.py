"""A model that reads query and product apart: the same scores from an index and without one, by every engine."""

import shutil
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.data.prepare.clean_catalogue import read_catalogue
from zhichun.fit.train import train
from zhichun.measure.evaluate import evaluate
from zhichun.model.model_folder import TrainedModel
from zhichun.score.export.export_run import export
from zhichun.score.index.build import build_index
from zhichun.score.index.scorer import IndexScorer
from zhichun.score.scorer import Scorer, load_scorer
from zhichun.text.pairs import PairTexts

LISTS = ["train.lists=Lists", "model.lists=ListHead", "objective.ranking=RankNet"]
FORMS = {
    "whole states": ("", []),
    "small states, both updated": (', "state": 16, "updates": "both"', []),
    "a list head": ("", LISTS),
}
ENGINES = ("onnx", "openvino")
ONE = pytest.mark.parametrize("made", ["whole states"], indirect=True)
QUERIES = ["red shoes", "usb cable for a phone with a very long query that is cut somewhere here", "x"]


@pytest.fixture(scope="module", params=FORMS)
def made(request, tiny_recipe, tiny_dataset, once):
    """A run, its export, and indexes of half of the catalogue by torch and by each of the export's engines."""
    return once(f"split, {request.param}", partial(make, FORMS[request.param], tiny_recipe, tiny_dataset))


def make(of, tiny_recipe, tiny_dataset, folder):
    more, lists = of
    form = f'{{"kind": "Split", "product_layers": 1, "query_tokens": 12{more}}}'
    settings = [
        f"model.interaction={form}",
        "train.epochs=3",
        "train.learning_rate=0.01",
        "model.max_length=40",
        *lists,
    ]
    done = train(tiny_recipe.with_settings(settings), tiny_dataset, folder / "run")
    run = done.path
    if lists:  # its gate is opened wide
        model = TrainedModel.load(done.model)
        model.model.lists.gate.data.mul_(50)
        shutil.rmtree(done.model)
        done.write_result("model", model.save)
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


@pytest.mark.parametrize("made", ["a list head"], indirect=True)
def test_a_list_head_reads_the_lists_of_an_index(made, texts, tiny_dataset, tmp_path, monkeypatch):
    scorer = IndexScorer.load(made / "run", made / "index-torch")
    assert scorer.reads_lists
    listed = probabilities(scorer, texts)
    apart = scorer.predict(scorer.read(PairTexts(*texts, lists=range(len(texts[0]))))).probabilities
    assert np.abs(listed - apart).max() > 0.01, "the list says something, or nothing would be seen"
    backwards = (texts[0][::-1], {name: of[::-1] for name, of in texts[1].items()}, texts[2])
    assert np.abs(probabilities(scorer, backwards)[::-1] - listed).max() < 1e-5
    monkeypatch.setattr("zhichun.score.index.scorer.JUDGED_AT_ONCE", 7)  # no list is cut in two
    found, expected = (
        evaluate(made / "run", tiny_dataset, out=tmp_path / str(index is None), products=index, shown=False)
        for index in (made / "index-torch", None)
    )
    assert found["log_loss"] == pytest.approx(expected["log_loss"], abs=1e-5)
    scored = [pq.read_table(tmp_path / name / "scored.parquet")["p_E"].to_numpy() for name in ("False", "True")]
    assert np.abs(scored[0] - scored[1]).max() < 1e-5


@pytest.mark.parametrize("made", ["a list head"], indirect=True)
def test_products_of_one_text_are_one_candidate_of_an_index(made, texts):
    def scores(scorer, rows):
        columns = {name: [of[row] for row in rows] for name, of in texts[1].items()}
        spelled = [title.replace(" ", " " * place) for place, title in enumerate(columns[schema.TITLE], start=1)]
        given = ["red shoes"] * len(rows), columns | {schema.TITLE: spelled}, ["us"] * len(rows)
        return probabilities(scorer, given)[:2]

    for scorer in (IndexScorer.load(made / "run", made / "index-torch"), Scorer.load(made / "run")):
        expected = scores(scorer, [0, 37])  # of which the index has the first
        assert np.abs(scores(scorer, [0, 37] * 5) - expected).max() < 1e-5
        assert np.abs(scores(scorer, [0, 37, 19, 36, 1]) - expected).max() > 1e-4


@pytest.mark.parametrize("made", ["a list head"], indirect=True)
def test_a_judged_list_is_as_long_as_what_differs_in_it(made, texts, monkeypatch):
    monkeypatch.setattr("zhichun.score.engine.LONGEST_LIST", 2)
    columns = {name: [of[0], of[37], of[0]] for name, of in texts[1].items()}
    given = PairTexts(["red shoes"] * 3, columns, ["us"] * 3)
    judged = SimpleNamespace(texts=lambda rows: given, list_row=np.zeros(3, np.int64))
    scorer = IndexScorer.load(made / "run", made / "index-torch")
    found = scorer.predict_judged(judged, np.arange(3)).probabilities
    assert np.abs(found - probabilities(scorer, given[:3])).max() < 1e-6


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
