"""What `zhichun plan` measures, and what it works out from that."""

import subprocess
import sys

import numpy as np
import pytest

from zhichun.core.errors import UserError
from zhichun.score.engines.engine import threads
from zhichun.score.export.export_folder import format_of
from zhichun.score.plan import Question, answers, memory, plan, shape_rates
from zhichun.score.plan.graph import INPUTS, write_layers
from zhichun.score.plan.model_rates import engines_of, model_rate, weight_bytes
from zhichun.score.plan.shapes import SHAPES, Shape
from zhichun.score.plan.table import scoring_table, training_table

MINILM = SHAPES["MiniLM-L6-384"]
SMALL = Shape(name="small", layers=3, hidden=32, heads=2, intermediate=64, pieces=100)
QUICK = {"seconds": 0.2, "tokens": 16}


def test_a_shape_counts_its_weights():
    assert MINILM.parameters == 6 * (4 * 384**2 + 2 * 384 * 1536) + 30_522 * 384
    assert 21e6 < MINILM.parameters < 23e6
    assert 540e6 < SHAPES["XLM-R-large"].parameters < 570e6


def test_what_is_timed_stands_for_the_whole_encoder():
    assert MINILM.measured_layers == 2
    assert MINILM.times_measured(first_token_only=False) == 3
    assert MINILM.times_measured(first_token_only=True) == pytest.approx((5 + 1 / 6) / 2)
    assert SHAPES["XLM-R-large"].measured_layers == 1
    assert SHAPES["XLM-R-large"].times_measured(first_token_only=False) == 24


def test_memory_is_worked_out_by_hand():
    quantised = 6 * (4 * 384**2 + 384 * 1536)
    assert memory.weights_of(MINILM, "openvino") == 4 * MINILM.parameters
    assert memory.weights_of(MINILM, "onnx-int8") == 4 * MINILM.parameters - 3 * quantised
    assert memory.working_of(SMALL, 10, pairs=2) == 2 * 10 * (6 * 32 + 2 * 64 + 2 * 2 * 10) * 4
    assert memory.scoring_bytes(100, 10, 2, with_torch=False) == 120 + memory.JOB
    assert memory.training_bytes(MINILM) > 16 * MINILM.parameters


def test_a_query_waits_for_whole_rounds(monkeypatch):
    monkeypatch.setattr(answers, "threads", lambda: 4)
    question = Question(pairs=1000, latency=0.5, candidates=10)
    found = answers._answers(question, 50.0, "openvino", weights=0, working=0)
    assert (found["seconds"], found["candidates"]) == (20, 24)  # 25 pairs in half a second, in rounds of 4
    assert found["latency"] == pytest.approx(12 / 50)
    by_torch = answers._answers(question, 50.0, "torch", weights=0, working=0)
    assert (by_torch["candidates"], by_torch["latency"]) == (25, pytest.approx(0.2))


@pytest.mark.parametrize("name", ["pairs", "judged", "tokens", "latency", "candidates", "seconds"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_nothing_is_asked_of_nothing(name, value):
    with pytest.raises(UserError, match=f"{name}=.* must be above zero"):
        Question(**{name: value})


def test_every_engine_is_timed_on_a_shape(monkeypatch):
    monkeypatch.setattr(answers, "SHAPES", {"small": SMALL})
    found = plan(Question(**QUICK, candidates=5), shown=False)
    engines = [row["engine"] for row in found["scoring"]]
    assert engines == [*shape_rates.torch_engines(), *shape_rates.graph_engines()]
    assert all(row["pairs_per_second"] > 0 and row["latency"] > 0 for row in found["scoring"])
    assert {row["layers_timed"] for row in found["scoring"]} == {"2 of 3"}
    assert [row["engine"] for row in found["training"]] == ["train"]
    assert found["machine"]["threads"] == threads()
    assert scoring_table(found).row_count == len(engines)
    assert training_table(found).row_count == 1


@pytest.mark.parametrize("engine", ["onnx", "onnx-int8", "openvino-int8"])
def test_the_layers_are_a_graph_that_scores(engine, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    write_layers(SMALL, tmp_path / "layers.onnx", engine)
    session = runtime.InferenceSession(tmp_path / "layers.onnx", providers=["CPUExecutionProvider"])
    ids_BT, mask_BT = np.full((3, 7), 5), np.ones((3, 7), np.int64)
    mask_BT[1, 4:] = 0
    (logits_BC,) = session.run(None, dict(zip(INPUTS, (ids_BT, mask_BT), strict=True)))
    assert logits_BC.shape == (3, 4)
    assert np.isfinite(logits_BC).all()


def test_an_export_is_timed_whole_in_every_engine(tiny_export):
    found = plan(Question(**QUICK), [tiny_export], shown=False)
    assert [row["engine"] for row in found["scoring"]] == engines_of(tiny_export)
    assert {row["layers_timed"] for row in found["scoring"]} == {"all"}
    assert found["training"] == []
    for engine in engines_of(tiny_export):
        graph = sum(path.stat().st_size for path in (tiny_export / format_of(engine)).rglob("*") if path.is_file())
        assert weight_bytes(tiny_export, engine) >= graph


def test_made_up_pairs_have_about_the_tokens_that_are_asked_for(tiny_run):
    found = model_rate(tiny_run, "torch", 20, seconds=0.05)
    assert 14 <= found.tokens <= 26
    assert model_rate(tiny_run, "torch", 500, seconds=0.05).tokens == 32  # the model cuts there


def test_a_folder_that_holds_no_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        plan(Question(**QUICK), [tmp_path / "missing"], shown=False)


def test_where_nothing_is_installed_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(shape_rates, "installed", lambda library: False)
    with pytest.raises(UserError, match=r"pip install 'zhichun\[train,onnx\]'"):
        plan(Question(**QUICK), shown=False)


def test_an_export_needs_no_torch(tiny_export):
    code = (
        "import sys; from pathlib import Path; from zhichun.score.plan import Question, plan;"
        f"plan(Question(seconds=0.1, tokens=16), [Path({str(tiny_export)!r})], shown=False);"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
