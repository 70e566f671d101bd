"""Programs in processes of their own that begin at once: forks of one process, which has imported the libraries.

`Forks.run` starts as many as it is given jobs, together, and says how each ended. When one fails the others are killed,
as launchers do. A run that is given up kills its jobs and what forked them; the next one begins with a new process.
"""

import importlib
import json
import os
import random
import re
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Timer
from types import MappingProxyType
from typing import Any, NamedTuple

SECONDS = 180
# Also what torch and transformers import late.
IMPORTED_ONCE = (
    "zhichun.cli",
    "zhichun.fit.train",
    "zhichun.fit.pretrain",
    "torch._dynamo",
    "transformers.models.xlm_roberta.modeling_xlm_roberta",
)


class Job(NamedTuple):
    """What one process runs.

    ``arguments`` are those of Python. ``killed_at`` is a moment at which it kills itself: an audit event of the
    interpreter, a pattern of the event's first argument, and at which such event. Its output goes to the files
    ``output`` and ``output.err``.
    """

    arguments: Sequence[object]
    environment: Mapping[str, str] = MappingProxyType({})
    killed_at: tuple[str, str, int] | None = None
    output: Path | None = None


class Forks:
    """A process that forks, with these modules imported; ended by `close`."""

    def __init__(self, modules: Sequence[str] = IMPORTED_ONCE) -> None:
        self._modules = modules
        self.process = self._started()

    def _started(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, __file__, *self._modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *jobs: Job, wait: Callable[[], None] | None = None) -> list[int]:
        """Run all jobs to their end, or kill them after a wait; returns their exit statuses."""
        if self.process.poll() is not None:
            self.process = self._started()
        late = Timer(SECONDS, os.killpg, (self.process.pid, signal.SIGKILL))
        late.start()
        try:
            pids = self._ask([{**job._asdict(), "environment": dict(job.environment)} for job in jobs])
            if wait is not None:
                wait()
                for pid in pids:
                    with suppress(ProcessLookupError):  # it has ended since: its fellow was killed before it
                        os.kill(pid, signal.SIGKILL)
            return self._read()
        except BaseException:
            self.close()  # or the jobs went on, and their endings were read as the next jobs' pids
            raise
        finally:
            late.cancel()

    def in_two(self, *arguments: object, wait: Callable[[], None] | None = None) -> list[int]:
        """Run Python with these arguments as `accelerate launch` does on two GPUs."""
        return self.run(*(Job(arguments, rank) for rank in ranks(2)), wait=wait)

    def close(self) -> None:
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def _ask(self, jobs: list[dict[str, Any]]) -> list[int]:
        self.process.stdin.write(json.dumps(jobs, default=str) + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> list[int]:
        line = self.process.stdout.readline()
        assert line, "the process that forks has ended, or was killed since its jobs took too long"
        return json.loads(line)


def ranks(processes: int) -> list[dict[str, str]]:
    """Give the environments of processes that train together, as launchers set them."""
    together = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [{**together, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


def free_port() -> int:
    """Find a port that nobody is given before it is listened at: the system's own choices begin above."""
    while True:
        port = random.SystemRandom().randrange(10_000, 30_000)
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the forks print is not an answer
    for module in sys.argv[1:]:
        importlib.import_module(module)
    for line in sys.stdin:
        jobs = [Job(**job) for job in json.loads(line)]
        pids = []
        for job in jobs:
            pids.append(os.fork())
            if pids[-1] == 0:
                become(job)
                return
        answers.write(json.dumps(pids) + "\n")
        answers.flush()
        answers.write(json.dumps(endings(pids)) + "\n")
        answers.flush()


def become(job: Job) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if job.output is not None:
        for name, stream in ((job.output, 1), (f"{job.output}.err", 2)):
            os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), stream)
    os.environ |= job.environment
    if job.killed_at is not None:
        kill_at(*job.killed_at)
    program, *arguments = job.arguments
    if program == "-m":
        program, *arguments = arguments
        sys.argv = [program, *arguments]
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        sys.argv = [program, *arguments]
        sys.path.insert(0, str(Path(program).parent))
        runpy.run_path(program, run_name="__main__")


def kill_at(event: str, pattern: str, count: int) -> None:
    left = count

    def hook(name: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if name == event and re.search(pattern, str(arguments[0])):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def endings(pids: list[int]) -> list[int]:
    found: dict[int, int] = {}
    while len(found) < len(pids):
        pid, status = os.wait()
        found[pid] = os.waitstatus_to_exitcode(status)
        if found[pid]:
            for other in set(pids) - set(found):
                os.kill(other, signal.SIGKILL)
    return [found[pid] for pid in pids]


if __name__ == "__main__":
    main()
