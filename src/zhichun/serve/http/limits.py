"""What a server takes on, and how it refuses what it does not."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

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
