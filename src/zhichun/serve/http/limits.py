"""How much a request, a queue and a cache may hold."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one server process takes on.

    Parameters
    ----------
    body_bytes
        Of one request's body.
    held_bytes
        Of the bodies of all requests that are being answered.
    documents
        Of one request.
    query_characters, text_characters
        Of a query, and of a text of a document.
    queue_pairs
        Pairs that wait for the model; a request that does not fit is told to come back.
    seconds
        That a request may take, where it does not ask for less.
    body_seconds
        In which a request's body must have come.
    drain_seconds
        That accepted requests may still take when the server is told to end.
    cached_scores
        Pairs whose scores are kept; 0 keeps none.
    """

    body_bytes: int = 16 << 20
    held_bytes: int = 256 << 20
    documents: int = 1000
    query_characters: int = 10_000
    text_characters: int = 100_000
    queue_pairs: int = 10_000
    seconds: float = 30.0
    body_seconds: float = 30.0
    drain_seconds: float = 30.0
    cached_scores: int = 100_000
