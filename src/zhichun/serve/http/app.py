"""The application: endpoints around a service, with errors in the words of each interface."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

from fastapi import Depends, FastAPI
from fastapi.security import APIKeyHeader, HTTPBearer

import zhichun
from zhichun.core.errors import UserError
from zhichun.score.scorer import PairScorer
from zhichun.serve.api.dialects import api_router
from zhichun.serve.http.draining import draining_on_signals
from zhichun.serve.http.error_replies import answer_errors
from zhichun.serve.http.guard import Guard
from zhichun.serve.http.keys import OPEN, Keys
from zhichun.serve.page import page_router
from zhichun.serve.page.catalogue_search import Catalogue
from zhichun.serve.queue.service import Service

Loads = Callable[[], tuple[PairScorer, Catalogue | None]]
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
    """Make the application.

    Parameters
    ----------
    load
        Loads the model and, where there is one, the catalogue; is called in a thread when the application starts.
    service
        Model name, limits and counts.
    keys
        That open the server; none leaves it open.
    hosts
        Names under which it may be called, without ports; ``None`` takes any.
    log_texts
        Whether the log may hold texts of requests.
    on_ready, on_failure
        Called when the model is loaded, or cannot be.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(_load(app, load, service, on_ready, on_failure))
        with draining_on_signals(service):
            yield
        loading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loading
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
    """Put the page at ``/``, which shows what the model that is loaded now does."""
    engine = service.scorer.engine_name
    page = page_router(service.rank, service.catalogue, task=service.task, model=service.model, engine=engine)
    app.include_router(page)
