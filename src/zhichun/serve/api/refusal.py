"""The one way in which a request is refused: a status, a kind, a message that a client's author can act on."""

from collections.abc import Mapping
from typing import Literal

# The kinds are the error types of TEI, which names more of them than the other interfaces do.
Kind = Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]


class Refusal(Exception):
    """A request that gets no scores.

    Parameters
    ----------
    status
        HTTP status.
    kind
        What kind of refusal it is.
    message
        What was wrong and what is possible; never holds a text of the request.
    headers
        More headers of the answer, such as ``Retry-After``.
    """

    def __init__(self, status: int, kind: Kind, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.headers = status, kind, message, dict(headers or {})


def invalid(message: str) -> Refusal:
    """Refuse what a request says."""
    return Refusal(422, "Validation", message)


def too_large(message: str) -> Refusal:
    """Refuse how much a request holds."""
    return Refusal(413, "Validation", message)


def overloaded(message: str, seconds: float) -> Refusal:
    """Ask to come back after so many seconds."""
    return Refusal(429, "Overloaded", message, {"Retry-After": str(max(1, round(seconds)))})


def unavailable(message: str) -> Refusal:
    """Say that this server does not answer now."""
    return Refusal(503, "Unhealthy", message, {"Retry-After": "1"})


def timed_out(seconds: float) -> Refusal:
    """Say that the time is over."""
    return Refusal(504, "Overloaded", f"the scores were not there after {seconds:g} seconds.")


def failed(message: str) -> Refusal:
    """Say that the model did not answer."""
    return Refusal(424, "Backend", message)
