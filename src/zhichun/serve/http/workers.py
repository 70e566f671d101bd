"""Several processes that serve one socket: each is started again when it dies, and none outlives its parent."""

import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from typing import Any

from prometheus_client.multiprocess import mark_process_dead

from zhichun.core.errors import UserError
from zhichun.score.engines.engine import threads
from zhichun.serve.http.counters import FOLDER_VARIABLE

WATCH_SECONDS, RESTART_SECONDS, END_SECONDS = 0.2, 1.0, 10.0
Worker = Callable[[Callable[[], None]], None]
log = logging.getLogger("zhichun.serve")


def serve_by_workers(worker: Worker, count: int, drain_seconds: float) -> None:
    """Let processes work until a signal comes; a second one does not let them end what they have begun."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, threads() // count)))
    spawn, ending = multiprocessing.get_context("spawn"), threading.Event()
    begun = spawn.Event()
    workers: list[SpawnProcess] = []

    def start() -> SpawnProcess:
        process = spawn.Process(target=_work, args=(worker, begun))
        process.start()
        return process

    def end(*_: Any) -> None:
        if ending.is_set():
            _terminate(workers)
        ending.set()

    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, end)
    with tempfile.TemporaryDirectory(prefix="zhichun-counts-") as folder:
        os.environ[FOLDER_VARIABLE] = folder
        try:
            workers += [start() for _ in range(count)]
            while not ending.wait(WATCH_SECONDS):
                for place, process in enumerate(workers):
                    if process.is_alive():
                        continue
                    mark_process_dead(process.pid, folder)  # type: ignore[no-untyped-call]
                    if not begun.is_set():
                        sys.exit(1)  # none has served yet, and this one said why
                    log.error("worker %d died (exit status %s); another is started", process.pid, process.exitcode)
                    if not ending.wait(RESTART_SECONDS):
                        workers[place] = start()
        finally:
            _terminate(workers)
            for process in workers:
                process.join(drain_seconds + END_SECONDS)
                process.kill()
                process.join()


def _terminate(workers: list[SpawnProcess]) -> None:
    for process in workers:
        process.terminate()


def _work(worker: Worker, begun: Event) -> None:
    os.setpgrp()  # Ctrl-C is for the parent, which passes it on
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        worker(begun.set)
    except UserError as error:
        sys.exit(f"error: {error}")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
