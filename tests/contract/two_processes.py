"""Starts a script or module in two processes, as `accelerate launch` does on two GPUs."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

SECONDS = 180


def run_in_two(*arguments: str | Path) -> None:
    """Run `accelerate launch ARGUMENT...` to its end."""
    _launch(arguments, lambda launcher: launcher.wait(SECONDS))


def kill_in_two(wait: Callable[[], None], *arguments: str | Path) -> None:
    """Begin `accelerate launch ARGUMENT...` and kill all its processes at once after a wait."""
    _launch(arguments, lambda _: wait())


def _launch(arguments: tuple[str | Path, ...], follow: Callable[[subprocess.Popen[bytes]], object]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    # `--multi_gpu` is the launcher for GPUs; the processes find none and use the CPU. `--cpu` would start only one.
    options = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *options, "--main_process_port", port, *arguments]
    with subprocess.Popen(command) as launcher:
        try:
            follow(launcher)
        finally:
            # Each worker is the leader of its own session and would outlive the launcher.
            workers = psutil.Process(launcher.pid).children(recursive=True) if launcher.poll() is None else []
            for process in (launcher, *workers):
                process.kill()
            psutil.wait_procs(workers, SECONDS)
    assert launcher.returncode in (0, -signal.SIGKILL), f"accelerate launch ended with {launcher.returncode}"
