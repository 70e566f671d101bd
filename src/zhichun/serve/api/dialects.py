"""The interfaces that the server speaks, and how each says that something went wrong."""

from enum import Enum
from typing import Any, Final

from zhichun.serve.api.refusal import Kind, Refusal


class Dialect(Enum):
    """An interface of another server or service."""

    TEI = "TEI"
    JINA = "Jina"
    COHERE = "Cohere"
    VLLM = "vLLM"
    UNDECIDED = "TEI or Jina"


OF_PATH: Final = {
    "/rerank": Dialect.UNDECIDED,
    "/v1/rerank": Dialect.JINA,
    "/v2/rerank": Dialect.COHERE,
    "/score": Dialect.VLLM,
    "/v1/score": Dialect.VLLM,
    "/v1/models": Dialect.VLLM,
    "/predict": Dialect.TEI,
    "/info": Dialect.TEI,
}
# What an empty list of documents is answered with: TEI, Cohere and vLLM take it for a bad request.
EMPTY_STATUS: Final = {Dialect.JINA: 422, Dialect.UNDECIDED: 422}


def dialect_of(path: str, body: Any = None) -> Dialect:
    """Tell which interface a request means: by its path, and on ``/rerank`` by what its body holds."""
    dialect = OF_PATH.get(path, Dialect.JINA)
    if dialect is not Dialect.UNDECIDED or not isinstance(body, dict):
        return dialect
    return Dialect.TEI if "texts" in body else Dialect.JINA if "documents" in body else dialect


def error_body(dialect: Dialect, kind: Kind, message: str, status: int) -> dict[str, Any]:
    """Write an error as the interface's clients read it."""
    of_tei = {"error": message, "error_type": kind}
    if dialect is Dialect.TEI:
        return of_tei
    if dialect is Dialect.UNDECIDED:  # the keys of both that it may be
        return {"detail": message, **of_tei}
    if dialect is Dialect.COHERE:
        return {"message": message}
    if dialect is Dialect.VLLM:
        return {"error": {"message": message, "type": kind, "code": status}}
    return {"detail": message}


def empty(dialect: Dialect, what: str) -> Refusal:
    """Refuse an empty list as the interface does."""
    return Refusal(EMPTY_STATUS.get(dialect, 400), "Empty", f"`{what}` cannot be empty")
