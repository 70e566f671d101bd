"""vLLM's API: ``/score``, ``/v1/score`` and ``/v1/models``; reranking as in Jina."""

import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, Field

from zhichun.serve.api import endpoint as api
from zhichun.serve.limits import Kind
from zhichun.serve.service import Answer, Service, new_id


class VllmProblem(BaseModel):
    """Details of an error."""

    message: str
    type: Kind
    code: int


class VllmError(BaseModel):
    """Error response of vLLM."""

    error: VllmProblem


VLLM = api.Dialect(
    "vLLM", VllmError, lambda kind, message, status: {"error": {"message": message, "type": kind, "code": status}}
)


class ScoreRequest(api.Body):
    """One query and N documents, or N of both; vLLM has several names for either."""

    queries: Annotated[api.OneOrMoreTexts, Field(validation_alias=AliasChoices("queries", "data_1", "text_1"))]
    documents: Annotated[
        api.OneOrMoreDocuments, Field(validation_alias=AliasChoices("documents", "items", "data_2", "text_2"))
    ]


class Score(api.Judged):
    """One pair."""

    object: Literal["score"] = "score"
    score: float


class ScoreResponse(BaseModel):
    """The pairs in the order of the request."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[Score]
    usage: api.Usage
    warnings: Annotated[list[str] | None, Field(description="What was truncated or ignored; an extension.")] = None


def _write(service: Service, body: Any, answer: Answer, warnings: Sequence[str]) -> ScoreResponse:
    return ScoreResponse(
        id=new_id(),
        created=int(time.time()),
        model=service.model,
        data=api.results(Score, answer),
        usage=api.Usage.of(answer),
        warnings=list(warnings) or None,
    )


SCORE = api.ScoringEndpoint(
    paths=("/score", "/v1/score"),
    summary="Score pairs: one query and N documents, or N of both (vLLM)",
    dialect=VLLM,
    request=ScoreRequest,
    reply=ScoreResponse,
    ask=lambda service, body: service.ask(body.queries, body.documents, body.locale),
    write=_write,
)


class ModelCard(BaseModel):
    """One model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "zhichun"
    max_model_len: int


class ModelList(BaseModel):
    """All models: only one."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


def _models(service: Service) -> ModelList:
    card = ModelCard(id=service.model, created=service.created, max_model_len=service.scorer.max_length)
    return ModelList(data=[card])


MODELS = api.Endpoint(paths=("/v1/models",), summary="The model", dialect=VLLM, reply=ModelList, say=_models)
