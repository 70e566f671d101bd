"""Killed at any moment, `prepare` leaves nothing half-made under the final name, and the next run completes."""

import random
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from forks import Forks, Job
from zhichun.core.errors import UserError
from zhichun.data.prepare.making import Rebalance
from zhichun.data.prepare.prepare import prepare
from zhichun.data.sample_shop import write_sample_shop

CHILD = """
import sys
from pathlib import Path
from zhichun.data.prepare.prepare import prepare
from zhichun.data.prepare.making import Rebalance
prepare(Path(sys.argv[1]), Path(sys.argv[2]), steps=[Rebalance()], overwrite=True)
"""
KILLS = 5


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    write_sample_shop(folder, products=600, queries=80, text="esci")
    return folder


@pytest.fixture(scope="module")
def preparing():
    """Runs that begin at once to read their sources."""
    running = Forks(("zhichun.data.prepare.prepare", "zhichun.data.prepare.making"))
    yield running
    running.close()


def contents(folder):
    return {each.relative_to(folder): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


@pytest.mark.parametrize("replaces", [False, True], ids=["new", "replacing"])
def test_a_run_killed_at_any_moment_leaves_nothing_half_made(shop, preparing, tmp_path, replaces):
    out, program = tmp_path / "out", tmp_path.with_suffix(".py")
    program.write_text(CHILD, "utf-8")
    begun = time.perf_counter()
    assert preparing.run(Job([program, shop, tmp_path / "whole"])) == [0]
    lasts = time.perf_counter() - begun
    whole = contents(tmp_path / "whole")
    states = [None, whole]
    if replaces:
        prepare(shop, out, folds=2)
        states = [contents(out), whole]
        assert states[0] != whole
    chance, killed = random.Random(0), 0
    for _ in range(KILLS):
        moment = chance.uniform(0, lasts)
        killed += preparing.run(Job([program, shop, out]), wait=partial(time.sleep, moment)) == [-signal.SIGKILL]
        assert (contents(out) if out.exists() else None) in states
    assert killed, "every run was done before it was killed"
    prepare(shop, out, steps=[Rebalance()], overwrite=True)
    assert contents(out) == whole
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out", "whole"]


def test_a_dataset_that_lost_its_name_to_a_kill_gets_it_back(shop, tmp_path):
    out, ended = tmp_path / "out", subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    prepare(shop, out)
    before = contents(out)
    out.rename(tmp_path / f"out.old-{ended.pid}-0badcafe")  # between the two renames of a run that replaces it
    with pytest.raises(UserError, match="the folder exists"):
        prepare(shop, out)
    assert contents(out) == before
    assert [each.name for each in tmp_path.iterdir()] == ["out"]
