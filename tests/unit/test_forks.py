"""Programs in processes of their own: a run that is given up leaves no job behind, and no answer for the next run."""

import os

import pytest

from forks import Forks, Job

SLOW = """
import sys, time
with open(sys.argv[1], "w") as told:
    print("begun", file=told, flush=True)
    time.sleep(60)
    print("ended", file=told)
"""


def test_a_run_that_is_given_up_kills_its_jobs_and_the_next_has_its_own_endings(tmp_path):
    slow, quick, told = tmp_path / "slow.py", tmp_path / "quick.py", tmp_path / "told"
    slow.write_text(SLOW)
    quick.write_text("raise SystemExit(3)")
    os.mkfifo(told)
    running = Forks(modules=())
    pipes = []

    def give_up():
        pipes.append(told.open())
        assert pipes[0].readline() == "begun\n"
        raise TimeoutError

    try:
        with pytest.raises(TimeoutError):
            running.run(Job([slow, told]), wait=give_up)
        with pipes[0] as pipe:
            assert pipe.read() == ""  # until nobody holds its other end
        assert running.run(Job([quick])) == [3]
    finally:
        running.close()
