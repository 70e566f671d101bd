"""Jina's API: ``/v1/rerank``, which vLLM and Cohere's v1 share."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from zhichun.serve.api import endpoint as api
from zhichun.serve.batcher import PairColumns
from zhichun.serve.service import Answer, Service, new_id


class JinaError(BaseModel):
    """Error response of Jina."""

    detail: str


JINA = api.Dialect("Jina", JinaError, lambda kind, message, status: {"detail": message}, empty_status=422)


class RerankRequest(api.Body):
    """A rerank request of Jina, Cohere or vLLM."""

    query: Annotated[api.Text, Field(examples=["red running shoes"])]
    documents: api.Documents
    top_n: Annotated[int | None, Field(ge=0, description="Number of results; all by default or if 0.")] = None
    return_documents: bool | None = None
    max_tokens_per_doc: Annotated[int | None, Field(ge=1, description="Maximum tokens of a document.")] = None
    rank_fields: Annotated[
        list[api.Text] | None, Field(min_length=1, description="Fields of document objects to read; all by default.")
    ] = None


class ApiVersion(BaseModel):
    """Version of Cohere's API."""

    version: str = "2"


class Tokens(BaseModel):
    """Number of input tokens, in Cohere's form."""

    input_tokens: int


class Meta(BaseModel):
    """Metadata of the response."""

    api_version: ApiVersion = ApiVersion()
    tokens: Tokens
    order: Annotated[Literal["score", "incoming"], Field(description="`incoming` if scoring timed out.")]
    warnings: Annotated[list[str] | None, Field(description="What was truncated or ignored.")] = None


class RerankResult(api.Judged):
    """One document."""

    relevance_score: Annotated[float, Field(description="Expected gain.")]
    document: dict[str, Any] | None = None


class RerankResponse(BaseModel):
    """The response of ``/rerank``, ``/v1/rerank`` and ``/v2/rerank``."""

    id: str
    model: str
    results: list[RerankResult]
    usage: api.Usage
    meta: Meta


def ask(service: Service, body: RerankRequest) -> PairColumns:
    """Pair the query with each document."""
    return service.ask(
        [body.query], body.documents, body.locale, fields=body.rank_fields, tokens=body.max_tokens_per_doc
    )


def write(
    service: Service, body: RerankRequest, answer: Answer, warnings: Sequence[str], *, with_documents: bool = True
) -> RerankResponse:
    """Return the documents, best first; ``with_documents`` is the default of the request."""
    with_documents = with_documents if body.return_documents is None else body.return_documents
    found = api.results(RerankResult, answer, "relevance_score")
    best = [found[place] for place in api.best_first(answer.prediction.score)[: body.top_n or None]]
    for each in best if with_documents else ():
        each.document = _shown(body.documents[each.index])
    meta = Meta(
        tokens=Tokens(input_tokens=answer.tokens),
        order="score" if answer.scored else "incoming",
        warnings=list(warnings) or None,
    )
    return RerankResponse(id=new_id(), model=service.model, results=best, usage=api.Usage.of(answer), meta=meta)


def _shown(document: Any) -> dict[str, Any]:
    if isinstance(document, str):
        return {"text": document}
    return {name: value for name, value in document.items() if value is not None}


RERANK = api.ScoringEndpoint(
    paths=("/v1/rerank",),
    summary="Rerank documents (Jina, vLLM, Cohere v1)",
    dialect=JINA,
    request=RerankRequest,
    reply=RerankResponse,
    ask=ask,
    write=write,
)
