"""Reads request bodies in bounded memory and time, and parses large ones in a thread."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from email.message import Message
from typing import Any, Final

from fastapi import Request
from starlette.types import Receive

from zhichun.serve.api.refusal import Refusal, overloaded, too_large
from zhichun.serve.http.limits import Limits

# A client that is told that its body is too large should be able to read so, for which it must have sent it.
DISCARDED_TIMES: Final = 4
# What is no larger is parsed at once, in less time than it takes to hand it to a thread.
SMALL_BYTES: Final = 64 << 10
# A document has a dozen of fields; a request has few values beside its documents.
VALUES, VALUES_PER_DOCUMENT = 10_000, 64


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


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, limits: Limits, room: Room) -> bytes:
    """Read a body within a budget of bytes."""
    most, body, seen = limits.body_bytes, bytearray(), 0
    announced = headers.get(b"content-length", b"")
    if announced.isdigit() and int(announced[:20]) > most * DISCARDED_TIMES:
        raise too_large(f"the body has more than {most} bytes.")
    try:
        async with asyncio.timeout(limits.body_seconds):
            more = True
            while more and seen <= most * DISCARDED_TIMES:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refusal(400, "Validation", "the client disconnected.")  # noqa: TRY301
                part, more = message.get("body", b""), message.get("more_body", False)
                seen += len(part)
                if seen <= most and room.take(len(part)):
                    body += part
        if seen > most:
            raise too_large(f"the body has more than {most} bytes.")  # noqa: TRY301
        if seen > len(body):
            raise overloaded(f"the bodies of all requests have more than {room.most} bytes.", 1.0)  # noqa: TRY301
    except BaseException as error:
        room.free(len(body))
        if isinstance(error, TimeoutError):
            late = f"the body was not complete after {limits.body_seconds:g} s."
            raise Refusal(408, "Validation", late) from None
        raise
    return bytes(body)


def is_large(headers: Mapping[str, str]) -> bool:
    """Return whether a body takes longer to read than others may be held up; one that does not say is taken for it."""
    length = headers.get("content-length", "")
    return not length.isdecimal() or int(length) > SMALL_BYTES


async def json_of(request: Request, work: Callable[..., Awaitable[Any]] = asyncio.to_thread) -> Any:
    """Read the JSON of a request."""
    _check_headers(request)
    body = b"".join([part async for part in request.stream()])  # which, unlike `request.body`, does not keep it
    most = VALUES + VALUES_PER_DOCUMENT * request.app.state.limits.documents
    if len(body) <= SMALL_BYTES:
        return parsed(body, most)
    return await work(parsed, body, most)


def _check_headers(request: Request) -> None:
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise _unread(f"Content-Encoding {cut(coding)} is not supported: send the body uncompressed.")
    kind = Message()
    kind["content-type"] = request.headers.get("content-type", "")
    if kind.get_content_subtype() != "json" and not kind.get_content_subtype().endswith("+json"):
        raise _unread("the body needs Content-Type: application/json.")
    charset = str(kind.get_param("charset", "utf-8")).lower()
    if charset.replace("_", "-") not in ("utf-8", "utf8", "us-ascii", "ascii"):
        raise _unread(f"the charset {cut(charset)} is not supported: send the body as UTF-8.")


def parsed(body: bytes, most: int) -> Any:
    """Parse a body after counting its values, because each takes many times the memory of its bytes.

    Raises
    ------
    Refusal
        When it is not UTF-8, not JSON, or of too many values.
    """
    texts = body.replace(rb"\\", b"").replace(rb"\"", b"") if b"\\" in body else body
    if texts.count(b'"') <= 4 * most:  # two for each text; where there are more, they need not be split
        between = b"".join(texts.split(b'"')[::2])
        values = sum(map(between.count, (b",", b"[", b"{")))
    else:
        values = most + 1
    if values > most:
        raise too_large(f"the body has more than {most} values.")
    try:
        return json.loads(body.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise _unread(f"the body is not UTF-8: byte {error.start} does not belong to it.") from None
    except RecursionError:
        raise Refusal(400, "Validation", "the body is nested too deeply.") from None
    except ValueError as error:
        place = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        what = f"is not JSON{place}" if body.strip() else "is empty"
        raise Refusal(400, "Validation", f"the body {what}.") from None


def cut(text: str, most: int = 60) -> str:
    """Return a client's text as a message or a log may hold it: short, with nothing that acts on a terminal."""
    shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text[:most])
    return f"{shown}…" if len(text) > most else shown


def _unread(message: str) -> Refusal:
    return Refusal(415, "Validation", message)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)
