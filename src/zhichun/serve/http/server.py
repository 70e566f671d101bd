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
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from zhichun.core.errors import UserError
from zhichun.score.engines.engine import threads
from zhichun.serve.http.app import create_app
from zhichun.serve.http.serve_settings import ServeSettings
from zhichun.serve.queue.service import Service

BACKLOG: Final = 2048
KEEP_ALIVE_SECONDS: Final = 30
Say = Callable[[str], None]


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
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    with listening(settings.host, settings.port) as sock:
        url = address(settings.host, sock.getsockname()[1])
        say(f"{url}: listening; the model {settings.run} is being loaded")
        if settings.workers > 1:
            _serve_by_workers(settings, sock, url, say)
        else:
            _serve_here(settings, sock, url, say)


def listening(host: str, port: int) -> socket.socket:
    """Listen on an address.

    Raises
    ------
    UserError
        When it is taken, or none of this machine's.
    """
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((str(place[0]), port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise UserError(
            f"cannot listen on {address(host, port)} ({error.strerror or error}).",
            remedy="Give another --port; --port 0 takes any that is free.",
        ) from error


def address(host: str, port: int) -> str:
    """Write where a server is."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _serve_here(settings: ServeSettings, sock: socket.socket, url: str, say: Say) -> None:
    failures: list[Exception] = []

    def on_failure(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    app = create_app(
        settings.load,
        settings.service(),
        keys=settings.keys,
        hosts=settings.hosts,
        log_texts=settings.log_texts,
        on_ready=partial(_say_ready, url, say),
        on_failure=on_failure,
    )
    server = uvicorn.Server(config_of(app, settings))
    for sig in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises what ended it once more, when all is done
        signal.signal(sig, _end_well)
    server.run(sockets=[sock])
    if failures:
        raise failures[0]


def _serve_by_workers(settings: ServeSettings, sock: socket.socket, url: str, say: Say) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, threads() // settings.workers)))
    config = config_of(partial(worker_app, settings, url, say), settings)
    supervisor = Multiprocess(config, sockets=[sock])
    supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        sys.exit(1)  # the worker said why


def worker_app(settings: ServeSettings, url: str, say: Say) -> FastAPI:
    """Make the application of one of several processes, whose model is loaded at once."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        loaded = settings.load()
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(STARTUP_FAILURE)
    return create_app(
        lambda: loaded,
        settings.service(),
        keys=settings.keys,
        hosts=settings.hosts,
        log_texts=settings.log_texts,
        on_ready=partial(_say_ready, f"{url} (process {os.getpid()})", say),
    )


def config_of(app: Callable[..., object], settings: ServeSettings) -> uvicorn.Config:
    """Set uvicorn up."""
    return uvicorn.Config(
        app,
        factory=settings.workers > 1,
        workers=settings.workers,
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,  # it would write queries, which stand in the page's addresses
        server_header=False,
        lifespan="on",
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(settings.limits.drain_seconds)),
        backlog=BACKLOG,
    )


def _say_ready(url: str, say: Say, service: Service) -> None:
    scorer = service.scorer
    say(f"{url}: {service.model} ({scorer.task.name}) is ready, by {scorer.engine_name}. Stop with Ctrl-C.")


def _end_well(_: int, __: FrameType | None) -> None:
    sys.exit(0)
