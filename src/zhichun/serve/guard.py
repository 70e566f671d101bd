"""Middleware for all endpoints: who may ask, bodies and answers in bounded memory, disconnects and failures.

Callers with a key may ask, by a name of this server, and no page of another origin.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import logging
import os
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zhichun.core.errors import UserError
from zhichun.data.readers.text_file import TextFile
from zhichun.serve.api.dialects import dialect_of
from zhichun.serve.limits import Refusal, cut, overloaded, too_large, unavailable
from zhichun.serve.service import LARGE_BYTES, Service, new_id

VARIABLE: Final = "ZHICHUN_API_KEYS"
# Names of this machine for itself.
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
ALWAYS_OPEN: Final = ("/health", "/health/live", "/health/ready")
SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Keys:
    """API keys, compared in constant time; none means no authentication.

    Parameters
    ----------
    hashes
        SHA-256 of each.
    """

    hashes: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, keys: Iterable[str]) -> Self:
        """Take keys as they are written."""
        return cls(tuple(dict.fromkeys(_hash(key.encode()) for key in keys)))

    @classmethod
    def load(cls, file: Path | None, environment: Mapping[str, str] = os.environ) -> Self:
        """Read keys from a file, one on each line, and from ``ZHICHUN_API_KEYS``, separated by commas.

        Raises
        ------
        UserError
            When the file cannot be read or holds no key.
        """
        keys = [key.strip() for key in environment.get(VARIABLE, "").split(",")]
        if file is not None:
            lines = [line.strip() for _, line in TextFile(file).lines()]
            found = [line for line in lines if line and not line.startswith("#")]
            if not found:
                raise UserError("there is no key in it.", file=file, remedy="Write one key on each line.")
            keys += found
        return cls.of(filter(None, keys))

    def __bool__(self) -> bool:
        return bool(self.hashes)

    def admit(self, headers: Mapping[str, str]) -> bool:
        """Return whether headers carry one of the keys, in any of the ways in which clients send it."""
        given = [_hash(key) for key in _given(headers)]
        return not self or any(hmac.compare_digest(key, known) for key in given for known in self.hashes)


def _given(headers: Mapping[str, str]) -> Iterator[bytes]:
    """Return the keys of a request: ``X-API-Key``, ``Authorization: Bearer``, ``Basic`` (the password)."""
    if "x-api-key" in headers:
        yield headers["x-api-key"].strip().encode("latin-1")
    scheme, _, value = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer":
        yield value.strip().encode("latin-1")
    elif scheme.lower() == "basic":
        with suppress(ValueError):
            yield base64.b64decode(value.strip(), validate=True).partition(b":")[2]


def _hash(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


OPEN: Final = Keys()


def admit(request: HTTPConnection, keys: Keys, hosts: frozenset[str] | None) -> None:
    """Let a request in.

    Parameters
    ----------
    request
        Its method, path and headers.
    keys
        That open the server.
    hosts
        Names under which it is called; ``None`` where any will do. A page of another site that gives itself our
        address by its DNS has another name.

    Raises
    ------
    Refusal
        When it comes from elsewhere, or without a key.
    """
    headers, path = request.headers, request.scope["path"]
    is_safe = request.scope["method"] in SAFE_METHODS
    if path in ALWAYS_OPEN and is_safe:
        return
    if hosts is not None and _name(headers.get("host", "")) not in hosts:
        raise Refusal(403, "Validation", "Host header not allowed: start the server with --allow-host NAME.")
    if not is_safe and _is_cross_origin(headers, hosts):
        raise Refusal(403, "Validation", "cross-origin request rejected.")
    if not keys.admit(headers):
        wants_page = path == "/" or "text/html" in headers.get("accept", "")
        scheme = 'Basic realm="zhichun"' if wants_page else "Bearer"
        raise Refusal(401, "Validation", "the API key is missing or wrong.", {"WWW-Authenticate": scheme})


def _is_cross_origin(headers: Mapping[str, str], hosts: frozenset[str] | None) -> bool:
    """Return whether a page of another origin makes a request, by what its browser says."""
    if "sec-fetch-site" in headers:  # no page can write it, and no proxy needs to
        return headers["sec-fetch-site"] not in ("same-origin", "none")
    try:
        origin = urlsplit(headers.get("origin", "").lower()).netloc
    except ValueError:
        return True
    is_ours = origin == headers.get("host", "").lower() or _name(origin) in (hosts or frozenset()) - LOOPBACK
    return "origin" in headers and not is_ours


def _name(host: str) -> str:
    """Remove the port from a host."""
    host = host.lower()
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


# A client that is told that its body is too large should be able to read so, for which it must have sent it.
DISCARDED_TIMES: Final = 4
# An answer is sent in parts, the next one when the client has read most of the last, so that it is held here alone.
PART_BYTES: Final = 64 << 10
LOGGED_CHARACTERS: Final = 10_000
log = logging.getLogger("zhichun.serve")


class Room:
    """A budget of bytes in memory; belongs to one event loop."""

    def __init__(self, most: int) -> None:
        self.most, self.held = most, 0

    def take(self, size: int) -> bool:
        """Reserve bytes, if there are enough."""
        has_room = self.held + size <= self.most
        self.held += size if has_room else 0
        return has_room

    def free(self, size: int) -> None:
        """Release bytes."""
        self.held -= size


class Guard:
    """Lets requests through to the application, or answers them itself.

    Parameters
    ----------
    app
        The application.
    service
        Whose phase, limits and counts are meant.
    keys, hosts
        Who may ask, as for `admit`.
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
        exchange, began = Exchange(self, scope, receive, send, new_id()), time.perf_counter()
        self.service.in_flight += 1
        try:
            await exchange.run()
        finally:
            self.service.in_flight -= 1
            exchange.free_body()
            self.answers.free(exchange.answer_bytes)
            if exchange.is_large:  # and nothing of it is held in the loop's next turn
                asyncio.get_running_loop().call_soon(self.service.trim)
            self._note(exchange, time.perf_counter() - began)

    def admit(self, scope: Scope) -> None:
        """Refuse unauthorised requests, and all requests while the server is not ready."""
        admit(HTTPConnection(scope), self.keys, self.hosts)
        if scope["path"] in (*ALWAYS_OPEN, "/metrics"):
            return
        if self.service.phase == "loading":
            raise unavailable("the model is being loaded.")
        if self.service.phase == "draining":
            raise unavailable("the server is shutting down.")

    def _note(self, exchange: "Exchange", seconds: float) -> None:
        scope, status = exchange.scope, exchange.status or 499  # 499: the client disconnected before the answer
        # The path as it is declared, so that what a client makes up is neither counted nor logged.
        route = getattr(scope.get("route"), "path", None) or "other"
        self.service.metrics.requests.labels(path=route, status=str(status)).inc()
        self.service.metrics.seconds.labels(path=route).observe(seconds)
        log.info("%s %s %s %d %.1f ms", exchange.id, cut(scope["method"], 20), route, status, seconds * 1000)


