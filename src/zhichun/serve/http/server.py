"""Runs the application with uvicorn: one process that uses all cores, or several."""

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI

from zhichun.core.errors import UserError
from zhichun.serve.http.app import Loads, create_app
from zhichun.serve.http.connection import Connection, allow_open_files
from zhichun.serve.http.serve_settings import ServeSettings
from zhichun.serve.http.workers import serve_by_workers
from zhichun.serve.queue.service import Service

# So many clients wait in the system's queue, and so few are taken from it at a time, lest open files run out at once.
BACKLOG, TAKEN = 2048, 64
# What the system holds of an answer that is not read; where it held it whole, nothing would be seen of slow readers.
SENT_BYTES: Final = 128 << 10
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
        raise UserError(
            f"cannot listen on {address(host, port)} ({error.strerror or error}).",
            remedy="Give another --port; --port 0 takes any that is free.",
        ) from error
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
    failures: list[Exception] = []

    def on_failure(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    app = create_app(
        load,
        settings.service(),
        keys=settings.keys,
        hosts=settings.hosts,
        log_texts=settings.log_texts,
        on_ready=on_ready,
        on_failure=on_failure,
    )
    server = uvicorn.Server(config_of(app, settings))
    for sig in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises what ended it once more, when all is done
        signal.signal(sig, _end_well)
    server.run(sockets=[Listener(fileno=sock.detach())])
    if failures:
        raise failures[0]


def worker(settings: ServeSettings, sock: socket.socket, url: str, say: Say, begin: Callable[[], None]) -> None:
    """Serve in one of several processes, which takes requests when the model is loaded; then calls ``begin``.

    Raises
    ------
    UserError
        When the model cannot be loaded, or is another than the one that the server was started with.
    """
    start_logging()
    loaded = settings.load_same()

    def on_ready(service: Service) -> None:
        begin()
        _say_ready(f"{url} (process {os.getpid()})", say, service)

    run(settings, lambda: loaded, sock, on_ready)


def config_of(app: FastAPI, settings: ServeSettings) -> uvicorn.Config:
    """Set uvicorn up."""
    return uvicorn.Config(
        app,
        http=Connection,
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,  # it would write queries, which stand in the page's addresses
        server_header=False,
        lifespan="on",
        ws="none",
        timeout_keep_alive=round(settings.limits.idle_seconds),
        timeout_graceful_shutdown=max(1, round(settings.limits.drain_seconds)),
        backlog=TAKEN,
    )


def start_logging() -> None:
    """Write the log to standard error."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)


def _say_ready(url: str, say: Say, service: Service) -> None:
    scorer = service.scorer
    say(f"{url}: {service.model} ({scorer.task.name}) is ready, by {scorer.engine_name}. Stop with Ctrl-C.")


def _end_well(_: int, __: FrameType | None) -> None:
    sys.exit(0)
