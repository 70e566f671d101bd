"""What the server answers, as each interface writes it, with the label and the probabilities of the classes added."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from zhichun.serve.api.refusal import Kind

Probabilities = Annotated[dict[str, float] | None, Field(description="Of each class; a regressor has none.")]
Label = Annotated[str | None, Field(description="The likeliest class; a regressor has none.")]


class Usage(BaseModel):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class ApiVersion(BaseModel):
    """Version of Cohere's interface."""

    version: str = "2"


class Tokens(BaseModel):
    """Tokens that were read, as Cohere says it."""

    input_tokens: int


class Meta(BaseModel):
    """About the answer."""

    api_version: ApiVersion = ApiVersion()
    tokens: Tokens
    order: Annotated[Literal["score", "incoming"], Field(description="`incoming` where there was no time to score.")]
    warnings: list[str] | None = None


class RerankResult(BaseModel):
    """One document."""

    index: Annotated[int, Field(ge=0, description="Place among the documents of the request.")]
    relevance_score: Annotated[float, Field(description="Expected gain.")]
    document: dict[str, Any] | None = None
    label: Label = None
    probabilities: Probabilities = None


class RerankResponse(BaseModel):
    """The answer of ``/rerank``, ``/v1/rerank`` and ``/v2/rerank``."""

    id: str
    model: str
    results: list[RerankResult]
    usage: Usage
    meta: Meta


class TeiRank(BaseModel):
    """One text."""

    index: Annotated[int, Field(ge=0)]
    score: float
    text: str | None = None
    label: Label = None
    probabilities: Probabilities = None


class Score(BaseModel):
    """One pair, as vLLM writes it."""

    index: Annotated[int, Field(ge=0)]
    object: Literal["score"] = "score"
    score: float
    label: Label = None
    probabilities: Probabilities = None


class ScoreResponse(BaseModel):
    """The answer of ``/score``."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[Score]
    usage: Usage


class ClassScore(BaseModel):
    """The probability of one class, as TEI writes it; of a regressor the gain."""

    label: str
    score: float


class ModelCard(BaseModel):
    """One model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "zhichun"
    max_model_len: int


class ModelList(BaseModel):
    """The answer of ``/v1/models``."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class Info(BaseModel):
    """The answer of ``/info``: what TEI says, and what is particular here."""

    model_id: str
    model_sha: str | None
    model_dtype: str
    model_type: dict[str, Any]
    max_input_length: int
    max_client_batch_size: int
    max_concurrent_requests: int
    auto_truncate: bool = True
    version: str
    task: str
    classes: list[str]
    engine: str
    locale: str
    catalogue: bool


class Health(BaseModel):
    """The answer of ``/health``."""

    status: Literal["loading", "ready", "draining", "failed"]
    live: bool
    ready: bool


class TeiError(BaseModel):
    """How TEI says that something went wrong."""

    error: str
    error_type: Kind


class JinaError(BaseModel):
    """How Jina does."""

    detail: str


class CohereError(BaseModel):
    """How Cohere does."""

    message: str


class VllmProblem(BaseModel):
    """What went wrong."""

    message: str
    type: Kind
    code: int


class VllmError(BaseModel):
    """How vLLM does."""

    error: VllmProblem
