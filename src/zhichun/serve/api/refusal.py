"""Errors of requests: a status, a kind, and a message for the client's author."""

from collections.abc import Mapping
from typing import Literal

# The kinds are the error types of TEI, which names more of them than the other interfaces do.
Kind = Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]


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
