"""Checkpoints are whole or not there, and a full disk leaves the one before."""

import errno
import resource
import shutil
from contextlib import contextmanager

import pytest
import torch

from zhichun.core.errors import UserError
from zhichun.fit import run_folder
from zhichun.fit.run_folder import CheckpointFolder, Progress

WEIGHTS = {"w": torch.arange(20_000, dtype=torch.float32)}
MOMENTS = {"state": {0: {"exp_avg": torch.ones(40_000), "step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.5}]}


@pytest.fixture
def folder(tmp_path):
    """A checkpoint folder with the checkpoint of step 2, the best so far."""
    folder = CheckpointFolder(tmp_path / "checkpoint")
    folder.save_best(WEIGHTS, 2)
    folder.save(WEIGHTS, MOMENTS, Progress(step=2, best_step=2, best_value=0.5))
    return folder


def names(folder: CheckpointFolder) -> list[str]:
    return sorted(path.name for path in folder.path.iterdir())


@contextmanager
def files_no_larger_than(size: int):
    """What a full disk is to whoever writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_is_saved_comes_back(folder):
    weights, moments, progress = folder.latest()
    assert torch.equal(weights["w"], WEIGHTS["w"])
    assert torch.equal(moments["state"][0]["exp_avg"], MOMENTS["state"][0]["exp_avg"])
    assert moments["param_groups"] == MOMENTS["param_groups"]
    assert progress == Progress(step=2, best_step=2, best_value=0.5)
    assert torch.equal(folder.best(2)["w"], WEIGHTS["w"])


def test_before_the_first_there_is_none(tmp_path):
    assert CheckpointFolder(tmp_path / "none").latest() is None


def test_a_run_that_has_not_been_evaluated_yet_comes_back_too(folder):
    folder.save(WEIGHTS, MOMENTS, Progress(step=3))
    assert folder.latest()[2].best_value == -float("inf")


def test_the_one_before_goes_when_the_new_one_is_whole(folder):
    folder.save_best(WEIGHTS, 4)
    assert names(folder) == ["best-00000002.safetensors", "best-00000004.safetensors", "step-00000002"]
    folder.save(WEIGHTS, MOMENTS, Progress(step=4, best_step=4))
    assert names(folder) == ["best-00000004.safetensors", "step-00000004"]


def test_a_kill_between_the_two_leaves_both_and_the_newer_counts(folder, tmp_path):
    shutil.copytree(folder.path / "step-00000002", tmp_path / "kept")
    folder.save(WEIGHTS, MOMENTS, Progress(step=10, best_step=2))
    (tmp_path / "kept").rename(folder.path / "step-00000002")
    assert folder.latest()[2].step == 10


def test_left_overs_of_a_kill_do_not_count(folder):
    shutil.copytree(folder.path / "step-00000002", folder.path / "step-00000009.partial-1-0badcafe")
    (folder.path / "best-00000009.safetensors.partial-1-0badcafe").write_bytes(b"half")
    assert folder.latest()[2].step == 2


@pytest.mark.parametrize("name", ["objective.safetensors", "optimizer.pt", "progress.json"])
def test_a_damaged_checkpoint_is_named(folder, name):
    damaged = folder.path / "step-00000002" / name
    damaged.write_bytes(damaged.read_bytes()[:-20])
    with pytest.raises(UserError, match="step-00000002"):
        folder.latest()


def test_a_checkpoint_without_its_weights_is_named(folder):
    (folder.path / "step-00000002" / "objective.safetensors").unlink()
    with pytest.raises(UserError, match=r"objective\.safetensors"):
        folder.latest()


@pytest.mark.parametrize("room", [50_000, 100_000])  # less than the weights; more than these, less than the moments
def test_a_full_disk_leaves_the_checkpoint_before(folder, room):
    with files_no_larger_than(room), pytest.raises(UserError, match="the disk is full"):
        folder.save(WEIGHTS, MOMENTS, Progress(step=4, best_step=2))
    assert names(folder) == ["best-00000002.safetensors", "step-00000002"]
    assert folder.latest()[2].step == 2


def test_a_full_disk_leaves_the_best_weights_before(folder):
    with files_no_larger_than(50_000), pytest.raises(UserError, match="the disk is full"):
        folder.save_best({"w": WEIGHTS["w"] + 1}, 2)
    assert names(folder) == ["best-00000002.safetensors", "step-00000002"]
    assert torch.equal(folder.best(2)["w"], WEIGHTS["w"])


def test_a_disk_that_fills_up_at_the_last_file_leaves_the_checkpoint_before(folder, monkeypatch):
    def full(value):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_folder.json, "dumps", full)
    with pytest.raises(UserError, match="the disk is full"):
        folder.save(WEIGHTS, MOMENTS, Progress(step=4))
    assert names(folder) == ["best-00000002.safetensors", "step-00000002"]
