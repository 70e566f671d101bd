"""What `zhichun plan` measures, and what it works out from that."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from zhichun.cli.tables import scoring_table
from zhichun.core.errors import UserError
from zhichun.score import plan as planning
from zhichun.score.engine import threads
from zhichun.score.export.export_folder import ExportConfig, format_of
from zhichun.score.export.exported import usable
from zhichun.score.plan import GIB, JOB, JOB_WITH_TORCH, SHAPES, STREAM, Question, plan

SMALL = {"layers": 3, "hidden": 32, "heads": 2, "intermediate": 64, "pieces": 5000}
QUICK = {"seconds": 0.2, "tokens": 16}


def answer(question, engine, rate, monkeypatch, streams=4):
    """The row of a model that scores at a given rate, has a weight of 100 bytes and no text to read."""
    read = SimpleNamespace(lengths=np.asarray([10.0]))
    timed = SimpleNamespace(engine=SimpleNamespace(streams=streams), read=lambda: read, weights=100)
    monkeypatch.setattr(planning, "_open", lambda *_: timed)
    monkeypatch.setattr(planning, "scoring_rate", lambda *_: rate)
    return planning._row(question, "model", engine, 1.0)


def test_a_query_waits_for_whole_rounds(monkeypatch):
    question = Question(pairs=1000, latency=0.5, candidates=10)
    found = answer(question, "openvino", 50.0, monkeypatch)
    assert (found["seconds"], found["candidates"]) == (20, 24)  # 25 pairs in half a second, in rounds of 4
    assert found["latency"] == pytest.approx(12 / 50)
    assert found["memory_gib"] == (100 + 4 * STREAM + JOB) / GIB
    by_torch = answer(question, "torch", 50.0, monkeypatch, streams=1)
    assert (by_torch["candidates"], by_torch["latency"]) == (25, pytest.approx(0.2))
    assert by_torch["memory_gib"] == (100 + STREAM + JOB_WITH_TORCH) / GIB


@pytest.mark.parametrize("name", ["pairs", "tokens", "latency", "candidates", "seconds"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_nothing_is_asked_of_nothing(name, value):
    with pytest.raises(UserError, match=f"{name}=.* must be above 0"):
        Question(**{name: value})


def test_an_encoder_by_name_is_timed_by_torch(monkeypatch):
    monkeypatch.setitem(SHAPES, "small", SMALL)
    found = plan(Question(**QUICK, candidates=5), ["small"], shown=False)
    assert found["scoring"][0]["engine"] == "torch"
    assert all(row["pairs_per_second"] > 0 and row["latency"] > 0 and row["tokens"] == 16 for row in found["scoring"])
    assert found["machine"]["threads"] == threads()
    assert scoring_table(found).row_count == len(found["scoring"])


def test_the_memory_of_an_encoder_by_name_is_that_of_its_whole_table(monkeypatch):
    monkeypatch.setitem(SHAPES, "small", SMALL)
    layer = 4 * 32**2 + 2 * 32 * 64
    least = 4 * (3 * layer + 5000 * 32)
    assert least < planning._open("small", "torch", 16).weights < 1.2 * least


def test_an_encoder_of_the_hub_is_timed_at_no_more_tokens_than_it_reads(tmp_path, monkeypatch):
    from zhichun.model.encoder import new_encoder, save_encoder
    from zhichun.model.encoder_settings import plain_config

    shape = {"layers": 1, "hidden": 32, "heads": 2, "intermediate": 64, "pieces": 50}
    (tmp_path / "org" / "name").mkdir(parents=True)
    save_encoder(new_encoder(plain_config(**shape, max_length=20)), tmp_path / "org" / "name")
    monkeypatch.setattr("zhichun.model.encoder.place_of", lambda name: str(tmp_path / name))
    timed = planning._open("org/name", "torch", 100)
    assert timed.read().lengths.max() == 20, "it reads no more"
    assert planning.scoring_rate(timed.engine, timed.read, 0.01) > 0


def test_an_export_is_timed_in_every_engine(tiny_export):
    found = plan(Question(**QUICK), [str(tiny_export)], shown=False)
    engines = usable(ExportConfig.load(tiny_export), tiny_export)
    assert [row["engine"] for row in found["scoring"]] == engines
    for row in found["scoring"]:
        graph = (tiny_export / format_of(row["engine"])).rglob("*")
        assert row["memory_gib"] * GIB > JOB + sum(path.stat().st_size for path in graph if path.is_file())


@pytest.mark.parametrize(("asked", "least", "most"), [(20, 14, 26), (500, 32, 32)])
def test_made_up_texts_have_about_the_tokens_that_are_asked_for(tiny_run, asked, least, most):
    found = plan(Question(seconds=0.1, tokens=asked), [str(tiny_run)], shown=False)
    assert least <= found["scoring"][0]["tokens"] <= most  # the model cuts at 32


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"missing.* cannot be loaded"):
        plan(Question(**QUICK), [str(tmp_path / "missing")], shown=False)
    with pytest.raises(UserError, match="not a model folder"):
        plan(Question(**QUICK), [str(tmp_path)], shown=False)


def test_an_export_needs_no_torch(tiny_export):
    code = (
        "import sys; from zhichun.score.plan import Question, plan;"
        f"plan(Question(seconds=0.1, tokens=16), [{str(tiny_export)!r}], shown=False);"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
