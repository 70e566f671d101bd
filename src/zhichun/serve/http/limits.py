"""Limits of requests, queue and cache."""

from dataclasses import asdict, dataclass
from typing import Final

from zhichun.core.settings import require_range

# Names of this machine for itself.
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


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
    held_bytes: int = 192 << 20
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
