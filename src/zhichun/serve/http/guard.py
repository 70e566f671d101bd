"""Middleware for all endpoints: authentication, limits, disconnects and failures."""

import asyncio
import contextlib
import logging
import time
import traceback
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zhichun.serve.api.dialects import dialect_of
from zhichun.serve.api.refusal import Refusal, overloaded, unavailable
from zhichun.serve.http.body import Room, cut, read_body
from zhichun.serve.http.keys import Keys
from zhichun.serve.http.limits import LOOPBACK
from zhichun.serve.queue.service import Service, new_id

ALWAYS_OPEN: Final = ("/health", "/health/live", "/health/ready")
SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")
# An answer is sent in parts, the next one when the client has read most of the last, so that it is held here alone.
PART_BYTES: Final = 64 << 10
LOGGED_CHARACTERS: Final = 10_000
log = logging.getLogger("zhichun.serve")


@dataclass
class Exchange:
    """One request and its outcome, with the bytes of body and response in memory."""

    scope: Scope
    id: str
    status: int = 0
    is_answered: bool = False
    body_bytes: int = 0
    answer_bytes: int = 0

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
        self.bodies, self.answers = (Room(service.limits.held_bytes // 2) for _ in range(2))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange, began = Exchange(scope, new_id()), time.perf_counter()
        self.service.in_flight += 1
        try:
            await self._answer(exchange, receive, send)
        finally:
            self.service.in_flight -= 1
            self.bodies.free(exchange.body_bytes)
            self.answers.free(exchange.answer_bytes)
            self._note(exchange, time.perf_counter() - began)

    async def _answer(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        start: Message = {}

        async def sending(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
            else:  # all answers come whole
                await self._send(exchange, start, message.get("body", b""), send)

        try:
            self._admit(exchange)
            body = [await read_body(exchange.headers, receive, self.service.limits, self.bodies)]
            exchange.body_bytes = len(body[0])
            if self.log_texts and body[0]:
                log.info("%s %s", exchange.id, cut(body[0].decode("utf-8", "replace"), LOGGED_CHARACTERS))
            await self._run(exchange, body, receive, sending)
        except Refusal as refusal:
            await self._refuse(exchange, refusal, send)
        except Exception as error:
            self._log_fault(exchange, error)
            if not exchange.status:
                fault = Refusal(500, "Backend", f"internal server error: {exchange.id}")
                await self._refuse(exchange, fault, send)

    async def _run(self, exchange: Exchange, body: list[bytes], receive: Receive, send: Send) -> None:
        """Run the application, and stop it when the client disconnects."""

        async def replayed() -> Message:
            if not body:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": body.pop(), "more_body": False}  # which is then not held here

        async def disconnected() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        answering = asyncio.ensure_future(self.app(exchange.scope, replayed, send))
        gone = asyncio.create_task(disconnected())
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

    async def _send(self, exchange: Exchange, start: Message, body: bytes, send: Send) -> None:
        """Send an answer in parts, whose memory counts until it is read, except for small ones."""
        if len(body) > PART_BYTES and not self.answers.take(len(body)):
            message = f"answers that clients have not read yet have more than {self.answers.most} bytes."
            start, body = _message(exchange, overloaded(message, 1.0))
        exchange.answer_bytes, exchange.status = len(body) if len(body) > PART_BYTES else 0, start["status"]
        self.bodies.free(exchange.body_bytes)  # which nothing needs any more
        exchange.body_bytes = 0
        own = {name.lower(): value for name, value in start.get("headers", ())}
        await send({**start, "headers": [*(self._headers(exchange) | own).items()]})
        for at in range(0, max(1, len(body)), PART_BYTES):
            exchange.is_answered = at + PART_BYTES >= len(body)
            part = {"body": body[at : at + PART_BYTES], "more_body": not exchange.is_answered}
            await send({"type": "http.response.body", **part})

    async def _refuse(self, exchange: Exchange, refusal: Refusal, send: Send) -> None:
        await self._send(exchange, *_message(exchange, refusal), send)

    def _admit(self, exchange: Exchange) -> None:
        """Refuse unauthorised requests, and all requests while the server is not ready."""
        headers, path = exchange.headers, exchange.scope["path"]
        host = headers.get(b"host", b"").decode("latin-1").lower()
        is_safe = exchange.scope["method"] in SAFE_METHODS
        if path in ALWAYS_OPEN and is_safe:
            return
        if self.hosts is not None and _name(host) not in self.hosts:
            raise Refusal(403, "Validation", "Host header not allowed: start the server with --allow-host NAME.")
        if not is_safe and self._is_cross_origin(headers, host):
            raise Refusal(403, "Validation", "cross-origin request rejected.")
        if not self.keys.admit(headers):
            wants_page = path == "/" or b"text/html" in headers.get(b"accept", b"")
            scheme = 'Basic realm="zhichun"' if wants_page else "Bearer"
            raise Refusal(401, "Validation", "the API key is missing or wrong.", {"WWW-Authenticate": scheme})
        if self.service.phase == "loading" and path != "/metrics":
            raise unavailable("the model is being loaded.")
        if self.service.phase == "draining" and path != "/metrics":
            raise unavailable("the server is shutting down.")

    def _is_cross_origin(self, headers: dict[bytes, bytes], host: str) -> bool:
        """Return whether a page of another origin makes a request, by what its browser says."""
        if b"sec-fetch-site" in headers:  # no page can write it, and no proxy needs to
            return headers[b"sec-fetch-site"] not in (b"same-origin", b"none")
        try:
            origin = urlsplit(headers.get(b"origin", b"").decode("latin-1").lower())
        except ValueError:
            return True
        is_ours = origin.netloc == host or (self.hosts is not None and _name(origin.netloc) in self.hosts - LOOPBACK)
        return b"origin" in headers and not is_ours

    def _headers(self, exchange: Exchange) -> dict[bytes, bytes]:
        headers = {b"x-request-id": exchange.id.encode(), b"x-content-type-options": b"nosniff"}
        return {**headers, b"connection": b"close"} if self.service.phase == "draining" else headers

    def _note(self, exchange: Exchange, seconds: float) -> None:
        route, status = exchange.route, exchange.status or 499  # 499: the client disconnected before the answer
        self.service.metrics.requests.labels(path=route, status=str(status)).inc()
        self.service.metrics.seconds.labels(path=route).observe(seconds)
        log.info("%s %s %s %d %.1f ms", exchange.id, cut(exchange.scope["method"], 20), route, status, seconds * 1000)

    def _log_fault(self, exchange: Exchange, error: Exception) -> None:
        """Write where it happened; what it says may hold texts."""
        where = "".join(traceback.format_tb(error.__traceback__))
        said = f": {cut(str(error), LOGGED_CHARACTERS)}" if self.log_texts else ""
        log.error("%s failed with %s%s\n%s", exchange.id, type(error).__name__, said, where)


def _name(host: str) -> str:
    """Remove the port from a host."""
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


def _message(exchange: Exchange, refusal: Refusal) -> tuple[Message, bytes]:
    response = dialect_of(exchange.scope["path"]).response(refusal)
    start = {"type": "http.response.start", "status": refusal.status, "headers": response.raw_headers}
    return start, bytes(response.body)
