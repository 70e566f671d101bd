"""On a GPU: trainings of every kind run, and what they made says there what it says on the processor."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from zhichun.core import schema
from zhichun.core.files import read_json, write_json
from zhichun.data.prepare.clean_catalogue import read_catalogue
from zhichun.fit.recipe import load_recipe
from zhichun.score.index.build import build_index
from zhichun.score.index.scorer import IndexScorer
from zhichun.score.scorer import Scorer
from zhichun.text.pairs import PairTexts

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
METHODS = ("loss=Poly1", "ema=EMA", "second_view=FGM", "rdrop=RDrop", "mixup=Mixup")
SPLIT = '{"kind": "Split", "product_layers": 1, "query_tokens": 12}'
KINDS = {
    "plain": (),
    "the paper's methods": tuple(f"objective.{method}" for method in METHODS),
    "compiled": ("train.compile=true",),
    "lists": ("train.lists=Lists", "model.lists=ListHead", "objective.ranking=RankNet"),
    "split": (f"model.interaction={SPLIT}", "model.max_length=40"),
}


def environment():
    """For a process of its own: this one has told accelerate to use the processor."""
    return {name: value for name, value in os.environ.items() if name != "ACCELERATE_USE_CPU"}


def command_of(*arguments):
    return [sys.executable, "-m", "zhichun", *map(str, arguments)]


def on_the_gpu(*arguments):
    done = subprocess.run(command_of(*arguments), env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module", params=KINDS)
def run(request, tiny_recipe, tiny_dataset, tmp_path_factory):
    """A run of one kind, trained on the GPU."""
    folder = tmp_path_factory.mktemp("gpu")
    write_json(folder / "recipe.json", tiny_recipe.with_settings([*KINDS[request.param]]).to_json())
    on_the_gpu("train", folder / "recipe.json", "--data", tiny_dataset, "--out", folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def texts(tiny_dataset):
    products = read_catalogue(tiny_dataset).slice(0, 100)
    columns = {name: products.column(name).to_pylist() for name in schema.TEXT_COLUMNS}
    return PairTexts(["red shoes"] * 100, columns, products.column(schema.LOCALE).to_pylist())


def probabilities(scorer, texts):
    return scorer.predict(scorer.read(texts)).probabilities


def test_what_was_trained_there_says_the_same_here(run, texts):
    assert read_json(run / "environment.json")["gpu"]
    expected = probabilities(Scorer.load(run, device="cpu"), texts)
    assert np.isfinite(expected).all()
    for engine, within in (("torch", 1e-4), ("torch-bf16", 0.05)):
        found = probabilities(Scorer.load(run, device="cuda", engine=engine), texts)
        assert np.abs(found - expected).max() < within, engine


@pytest.mark.parametrize("run", ["split"], indirect=True)
def test_an_index_may_be_made_on_one_and_asked_on_the_other(run, texts, tiny_dataset, tmp_path):
    expected = probabilities(Scorer.load(run, device="cpu"), texts)
    for made in ("cuda", "cpu"):
        build_index(run, read_catalogue(tiny_dataset), tmp_path / made, precision="fp32", device=made)
        for asked in ("cuda", "cpu"):
            found = probabilities(IndexScorer.load(run, tmp_path / made, asked), texts)
            assert np.abs(found - expected).max() < 1e-4, (made, asked)


def test_a_killed_training_goes_on_there(tiny_recipe, tiny_dataset, tmp_path):
    """With the figures of a run that was never stopped, within what sums in another order may change."""
    epochs = 8
    write_json(tmp_path / "recipe.json", tiny_recipe.with_settings([f"train.epochs={epochs}"]).to_json())
    given = ("train", tmp_path / "recipe.json", "--data", tiny_dataset, "--out")
    on_the_gpu(*given, tmp_path / "whole")
    killed = tmp_path / "killed"
    with subprocess.Popen(command_of(*given, killed), env=environment(), stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(killed.glob("checkpoint/*")):
            time.sleep(0.05)
        process.kill()
    assert not (killed / "model").is_dir(), "it was killed before its end"
    on_the_gpu(*given, killed, "--resume")
    losses = [[json.loads(line) for line in (run / "metrics.jsonl").open()] for run in (tmp_path / "whole", killed)]
    assert len(losses[0]) == len(losses[1])
    for one, other in zip(*losses, strict=True):
        assert one.keys() == other.keys()
        assert one.get("loss", 0.0) == pytest.approx(other.get("loss", 0.0), abs=0.02)


def test_pretraining_with_all_tasks_runs(tiny_dataset, tmp_path):
    tiny = ["train.epochs=1", "model.tiny.layers=2", "model.tiny.hidden=32", "model.tiny.heads=2"]
    recipe = load_recipe("tiny:pretrain").with_settings(
        [*tiny, "model.tiny.pieces=500", "model.tiny.matching_layers=1"]
    )
    write_json(tmp_path / "recipe.json", recipe.to_json())
    on_the_gpu("pretrain", tmp_path / "recipe.json", "--data", tiny_dataset, "--out", tmp_path / "run")
    assert (tmp_path / "run" / "encoder").is_dir()
