"""Training on several nodes, which are processes on the loopback here: one voice, one message, any number of them."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

from forks import SECONDS, Job, free_port, ranks
from zhichun.fit.run_folder import RunFolder
from zhichun.fit.train import train


@pytest.fixture(scope="module")
def recipe(tiny_recipe):
    return tiny_recipe.with_settings(["train.epochs=3", "model.dropout=0.0", "train.micro_batch_tokens=400"])


@pytest.fixture(scope="module")
def recipe_file(recipe, tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "recipe.json"
    path.write_text(json.dumps(recipe.with_settings(["train.checkpoint_minutes=0.0"]).to_json()))
    return path


def torchrun(node: int, port: int, processes: int) -> list[object]:
    options = ["--nnodes", 2, "--node-rank", node, "--nproc-per-node", processes, "--master-addr", "127.0.0.1"]
    return ["-m", "torch.distributed.run", *options, "--master-port", port]


def accelerate(node: int, port: int, processes: int) -> list[object]:
    options = ["--num_machines", 2, "--machine_rank", node, "--num_processes", 2 * processes]
    options += ["--main_process_ip", "127.0.0.1", "--main_process_port", port, "--mixed_precision", "no"]
    return ["-m", "accelerate.commands.launch", "--multi_gpu", *options]


@contextmanager
def two_nodes(launcher: Callable[[int, int, int], list[object]], processes: int, *arguments: str | Path):
    """Start both nodes of `LAUNCHER -m zhichun train …`, and leave none of their processes."""
    port = free_port()
    commands = [[sys.executable, *launcher(node, port, processes), "-m", "zhichun", "train"] for node in (0, 1)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    nodes = [subprocess.Popen([*map(str, command), *map(str, arguments)], **pipes) for command in commands]
    try:
        yield nodes
    finally:
        # Each worker is the leader of its own session and would outlive its launcher.
        workers = [each for node in nodes if node.poll() is None for each in workers_of(node)]
        for process in (*nodes, *workers):
            with suppress(psutil.NoSuchProcess):  # it has ended since: its fellow was killed before it
                process.kill()
        psutil.wait_procs(workers, SECONDS)
        for node in nodes:
            node.communicate()


def workers_of(node: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(node.pid).children(recursive=True)


def wait_for_records(run: RunFolder, count: int) -> None:
    until = time.monotonic() + SECONDS
    while len(losses(run)) < count and time.monotonic() < until:
        time.sleep(0.01)
    assert len(losses(run)) >= count


def losses(run: RunFolder) -> list[float]:
    return [record["loss"] for record in run.records() if "loss" in record]


def test_a_process_that_dies_ends_all_and_the_run_goes_on_on_four_and_on_one(
    forks, recipe, recipe_file, tiny_dataset, tmp_path
):
    whole = train(recipe, tiny_dataset, tmp_path / "whole")
    run = RunFolder(tmp_path / "run")
    arguments = (recipe_file, "--data", tiny_dataset, "--out", run.path, "--resume")
    steps = len(losses(whole))
    with two_nodes(torchrun, 1, *arguments) as nodes:
        wait_for_records(run, steps // 4)
        workers_of(nodes[1])[0].kill()
        said = [node.communicate(timeout=SECONDS)[1] for node in nodes]
    assert all(node.returncode for node in nodes)
    assert said[0].count("error: another of the 2 processes has ended.\n") == 1
    assert "error: " not in said[1]
    before = len(losses(run))
    with two_nodes(accelerate, 1, *arguments):
        wait_for_records(run, max(before, steps // 2) + 2)
    before = len(losses(run))
    four = (Job(("-m", "zhichun", "train", *arguments), rank) for rank in ranks(4))
    forks.run(*four, wait=partial(wait_for_records, run, before + 2))
    assert len(losses(run)) > before
    train(recipe.with_settings(["train.checkpoint_minutes=0.0"]), tiny_dataset, run.path, resume=True)
    assert losses(run) == pytest.approx(losses(whole), abs=1e-5)


def test_the_first_process_alone_writes_and_prints(forks, recipe_file, tiny_dataset, tmp_path):
    run = tmp_path / "run"
    arguments = ("-m", "zhichun", "train", recipe_file, "--data", tiny_dataset, "--out", run)
    outputs = [tmp_path / f"node-{node}" for node in (0, 1)]
    nodes = [{**rank, "LOCAL_RANK": "0"} for rank in ranks(2)]
    jobs = [Job(arguments, node, output=output) for node, output in zip(nodes, outputs, strict=True)]
    assert forks.run(*jobs) == [0, 0]
    said = [(output.read_text(), Path(f"{output}.err").read_text()) for output in outputs]
    assert said[0][0] == f"{run}: trained. Next: zhichun evaluate {run} --data {tiny_dataset}\n"
    assert said[1][0] == ""
    assert "validation" not in said[1][1]


def test_what_the_first_process_refuses_ends_the_others_with_one_message(forks, recipe_file, tiny_dataset, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "letter.txt").write_text("dear")
    arguments = ("-m", "zhichun", "train", recipe_file, "--data", tiny_dataset, "--out", tmp_path / "run")
    jobs = [Job(arguments, {**rank, "LOCAL_RANK": "0"}, output=tmp_path / rank["RANK"]) for rank in ranks(2)]
    assert all(forks.run(*jobs))
    said = [(tmp_path / f"{rank}.err").read_text() for rank in (0, 1)]
    assert "error: " in said[0]
    assert "holds no run" in said[0]
    assert "Traceback" not in said[1]
