"""Runs the application with uvicorn: one process that uses all cores, or several.

On top of uvicorn's are limits of connections: of their number, and of their patience with slow clients.

Of several processes that serve one socket each is started again when it dies, and none outlives its parent.
"""

import asyncio
import heapq
import logging
import multiprocessing
import os
import resource
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from operator import attrgetter
from types import FrameType
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.protocols.http.h11_impl import H11Protocol

from zhichun.core.errors import UserError
from zhichun.score.engine import threads
from zhichun.score.folders import fingerprint_of
from zhichun.serve.app import Loads, ServeSettings, create_app
from zhichun.serve.limits import FOLDER_VARIABLE, Limits
from zhichun.serve.service import Service

POLL_SECONDS, RESTART_SECONDS, END_SECONDS = 0.2, 1.0, 10.0
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
            while not ending.wait(POLL_SECONDS):
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


# So many clients wait in the system's queue, and so few are taken from it at a time, lest open files run out at once.
BACKLOG, TAKEN = 2048, 64
# New requests are told so for a moment at least, which lets balancers see that the server is not ready any more.
LEAST_DRAIN_SECONDS: Final = 0.5
# What the system holds of an answer that is not read; where it held it whole, nothing would be seen of slow readers.
SENT_BYTES: Final = 128 << 10
WATCH_SECONDS: Final = 1.0
# What one connection holds of an answer that is not read yet; the rest waits where it is counted.
UNSENT_BYTES: Final = 32 << 10
MADE_ROOM: Final = 16  # of so many idle connections one is cut off
OPEN_FILES: Final = 1 << 16
BUSY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 38\r\n\r\nthe server has too many connections.\r\n"
)
Say = Callable[[str], None]


class Listener(socket.socket):
    """A socket with a long queue, from which asyncio takes no more clients at a time than it is told as `backlog`."""

    def listen(self, backlog: int = BACKLOG, /) -> None:
        """Listen with the long queue."""
        super().listen(BACKLOG)


def serve(settings: ServeSettings, say: Say) -> None:
    """Serve until a signal comes.

    Parameters
    ----------
    settings
        What is served.
    say
        Told where the server is and what it serves.

    Raises
    ------
    UserError
        When the address is taken, or the model cannot be loaded.
    """
    settings.check()
    start_logging()
    allow_open_files()
    with listening(settings.host, settings.port) as sock:
        url = address(settings.host, sock.getsockname()[1])
        say(f"{url}: listening; the model {settings.run} is being loaded")
        if settings.workers > 1:
            serve_by_workers(partial(worker, settings, sock, url, say), settings.workers, settings.limits.drain_seconds)
        else:
            run(settings, settings.load, sock, partial(_say_ready, url, say))


def listening(host: str, port: int) -> socket.socket:
    """Listen on an address."""
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.create_server((str(place[0]), port), family=family, backlog=BACKLOG)
    except OSError as error:
        problem = f"cannot listen on {address(host, port)} ({error.strerror or error})."
        raise UserError(problem, remedy="Give another --port; --port 0 takes any that is free.") from error
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SENT_BYTES)  # which its connections inherit
    return sock


def address(host: str, port: int) -> str:
    """Write where a server is."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def run(settings: ServeSettings, load: Loads, sock: socket.socket, on_ready: Callable[[Service], None]) -> None:
    """Serve in this process.

    Raises
    ------
    Exception
        What loading the model did.
    """
    service = settings.service()
    app = create_app(
        load, service, keys=settings.keys, hosts=settings.hosts, log_texts=settings.log_texts, on_ready=on_ready
    )
    Server(app, settings, service).run(sockets=[Listener(fileno=sock.detach())])
    if service.failure is not None:
        raise service.failure


class Server(uvicorn.Server):
    """Drains requests on the first signal and then ends, on the second one at once; ends without a model, too."""

    def __init__(self, app: FastAPI, settings: ServeSettings, service: Service) -> None:
        self.service, self.drain_seconds, self._draining_since = service, settings.limits.drain_seconds, 0.0
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                log_config=None,
                log_level=logging.WARNING,
                access_log=False,  # it would write queries, which stand in the page's addresses
                server_header=False,
                lifespan="on",
                ws="none",
                timeout_keep_alive=round(settings.limits.idle_seconds),
                timeout_graceful_shutdown=max(1, round(self.drain_seconds)),
                backlog=TAKEN,
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal."""
        if self.service.phase == "draining":
            self.should_exit = True
            self.config.timeout_graceful_shutdown = 0
        else:
            self.service.phase, self._draining_since = "draining", time.monotonic()

    async def on_tick(self, counter: int) -> bool:
        """Return whether to end."""
        ends = await super().on_tick(counter) or self.service.phase == "failed"
        seconds = time.monotonic() - self._draining_since
        drained = not self.service.in_flight and seconds > LEAST_DRAIN_SECONDS
        return ends or (self.service.phase == "draining" and (drained or seconds > self.drain_seconds))


