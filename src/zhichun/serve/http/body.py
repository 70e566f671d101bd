"""Reads the JSON of requests: what it may hold is checked and counted before it is parsed."""

import json
from email.message import Message
from typing import Any

from fastapi import Request

from zhichun.serve.http.limits import Refusal, too_large

# A document has a dozen of fields; a request has few values beside its documents.
VALUES, VALUES_PER_DOCUMENT = 10_000, 64


async def json_body(request: Request) -> bytes | bytearray:
    """Return the body of a request whose headers say that it is JSON as it can be parsed.

    Raises
    ------
    Refusal
        When it is compressed, of another type, or of another encoding.
    """
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
    parts = [part async for part in request.stream() if part]  # which, unlike `request.body`, does not keep them
    return parts[0] if len(parts) == 1 else b"".join(parts)


def parsed(body: bytes | bytearray, documents: int) -> Any:
    """Parse a body after counting its values, because each takes many times the memory of its bytes.

    Parameters
    ----------
    body
        The body; emptied if it can be, so that it is not in memory twice.
    documents
        How many a request may have.

    Raises
    ------
    Refusal
        When it is not UTF-8, not JSON, or of too many values.
    """
    most = VALUES + VALUES_PER_DOCUMENT * documents
    texts = body.replace(rb"\\", b"").replace(rb"\"", b"") if b"\\" in body else body
    if texts.count(b'"') <= 4 * most:  # two for each text; where there are more, they need not be split
        between = b"".join(texts.split(b'"')[::2])
        values = sum(map(between.count, (b",", b"[", b"{")))
    else:
        values = most + 1
    if values > most:
        raise too_large(f"the body has more than {most} values.")
    del texts
    try:
        text = body.decode("utf-8-sig")
        if isinstance(body, bytearray):
            body.clear()
        return json.loads(text, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise _unread(f"the body is not UTF-8: byte {error.start} does not belong to it.") from None
    except RecursionError:
        raise Refusal(400, "Validation", "the body is nested too deeply.") from None
    except ValueError as error:
        place = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        what = f"is not JSON{place}" if text.strip() else "is empty"
        raise Refusal(400, "Validation", f"the body {what}.") from None


def cut(text: str, most: int = 60) -> str:
    """Return a client's text as a message or a log may hold it: short, with nothing that acts on a terminal."""
    shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text[:most])
    return f"{shown}…" if len(text) > most else shown


def _unread(message: str) -> Refusal:
    return Refusal(415, "Validation", message)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)
