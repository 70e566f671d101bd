"""The application: endpoints of a service, with errors in each API's form.

The settings of `zhichun serve` can be passed to worker processes.
"""

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from fastapi import Depends, FastAPI, Request, Response
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.exceptions import HTTPException

import zhichun
from zhichun.core.errors import UserError
from zhichun.core.settings import require_range
from zhichun.data.readers.rejected import OnBadRows
from zhichun.score.folders import fingerprint_of
from zhichun.score.scorer import PairScorer, load_scorer
from zhichun.serve.api.dialects import api_router, dialect_of, unknown_path
from zhichun.serve.api.endpoint import DIALECT, Dialect
from zhichun.serve.catalogue_search import Catalogue
from zhichun.serve.guard import LOOPBACK, OPEN, VARIABLE, Guard, Keys
from zhichun.serve.limits import Limits, Refusal
from zhichun.serve.search_page import page_router
from zhichun.serve.service import Service

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


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """What is served, where, and to whom.

    Parameters
    ----------
    run
        Folder of `zhichun train`, `zhichun export` or `zhichun ensemble`.
    products, columns
        Catalogue whose products are found by id and by the page, and its own column names; states are taken from an
        index of `zhichun index`.
    on_bad_rows
        Whether products that cannot be used stop the server (``fail``) or are left out (``drop``).
    locale
        Of requests that name none.
    engine
        The engine, as for `Scorer.load`.
    name
        Of the model, for clients; the folder's if not given.
    host, port
        Where the server listens; port 0 is any that is free.
    allowed_hosts
        Further names under which a server without keys may be called.
    workers
        Processes.
    keys
        That open it.
    limits
        Of requests, queue and cache.
    log_texts
        Whether to log texts of requests.
    """

    run: Path
    products: Path | None = None
    columns: dict[str, str] = field(default_factory=dict)
    on_bad_rows: OnBadRows = "fail"
    locale: str = "us"
    engine: str = "auto"
    name: str | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    allowed_hosts: tuple[str, ...] = ()
    workers: int = 1
    keys: Keys = OPEN
    limits: Limits = field(default_factory=Limits)
    log_texts: bool = False

    def __post_init__(self) -> None:
        require_range(self, "port", least=0, most=65535)
        require_range(self, "workers", least=1)

    def check(self) -> None:
        """Refuse invalid or unsafe settings before loading.

        Raises
        ------
        UserError
            When there is no such model, or the server would be open to others without a key.
        """
        if not is_loopback(self.host) and not self.keys:
            remedy = f"Give --api-keys FILE or {VARIABLE}, or leave --host out to serve this machine alone."
            raise UserError(f"a server on {self.host} is open to others and needs API keys.", remedy=remedy)
        _ = self.fingerprint  # which is refused where there is no model

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the model's files.

        Raises
        ------
        UserError
            When there is no such model.
        """
        return fingerprint_of(self.run)

    @property
    def hosts(self) -> frozenset[str] | None:
        """Names under which the server may be called; any, where keys protect it."""
        if self.keys:
            return None
        host = f"[{self.host}]" if ":" in self.host else self.host
        return LOOPBACK | {host.lower()} | {name.lower() for name in self.allowed_hosts}

    def service(self) -> Service:
        """Make the service, not loaded yet."""
        return Service(self.name or self.run.resolve().name, self.locale, self.limits, self.fingerprint)

    def load(self) -> tuple[PairScorer, Catalogue | None]:
        """Load the model and the catalogue."""
        scorer = load_scorer(self.run, engine=self.engine, products=self.products).remembering()
        scorer.score("warm", ["up"], self.locale)  # what is made when it is first needed is made now
        if self.products is None:
            return scorer, None
        catalogue = Catalogue.open(
            self.products,
            columns=self.columns or None,
            locale=self.locale,
            on_bad_rows=self.on_bad_rows,
            own=scorer.own,
        )
        return scorer, catalogue


def is_loopback(host: str) -> bool:
    """Return whether a server on a host is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