def worker(settings: ServeSettings, sock: socket.socket, url: str, say: Say, begin: Callable[[], None]) -> None:
    """Serve in one of several processes, which takes requests when the model is loaded; then calls ``begin``.

    Raises
    ------
    UserError
        When the model cannot be loaded, or is another than the one that the server was started with.
    """
    start_logging()
    loaded = settings.load()
    if fingerprint_of(settings.run) != settings.fingerprint:  # which came with the settings
        problem = "holds another model than the one that the server was started with."
        raise UserError(problem, file=settings.run, remedy="Start the server again to serve it, or put the model back.")

    def on_ready(service: Service) -> None:
        begin()
        _say_ready(f"{url} (process {os.getpid()})", say, service)

    run(settings, lambda: loaded, sock, on_ready)


class Connection(H11Protocol):
    """One connection. Its limits come from the application, by the state of its lifespan.

    A client that sends half a request head, or does not read its answer, is cut off after some seconds. Where there
    are as many connections as there may be, the one that has waited longest without a request makes room for a new one.
    """

    _phase: tuple[str, Any] = ("", None)
    _since = 0.0
    _watching: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, or answer that there are too many."""
        self.transport, self.limits = transport, self.app_state["limits"]
        if len(self.connections) >= most_connections(self.limits) and not self._make_room():
            transport.write(BUSY)
            transport.close()
            return
        super().connection_made(transport)
        transport.set_write_buffer_limits(UNSENT_BYTES)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if self._watching is not None:
            self._watching.cancel()
        super().connection_lost(exc)

    @property
    def is_idle(self) -> bool:
        """Whether it is idle, or waits for the rest of the headers."""
        return self.cycle is None or self.cycle.response_complete

    def _watch(self) -> None:
        now, limits = self.loop.time(), self.limits
        answering = self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        if answering or self.transport.get_write_buffer_size():
            phase, seconds = "answer", limits.answer_seconds
        elif self.is_idle:
            phase, seconds = "head", limits.head_seconds if self.cycle is None else limits.idle_seconds
        else:  # which has limits of its own, in which it is refused with a reason
            phase, seconds = "request", float("inf")
        if (phase, self.cycle) != self._phase:
            self._phase, self._since = (phase, self.cycle), now
        elif now - self._since > seconds:
            if phase == "answer":  # which is then gone from the system's memory, too
                linger = struct.pack("ii", 1, 0)
                self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.transport.abort()
        self._watching = self.loop.call_later(WATCH_SECONDS, self._watch)

    def _make_room(self) -> bool:
        idle = [each for each in self.connections if isinstance(each, Connection) and each.is_idle]
        longest = heapq.nsmallest(1 + len(idle) // MADE_ROOM, idle, key=attrgetter("_since"))
        for each in longest:  # several at once, since looking for them takes its time
            self.connections.discard(each)
            each.transport.abort()
        return bool(longest)


def most_connections(limits: Limits) -> int:
    """Return how many connections this process may have: half of its open files at most."""
    return min(limits.connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)


def allow_open_files() -> None:
    """Raise the limit of open files to the system's maximum."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = OPEN_FILES if most == resource.RLIM_INFINITY else min(most, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def start_logging() -> None:
    """Write the log to standard error."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)


def _say_ready(url: str, say: Say, service: Service) -> None:
    scorer = service.scorer
    say(f"{url}: {service.model} ({scorer.task.name}) is ready, by {scorer.engine_name}. Stop with Ctrl-C.")
