"""Starts a script or module in two processes, as `accelerate launch` does on two GPUs, and leaves none of them."""

import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

SECONDS = 180
Started = subprocess.Popen[str]


def run_in_two(*arguments: str | Path) -> None:
    """Run `accelerate launch ARGUMENT...` to its end."""
    _launch(arguments, lambda launcher: launcher.wait(SECONDS))


def kill_in_two(wait: Callable[[], None], *arguments: str | Path) -> None:
    """Begin `accelerate launch ARGUMENT...` and kill all its processes at once after a wait."""
    _launch(arguments, lambda _: wait())


def _launch(arguments: tuple[str | Path, ...], follow: Callable[[Started], object]) -> None:
    # `--multi_gpu` is the launcher for GPUs; the processes find none and use the CPU. `--cpu` would start only one.
    options = ["--multi_gpu", "--num_processes", 2, "--num_machines", 1, "--mixed_precision", "no"]
    command = ["-m", "accelerate.commands.launch", *options, "--main_process_port", free_port(), *arguments]
    with started([command], stdout=None, stderr=None) as (launcher,):
        follow(launcher)
    assert launcher.returncode in (0, -signal.SIGKILL), f"accelerate launch ended with {launcher.returncode}"


def free_port() -> int:
    """Find a port that nobody is given before it is listened at: the system's own choices begin above."""
    while True:
        port = random.SystemRandom().randrange(10_000, 30_000)
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


@contextmanager
def started(
    commands: Sequence[Sequence[object]], stdout: int | None = subprocess.PIPE, stderr: int | None = subprocess.PIPE
) -> Iterator[list[Started]]:
    """Start Python once for each command, and kill what is left of them and of their workers in the end."""
    processes = [
        subprocess.Popen([sys.executable, *map(str, command)], stdout=stdout, stderr=stderr, text=True)
        for command in commands
    ]
    try:
        yield processes
    finally:
        # Each worker is the leader of its own session and would outlive its launcher.
        workers = [worker for process in processes if process.poll() is None for worker in workers_of(process)]
        for process in (*processes, *workers):
            with suppress(psutil.NoSuchProcess):  # it has ended since, as one does whose fellow was killed before it
                process.kill()
        psutil.wait_procs(workers, SECONDS)
        for process in processes:
            process.communicate()


def workers_of(process: Started) -> list[psutil.Process]:
    """Give all that a process has started, and what that has."""
    return psutil.Process(process.pid).children(recursive=True)