@dataclass(eq=False)
class Exchange:
    """One request and its answer, with the bytes of both in memory."""

    guard: Guard
    scope: Scope
    receive: Receive
    send: Send
    id: str
    status: int = 0
    is_answered: bool = False
    is_large: bool = False
    body_bytes: int = 0
    answer_bytes: int = 0

    async def run(self) -> None:
        """Let the application answer, or refuse."""
        try:
            self.guard.admit(self.scope)
            body = [await self._read()]
            if self.guard.log_texts and body[0]:
                log.info("%s %s", self.id, cut(body[0].decode("utf-8", "replace"), LOGGED_CHARACTERS))
            await self._answer(body)
        except ClientDisconnect:
            self.guard.service.metrics.disconnects.inc()
        except asyncio.CancelledError:  # by a server that ends at once
            if not self.status:
                await self._refuse(unavailable("the server is ending."))
        except Refusal as refusal:
            await self._refuse(refusal)
        except Exception as error:
            where = "".join(traceback.format_tb(error.__traceback__))  # what the error says may hold texts
            said = f": {cut(str(error), LOGGED_CHARACTERS)}" if self.guard.log_texts else ""
            log.error("%s failed with %s%s\n%s", self.id, type(error).__name__, said, where)  # noqa: TRY400
            if not self.status:
                await self._refuse(Refusal(500, "Backend", f"internal server error: {self.id}"))

    async def _read(self) -> bytes | bytearray:
        """Read the body in bounded time and memory."""
        limits, room = self.guard.service.limits, self.guard.bodies
        refusal = too_large(f"the body has more than {limits.body_bytes} bytes.")
        most_discarded = limits.body_bytes * DISCARDED_TIMES
        request, body, seen = Request(self.scope, self.receive), bytearray(), 0
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > most_discarded:
            raise refusal
        try:
            async with asyncio.timeout(limits.body_seconds):
                async for part in request.stream():
                    seen += len(part)
                    if seen <= limits.body_bytes and room.take(len(part)):
                        self.body_bytes += len(part)
                        body += part
                    if seen > most_discarded:
                        break
        except TimeoutError:
            raise Refusal(408, "Validation", f"the body was not complete after {limits.body_seconds:g} s.") from None
        if seen > limits.body_bytes:
            raise refusal
        if seen > len(body):
            raise overloaded(f"the bodies of all requests have more than {room.most} bytes.", 1.0)
        self.is_large = seen > LARGE_BYTES
        return body if self.is_large else bytes(body)  # which are read faster, but a second copy

    async def _answer(self, body: list[bytes | bytearray]) -> None:
        """Run the application, and stop it when the client disconnects."""

        async def replayed() -> Message:
            if not body:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": body.pop(), "more_body": False}  # which is then not held here

        async def disconnected() -> None:
            while (await self.receive())["type"] != "http.disconnect":
                pass

        answering = asyncio.ensure_future(self.guard.app(self.scope, replayed, self._sending()))
        gone = asyncio.create_task(disconnected())
        try:
            await asyncio.wait((answering, gone), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done() and not self.is_answered:  # a whole answer ends what is received, too
                self.guard.service.metrics.disconnects.inc()
                answering.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await answering
        finally:
            answering.cancel()
            gone.cancel()

    def _sending(self) -> Send:
        """Make what takes the application's answer, of which the body comes in one piece."""
        start: Message = {}

        async def sending(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
            else:
                await self._send(start, message.get("body", b""))

        return sending

    async def _refuse(self, refusal: Refusal) -> None:
        await self._send(*self._message(refusal))

    def _message(self, refusal: Refusal) -> tuple[Message, bytes]:
        response = dialect_of(self.scope["path"]).response(refusal)
        start = {"type": "http.response.start", "status": refusal.status, "headers": response.raw_headers}
        return start, bytes(response.body)

    async def _send(self, start: Message, body: bytes) -> None:
        """Send an answer in parts, whose memory counts until it is read, except for small ones."""
        answers = self.guard.answers
        if len(body) > PART_BYTES and not answers.take(len(body)):
            message = f"answers that clients have not read yet have more than {answers.most} bytes."
            start, body = self._message(overloaded(message, 1.0))
        self.answer_bytes, self.status = len(body) if len(body) > PART_BYTES else 0, start["status"]
        self.free_body()  # which nothing needs any more
        headers = {b"x-request-id": self.id.encode(), b"x-content-type-options": b"nosniff"}
        if self.guard.service.phase == "draining":
            headers[b"connection"] = b"close"
        headers |= {name.lower(): value for name, value in start.get("headers", ())}
        await self.send({**start, "headers": [*headers.items()]})
        for at in range(0, max(1, len(body)), PART_BYTES):
            self.is_answered = at + PART_BYTES >= len(body)
            part = {"body": body[at : at + PART_BYTES], "more_body": not self.is_answered}
            await self.send({"type": "http.response.body", **part})

    def free_body(self) -> None:
        """Release the memory of the body."""
        self.guard.bodies.free(self.body_bytes)
        self.body_bytes = 0
