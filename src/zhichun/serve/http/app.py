"""The application: endpoints of a service, with errors in each API's form."""

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from types import FrameType
from typing import Any, Final

from fastapi import Depends, FastAPI, Request, Response
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.exceptions import HTTPException

import zhichun
from zhichun.core.errors import UserError
from zhichun.score.scorer import PairScorer
from zhichun.serve.api.dialects import api_router, dialect_of, unknown_path
from zhichun.serve.api.refusal import Refusal
from zhichun.serve.http.guard import Guard
from zhichun.serve.http.keys import OPEN, Keys
from zhichun.serve.page import page_router
from zhichun.serve.page.catalogue_search import Catalogue
from zhichun.serve.queue.service import Service

Loads = Callable[[], tuple[PairScorer, Catalogue | None]]
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
# New requests are told so for a moment at least, which lets balancers see that the server is not ready any more.
LEAST_DRAIN_SECONDS: Final = 0.5
log = logging.getLogger("zhichun.serve")


def create_app(
    load: Loads,
    service: Service,
    *,
    keys: Keys = OPEN,
    hosts: frozenset[str] | None = None,
    log_texts: bool = False,
    on_ready: Callable[[Service], None] = lambda service: None,
    on_failure: Callable[[Exception], None] = lambda error: None,
) -> FastAPI:
    """Make the application."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        tasks = (_load(app, load, service, on_ready, on_failure), service.metrics.refreshed())
        working = [asyncio.create_task(task) for task in tasks]
        with draining_on_signals(service):
            yield {"limits": service.limits}  # which each connection reads
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        await service.close()

    app = FastAPI(
        title="zhichun",
        version=zhichun.__version__,
        description="Relevance of products to a query. Scores are expected gains.",
        docs_url=None,  # these pages fetch their scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        dependencies=[Depends(HTTPBearer(auto_error=False)), Depends(APIKeyHeader(name="X-API-Key", auto_error=False))]
        if keys
        else [],
    )
    app.state.limits = service.limits
    app.include_router(api_router(service))
    app.add_middleware(Guard, service=service, keys=keys, hosts=hosts, log_texts=log_texts)
    answer_errors(app)
    return app


async def _load(
    app: FastAPI,
    load: Loads,
    service: Service,
    on_ready: Callable[[Service], None],
    on_failure: Callable[[Exception], None],
) -> None:
    try:
        scorer, catalogue = await asyncio.to_thread(load)
    except Exception as error:
        service.phase = "failed"
        if not isinstance(error, UserError):
            log.exception("the model could not be loaded")
        on_failure(error)
        return
    service.open(scorer, catalogue)
    _add_page(app, service)
    on_ready(service)


def _add_page(app: FastAPI, service: Service) -> None:
    """Mount the page at ``/`` for the loaded model."""
    engine = service.scorer.engine_name
    page = page_router(service.rank, service.catalogue, task=service.task, model=service.model, engine=engine)
    app.include_router(page)


@contextlib.contextmanager
def draining_on_signals(service: Service) -> Iterator[None]:
    """On the first signal drain requests and then stop; a second one stops at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, before = asyncio.get_running_loop(), {sig: signal.getsignal(sig) for sig in SIGNALS}

    def handle(sig: int, frame: FrameType | None) -> None:
        end: Any = before[signal.Signals(sig)]
        if service.phase == "draining":
            end(sig, frame)
        else:
            service.phase = "draining"
            loop.call_soon_threadsafe(lambda: tasks.append(loop.create_task(_drain(service, lambda: end(sig, None)))))

    tasks: list[asyncio.Task[None]] = []
    for sig in SIGNALS:
        signal.signal(sig, handle)
    try:
        yield
    finally:
        for sig, handler in before.items():
            signal.signal(sig, handler)


async def _drain(service: Service, end: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    least, latest = loop.time() + LEAST_DRAIN_SECONDS, loop.time() + service.limits.drain_seconds
    while loop.time() < latest and (service.in_flight or loop.time() < least):
        await asyncio.sleep(0.02)
    end()


KNOWN: Final = {405: "this path has no such method."}


def answer_errors(app: FastAPI) -> None:
    """Add handlers for refusals, unknown paths and methods."""
    app.add_exception_handler(Refusal, _on_refusal)
    app.add_exception_handler(HTTPException, _on_http_error)


async def _on_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return dialect_of(request.url.path).response(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return dialect_of(request.url.path).response(unknown_path())
    message = KNOWN.get(error.status_code, str(error.detail))
    return dialect_of(request.url.path).response(Refusal(error.status_code, "Validation", message, error.headers))
