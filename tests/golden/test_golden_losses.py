"""The first twenty losses of the tiny encoder, kept as data: a change of the training shows here, whatever made it.

A change that is meant renews them, and its commit says why:

    ZHICHUN_RENEW_GOLDEN=1 pytest tests/golden

Besides the code they depend on the sample shop, whose hash is kept with them, and on `tokenizer.json` beside them.
"""

import json
import os
from importlib.metadata import version
from pathlib import Path

import pytest

from zhichun.core import settings as codec
from zhichun.fit.recipe import load_recipe
from zhichun.fit.run_folder import RunFolder
from zhichun.fit.train import train

STEPS = 20
TOLERANCE = 1e-4
GAIN = ("task=gain", "train.metric=ndcg")


def objective_of(recipe: str) -> str:
    """The paper's loss and methods, to be set on the recipe `tiny`."""
    return f"objective={json.dumps(codec.encode(load_recipe(f'kdd2022:{recipe}').objective))}"


ROWS = {
    "tiny": (),
    "tiny-gain": (*GAIN, "objective.loss=SquaredError"),
    "as-written": (objective_of("task2"),),
    "as-written-substitute": ("task=substitute", objective_of("task3")),
    "as-written-gain": (*GAIN, objective_of("task1")),
    "as-released": (objective_of("task2_as_released"),),
    "as-released-gain": (*GAIN, objective_of("task1_as_released")),
}


def first_losses(recipe, data, out, monkeypatch):
    """Train until so many steps are logged; the whole of the training says how its learning rate falls."""
    losses = []

    def log(run, record):
        losses.extend([record["loss"]] if "loss" in record else [])
        if len(losses) == STEPS:
            raise InterruptedError

    monkeypatch.setattr(RunFolder, "log", log)
    with pytest.raises(InterruptedError):
        train(recipe, data, out)
    return losses


@pytest.mark.parametrize("name", ROWS)
def test_the_losses_are_those_on_file(name, tiny_dataset, tmp_path, monkeypatch):
    settings = ["model.max_length=32", "model.tiny.pieces=500", "train.epochs=2", *ROWS[name]]
    losses = first_losses(load_recipe("tiny").with_settings(settings), tiny_dataset, tmp_path / "run", monkeypatch)
    shop = json.loads((tiny_dataset / "manifest.json").read_text("utf-8"))["sources"]
    file = Path(__file__).with_name(f"{name}.json")
    if os.environ.get("ZHICHUN_RENEW_GOLDEN"):
        kept = {"torch": version("torch"), "shop": shop, "losses": [round(loss, 6) for loss in losses]}
        file.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    golden = json.loads(file.read_text("utf-8"))
    same = "is the same" if shop == golden["shop"] else "is another, too: see how to renew in this file"
    assert len(losses) == STEPS
    assert losses == pytest.approx(golden["losses"], abs=TOLERANCE), f"the sample shop {same}"
