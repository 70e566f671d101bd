"""`zhichun train`, killed again and again at the worst moments, ends with the bytes of a run that was left in peace."""

import json
import signal
from pathlib import Path

import pytest

from forks import Job
from zhichun.fit.run_folder import RunFolder
from zhichun.fit.train import train

MOMENTS = {  # audit event, pattern of its path, at which of them
    "the folder has just been made": ("os.rename", "environment.*partial", 1),
    "the recipe is not written yet": ("os.rename", "recipe.*partial", 1),
    "a step is done and not yet logged": ("open", "/metrics.jsonl", 4),
    "a step is logged and not yet in a checkpoint": ("os.mkdir", "/step-[0-9]*.partial", 2),
    "a checkpoint lacks a file": ("open", "/step-.*partial.*/progress.json", 2),
    "a checkpoint is whole and has no name yet": ("os.rename", "/step-[0-9]*.partial", 2),
    "two checkpoints are there": ("shutil.rmtree", "/step-[0-9]*$", 2),
    "the lines of steps to do again are being dropped": ("os.rename", "metrics.*partial", 1),
    "the best weights have no name yet": ("os.rename", "/best-.*partial", 1),
    "the predictions have no name yet": ("os.rename", "predictions.*partial", 1),
    "the model is being written": ("open", "/model.partial.*/config.json", 1),
    "the model has no name yet": ("os.rename", "/model.partial[^/]*$", 1),
    "the checkpoints of a finished run are still there": ("shutil.rmtree", "/checkpoint$", 1),
}


@pytest.fixture(scope="module")
def recipe(tiny_recipe):
    often = ["train.evaluations=2", "train.metric=loss", "train.checkpoint_minutes=0.0"]
    return tiny_recipe.with_settings(["train.epochs=3", "train.learning_rate=0.002", *often])


@pytest.fixture(scope="module")
def in_peace(recipe, tiny_dataset, tmp_path_factory):
    return train(recipe, tiny_dataset, tmp_path_factory.mktemp("in-peace") / "run")


@pytest.fixture
def arguments(recipe, tiny_dataset, tmp_path):
    """What follows `python`; the run folder is `tmp_path/run`."""
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.to_json()))
    return [
        "-m",
        "zhichun",
        "train",
        str(tmp_path / "recipe.json"),
        "--data",
        str(tiny_dataset),
        "--out",
        str(tmp_path / "run"),
        "--resume",
    ]


def assert_same(run: RunFolder, expected: RunFolder) -> None:
    for name in ("model/model.safetensors", "model/config.json", "predictions.parquet", "metrics.jsonl"):
        assert (run.path / name).read_bytes() == (expected.path / name).read_bytes(), name
    steps = [record["step"] for record in run.records() if "loss" in record]
    assert steps == list(range(1, 43))
    assert {path.name for path in run.path.iterdir()} == {path.name for path in expected.path.iterdir()}


def test_killed_at_the_worst_moments_it_resumes_to_the_same_bytes(
    forks, arguments, recipe, tiny_dataset, in_peace, tmp_path
):
    endings = {name: forks.run(Job(arguments, killed_at=moment)) for name, moment in MOMENTS.items()}
    assert {name: ending for name, ending in endings.items() if ending != [-signal.SIGKILL]} == {}
    train(recipe, tiny_dataset, tmp_path / "run", resume=True)
    assert_same(RunFolder(tmp_path / "run"), in_peace)


def test_a_finished_run_is_left_as_it_is(tiny_recipe, tiny_dataset, tiny_run):
    before = {path: path.stat().st_mtime_ns for path in sorted(Path(tiny_run).rglob("*"))}
    train(tiny_recipe, tiny_dataset, tiny_run, resume=True)
    assert {path: path.stat().st_mtime_ns for path in sorted(Path(tiny_run).rglob("*"))} == before
