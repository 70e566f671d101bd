"""What stands before every endpoint: who may ask, how much, and what happens when a client goes or something breaks."""

import asyncio
import contextlib
import json
import logging
import time
import traceback
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zhichun.serve.api.dialects import dialect_of, error_body
from zhichun.serve.api.refusal import Refusal, unavailable
from zhichun.serve.http.body import BodyReader
from zhichun.serve.http.keys import Keys
from zhichun.serve.queue.service import Service, new_id

ALWAYS_OPEN: Final = ("/health", "/health/live", "/health/ready")
SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")
log = logging.getLogger("zhichun.serve")


@dataclass
class Exchange:
    """One request and what became of it."""

    scope: Scope
    id: str
    status: int = 0
    is_answered: bool = False

    @property
    def headers(self) -> dict[bytes, bytes]:
        """Headers of the request."""
        return dict(self.scope["headers"])

    @property
    def route(self) -> str:
        """The path as it is declared, so that what a client makes up is neither counted nor logged."""
        return getattr(self.scope.get("route"), "path", None) or "other"


class Guard:
    """Lets requests through to the application, or answers them itself.

    Parameters
    ----------
    app
        The application.
    service
        Whose phase, limits and counts are meant.
    keys
        That open it.
    hosts
        Names under which it is called; ``None`` where any will do. A page of another site that gives itself our
        address by its DNS has another name.
    log_texts
        Whether bodies may be logged.
    """

    def __init__(
        self, app: ASGIApp, service: Service, keys: Keys, hosts: frozenset[str] | None, log_texts: bool
    ) -> None:
        self.app, self.service, self.keys, self.hosts, self.log_texts = app, service, keys, hosts, log_texts
        self.bodies = BodyReader(service.limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        exchange, began = Exchange(scope, new_id()), time.perf_counter()
        self.service.in_flight += 1
        try:
            await self._answer(exchange, receive, send)
        finally:
            self.service.in_flight -= 1
            self._note(exchange, time.perf_counter() - began)

    async def _answer(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                own = list(message.get("headers", ()))
                known = {name.lower() for name, _ in own}
                message["headers"] = own + [header for header in self._headers(exchange) if header[0] not in known]
            exchange.is_answered = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        held = 0
        try:
            self._admit(exchange)
            body = await self.bodies.read(exchange.headers, receive)
            held = len(body)
            if self.log_texts and body:
                log.info("%s %s", exchange.id, body.decode("utf-8", "replace"))
            await self._run(exchange, body, receive, sending)
        except Refusal as refusal:
            await _refuse(exchange, refusal, sending)
        except Exception as error:
            self._log_fault(exchange, error)
            if not exchange.status:
                await _refuse(exchange, Refusal(500, "Backend", f"a fault of the server: {exchange.id}"), sending)
        finally:
            self.bodies.free(held)

    async def _run(self, exchange: Exchange, body: bytes, receive: Receive, send: Send) -> None:
        """Run the application, and stop it when the client goes."""
        given = False

        async def replayed() -> Message:
            nonlocal given
            if given:
                await asyncio.Event().wait()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def run() -> None:
            await self.app(exchange.scope, replayed, send)

        answering = asyncio.create_task(run())
        gone = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait((answering, gone), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done() and not exchange.is_answered:  # a whole answer ends what is received, too
                self.service.metrics.disconnects.inc()
                answering.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await answering
        finally:
            answering.cancel()
            gone.cancel()

    def _admit(self, exchange: Exchange) -> None:
        """Refuse who may not ask, and all while the server is not ready."""
        headers, path = exchange.headers, exchange.scope["path"]
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if self.hosts is not None and _name(host) not in self.hosts:
            raise Refusal(403, "Validation", "this server is not called so; --allow-host NAME lets a name in.")
        if exchange.scope["method"] not in SAFE_METHODS and _is_from_elsewhere(headers, host):
            raise Refusal(403, "Validation", "a page of another site may not ask.")
        if path in ALWAYS_OPEN:
            return
        if not self.keys.admit(headers):
            wants_page = path == "/" or b"text/html" in headers.get(b"accept", b"")
            scheme = 'Basic realm="zhichun"' if wants_page else "Bearer"
            raise Refusal(401, "Validation", "the API key is missing or wrong.", {"WWW-Authenticate": scheme})
        if self.service.phase == "loading" and path != "/metrics":
            raise unavailable("the model is being loaded.")
        if self.service.phase == "draining" and path != "/metrics":
            raise unavailable("the server is ending.")

    def _headers(self, exchange: Exchange) -> list[tuple[bytes, bytes]]:
        headers = [(b"x-request-id", exchange.id.encode()), (b"x-content-type-options", b"nosniff")]
        return [*headers, (b"connection", b"close")] if self.service.phase == "draining" else headers

    def _note(self, exchange: Exchange, seconds: float) -> None:
        route, status = exchange.route, exchange.status or 499  # 499: the client went before the answer
        self.service.metrics.requests.labels(path=route, status=str(status)).inc()
        self.service.metrics.seconds.labels(path=route).observe(seconds)
        log.info("%s %s %s %d %.1f ms", exchange.id, exchange.scope["method"], route, status, seconds * 1000)

    def _log_fault(self, exchange: Exchange, error: Exception) -> None:
        """Write where it happened; what it says may hold texts."""
        where = "".join(traceback.format_tb(error.__traceback__))
        said = f": {error}" if self.log_texts else ""
        log.error("%s failed with %s%s\n%s", exchange.id, type(error).__name__, said, where)


def _name(host: str) -> str:
    """Take the port off a host."""
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


def _is_from_elsewhere(headers: dict[bytes, bytes], host: str) -> bool:
    if headers.get(b"sec-fetch-site") == b"cross-site":
        return True
    origin = headers.get(b"origin")
    if origin is None:
        return False
    try:
        return urlsplit(origin.decode("latin-1").lower()).netloc != host
    except ValueError:
        return True


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(exchange: Exchange, refusal: Refusal, send: Send) -> None:
    said: dict[str, Any] = error_body(dialect_of(exchange.scope["path"]), refusal.kind, refusal.message, refusal.status)
    body = json.dumps(said).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in refusal.headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
