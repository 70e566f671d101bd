"""Cohere's API: ``/v2/rerank``."""

from functools import partial

from pydantic import BaseModel

from zhichun.serve.api import jina
from zhichun.serve.api.endpoint import Dialect, ScoringEndpoint


class CohereError(BaseModel):
    """Error response of Cohere."""

    message: str


COHERE = Dialect("Cohere", CohereError, lambda kind, message, status: {"message": message})
RERANK = ScoringEndpoint(
    paths=("/v2/rerank",),
    summary="Rerank documents (Cohere v2)",
    dialect=COHERE,
    request=jina.RerankRequest,
    reply=jina.RerankResponse,
    ask=jina.ask,
    write=partial(jina.write, with_documents=False),
)
