"""The application: endpoints of a service, with errors in each API's form."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from fastapi import Depends, FastAPI, Request, Response
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.exceptions import HTTPException

import zhichun
from zhichun.core.errors import UserError
from zhichun.score.scorer import PairScorer
from zhichun.serve.api.dialects import api_router, dialect_of, unknown_path
from zhichun.serve.api.endpoint import DIALECT, Dialect
from zhichun.serve.http.admission import OPEN, Keys
from zhichun.serve.http.guard import Guard
from zhichun.serve.http.limits import Refusal
from zhichun.serve.page.catalogue_search import Catalogue
from zhichun.serve.page.router import page_router
from zhichun.serve.queue.service import Service

Loads = Callable[[], tuple[PairScorer, Catalogue | None]]
KNOWN: Final = {405: "this path has no such method."}
log = logging.getLogger("zhichun.serve")


def create_app(
    load: Loads,
    service: Service,
    *,
    keys: Keys = OPEN,
    hosts: frozenset[str] | None = None,
    log_texts: bool = False,
    on_ready: Callable[[Service], None] = lambda service: None,
) -> FastAPI:
    """Make the application, which loads its model when it starts."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        tasks = _load(app, load, service, on_ready), service.metrics.refreshed()
        working = [asyncio.create_task(task) for task in tasks]
        yield {"limits": service.limits}  # which each connection reads
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        await service.close()

    schemes = (HTTPBearer(auto_error=False), APIKeyHeader(name="X-API-Key", auto_error=False)) if keys else ()
    app = FastAPI(
        title="zhichun",
        version=zhichun.__version__,
        description="Relevance of products to a query. Scores are expected gains.",
        docs_url=None,  # these pages fetch their scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        dependencies=[Depends(scheme) for scheme in schemes],
    )
    app.include_router(api_router(service))
    app.add_middleware(Guard, service=service, keys=keys, hosts=hosts, log_texts=log_texts)
    answer_errors(app)
    return app


async def _load(app: FastAPI, load: Loads, service: Service, on_ready: Callable[[Service], None]) -> None:
    try:
        scorer, catalogue = await asyncio.to_thread(load)
    except Exception as error:
        service.fail(error)
        if not isinstance(error, UserError):
            log.exception("the model could not be loaded")
        return
    service.open(scorer, catalogue)
    app.include_router(page_router(service))
    on_ready(service)


def answer_errors(app: FastAPI) -> None:
    """Answer refusals, unknown paths and methods in the dialect of the request."""
    app.add_exception_handler(Refusal, _on_refusal)
    app.add_exception_handler(HTTPException, _on_http_error)


async def _on_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    dialect: Dialect = request.scope.get(DIALECT) or dialect_of(request.url.path)
    return dialect.response(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = KNOWN.get(error.status_code, str(error.detail))
    refusal = Refusal(error.status_code, "Validation", message, error.headers)
    return await _on_refusal(request, unknown_path() if error.status_code == 404 else refusal)
