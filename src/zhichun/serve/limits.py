"""What a server takes on, how it refuses what it does not, and its counts.

What the JSON of a request may hold is checked and counted before it is parsed.

Counts for Prometheus are, of several processes, the sum over all of them. Their supervisor names a folder in
``PROMETHEUS_MULTIPROC_DIR`` before it starts them. Each keeps its counts in files there, and whichever is asked adds
all up.
"""

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from email.message import Message
from functools import partial
from typing import Any, Final, Literal

import prometheus_client as prometheus
from fastapi import Request
from prometheus_client.multiprocess import MultiProcessCollector

from zhichun.core.settings import require_range

# The kinds are the error types of TEI, which names more of them than the other interfaces do.
Kind = Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one server process takes on.

    Parameters
    ----------
    body_bytes
        Of one request's body.
    held_bytes
        Half of it of the bodies of all requests until they are answered, half of large answers until they are read.
    documents
        Of one request.
    query_characters, text_characters
        Of a query, and of a text of a document.
    queue_pairs
        Pairs that wait for the model; a request that does not fit is told to come back.
    seconds
        That a request may take, where it does not ask for less.
    connections
        Of one process; past it the one that has waited longest without a request makes room.
    head_seconds, idle_seconds
        In which a new connection must have sent the head of a request, and one that has had an answer the next one's.
    body_seconds, answer_seconds
        In which a request's body must have come, and an answer must have been read.
    drain_seconds
        That accepted requests may still take when the server is told to end.
    cached_scores
        Number of cached scores; 0 is off.
    """

    body_bytes: int = 16 << 20
    held_bytes: int = 128 << 20
    documents: int = 1000
    query_characters: int = 10_000
    text_characters: int = 100_000
    queue_pairs: int = 10_000
    seconds: float = 30.0
    connections: int = 1000
    head_seconds: float = 10.0
    idle_seconds: float = 30.0
    body_seconds: float = 30.0
    answer_seconds: float = 30.0
    drain_seconds: float = 30.0
    cached_scores: int = 100_000

    def __post_init__(self) -> None:
        require_range(self, *asdict(self), least=0)


class Refusal(Exception):
    """The error of a request.

    Parameters
    ----------
    status
        HTTP status.
    kind
        Kind of error.
    message
        The problem and the remedy; never contains texts of the request.
    headers
        Further headers of the response, such as ``Retry-After``.
    """

    def __init__(self, status: int, kind: Kind, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.headers = status, kind, message, dict(headers or {})


def invalid(message: str) -> Refusal:
    """Return the error for an invalid request."""
    return Refusal(422, "Validation", message)


def too_large(message: str) -> Refusal:
    """Return the error for a request that is too large."""
    return Refusal(413, "Validation", message)


def overloaded(message: str, seconds: float) -> Refusal:
    """Return the error for a full queue, with seconds to retry after."""
    return Refusal(429, "Overloaded", message, {"Retry-After": str(max(1, round(seconds)))})


def unavailable(message: str) -> Refusal:
    """Return the error for an unavailable server."""
    return Refusal(503, "Unhealthy", message, {"Retry-After": "1"})


def timed_out(seconds: float) -> Refusal:
    """Return the error for a timeout."""
    return Refusal(504, "Overloaded", f"scoring timed out after {seconds:g} seconds.")


def failed(message: str) -> Refusal:
    """Return the error for a failure of the model."""
    return Refusal(424, "Backend", message)


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


FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE: Final = prometheus.exposition.CONTENT_TYPE_PLAIN_0_0_4
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
REFRESH_SECONDS: Final = 1.0
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """All metrics of a server."""

    def __init__(self) -> None:
        own = self._own = prometheus.CollectorRegistry()
        counter, histogram = partial(prometheus.Counter, registry=own), partial(prometheus.Histogram, registry=own)
        self.requests = counter("zhichun_requests", "Requests answered, by path and status.", ["path", "status"])
        self.seconds = histogram(
            "zhichun_request_seconds", "Time to answer a request, by path.", ["path"], buckets=SECONDS
        )
        self.pairs = counter("zhichun_pairs", "Pairs requested.")
        self.cached = counter("zhichun_cached_pairs", "Distinct pairs of a request whose scores were in the cache.")
        self.rounds = histogram("zhichun_round_pairs", "Pairs that were scored together.", buckets=SIZES)
        self.round_seconds = histogram("zhichun_round_seconds", "Time to score pairs together.", buckets=SECONDS)
        self.disconnects = counter("zhichun_disconnects", "Requests whose client disconnected before the answer.")
        self._gauges: list[tuple[prometheus.Gauge, Callable[[], float]]] = []

    def gauge(self, name: str, what: str, read: Callable[[], float]) -> None:
        """Show a number that is looked up."""
        self._gauges.append((prometheus.Gauge(name, what, registry=self._own, multiprocess_mode="livesum"), read))

    def refresh(self) -> None:
        """Update the gauges for all processes."""
        for gauge, read in self._gauges:
            gauge.set(read())

    async def refreshed(self) -> None:
        """Update the gauges periodically."""
        while FOLDER_VARIABLE in os.environ:
            self.refresh()
            await asyncio.sleep(REFRESH_SECONDS)

    def text(self) -> bytes:
        """Write all in the text format of Prometheus."""
        self.refresh()
        if FOLDER_VARIABLE not in os.environ:
            return prometheus.generate_latest(self._own)
        of_all = prometheus.CollectorRegistry()
        MultiProcessCollector(of_all)  # type: ignore[no-untyped-call]
        return prometheus.generate_latest(of_all)
