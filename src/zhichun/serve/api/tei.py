"""The API of Text Embeddings Inference: ``/predict``, ``/info``, and ``/rerank``, which Jina and vLLM share."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, Discriminator, Field, Tag

import zhichun
from zhichun.serve.api import endpoint as api
from zhichun.serve.api import jina
from zhichun.serve.batcher import PairColumns
from zhichun.serve.limits import Kind
from zhichun.serve.service import Answer, Service


class TeiError(BaseModel):
    """Error response of TEI."""

    error: str
    error_type: Kind


TEI = api.Dialect("TEI", TeiError, lambda kind, message, status: {"error": message, "error_type": kind})


class TeiBody(api.Body):
    """Fields of all its requests."""

    raw_scores: Annotated[bool, Field(description="No effect: scores are gains or probabilities.")] = False
    truncate: Annotated[bool | None, Field(description="No effect: long pairs are truncated.")] = None
    truncation_direction: Literal["right", "Right"] | None = None


QueryAndText = Annotated[list[api.Text], Field(min_length=2, max_length=2, description="A query and a text.")]
Batch = Annotated[list[QueryAndText], Field(min_length=1, fail_fast=True)]


def _is_batch(inputs: Any) -> str:
    return "(pair)" if isinstance(inputs, list) and inputs and isinstance(inputs[0], str) else "(batch)"


class PredictRequest(TeiBody):
    """One pair of query and text, or a batch of pairs."""

    inputs: Annotated[
        Annotated[QueryAndText, Tag("(pair)")] | Annotated[Batch, Tag("(batch)")], Discriminator(_is_batch)
    ]

    @property
    def pairs(self) -> Sequence[Sequence[str]]:
        """The pairs: one or more."""
        return [self.inputs] if self.is_one else self.inputs  # type: ignore[list-item]

    @property
    def is_one(self) -> bool:
        """Whether it is a single pair, whose response has no outer list."""
        return isinstance(self.inputs[0], str)


class ClassScore(BaseModel):
    """The probability of one class; for a regressor the gain."""

    label: str
    score: float


def _pairs(service: Service, body: PredictRequest) -> PairColumns:
    return service.ask([query for query, _ in body.pairs], [text for _, text in body.pairs], body.locale)


def _classes(service: Service, body: PredictRequest, answer: Answer, warnings: Sequence[str]) -> Sequence[Any]:
    """Return each pair's classes, most likely first; for a regressor the gain."""
    prediction = answer.prediction
    if prediction.probabilities is None:
        found = [[ClassScore(label="gain", score=value)] for value in api.decimals(prediction.score)]
    else:
        names, rows = prediction.task.classes, api.decimals(prediction.probabilities)
        orders_PC = np.argsort(-prediction.probabilities, axis=1, kind="stable").tolist()
        found = [
            [ClassScore(label=names[place], score=row_C[place]) for place in order]
            for order, row_C in zip(orders_PC, rows, strict=True)
        ]
    return found[0] if body.is_one else found


PREDICT = api.ScoringEndpoint(
    paths=("/predict",),
    summary="Probabilities of the classes, highest first (TEI)",
    dialect=TEI,
    request=PredictRequest,
    reply=list[ClassScore] | list[list[ClassScore]],
    ask=_pairs,
    write=_classes,
    may_be_unscored=False,
)


class TeiRerankRequest(TeiBody):
    """A rerank request of TEI."""

    query: api.Text
    texts: api.Texts
    return_text: bool = False


class TeiRank(api.Judged):
    """One text."""

    score: float
    text: str | None = None


def _ranks(service: Service, body: TeiRerankRequest, answer: Answer, warnings: Sequence[str]) -> Sequence[TeiRank]:
    found = api.results(TeiRank, answer)
    for each, text in zip(found, body.texts if body.return_text else (), strict=False):
        each.text = text
    return [found[place] for place in api.best_first(answer.prediction.score)]


OF_TEXTS = api.ScoringEndpoint(
    paths=("/rerank",),
    summary="Rerank texts (TEI)",
    dialect=TEI,
    request=TeiRerankRequest,
    reply=list[TeiRank],
    ask=lambda service, body: service.ask([body.query], body.texts, body.locale),
    write=_ranks,
)
# What is refused before its body tells which of the two is spoken has the keys of both.
EITHER = api.Dialect(
    "TEI or Jina",
    TeiError | jina.JinaError,
    lambda kind, message, status: {"detail": message, **TEI.write(kind, message, status)},
    empty_status=422,
)
UNDECIDED = replace(jina.RERANK, dialect=EITHER)


def _by_body(body: Any) -> api.ScoringEndpoint:
    given = body if isinstance(body, dict) else {}
    return OF_TEXTS if "texts" in given else jina.RERANK if "documents" in given else UNDECIDED


RERANK = replace(
    UNDECIDED,
    paths=("/rerank",),
    summary="Rerank texts (TEI) or documents (Jina, vLLM)",
    request=TeiRerankRequest | jina.RerankRequest,
    reply=jina.RerankResponse | list[TeiRank],
    by_body=_by_body,
)


class Info(BaseModel):
    """Model information of TEI, with additional fields."""

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


def _info(service: Service) -> Info:
    scorer, task, limits = service.scorer, service.task, service.limits
    labels = {str(place): name for place, name in enumerate(task.classes or ("gain",))}
    engine = scorer.engine_name
    return Info(
        model_id=service.model,
        model_sha=service.fingerprint,
        model_dtype=engine.rpartition("-")[2] if "-" in engine else "float32",
        model_type={"reranker": {"id2label": labels, "label2id": {name: int(place) for place, name in labels.items()}}},
        max_input_length=scorer.max_length,
        max_client_batch_size=limits.documents,
        max_concurrent_requests=limits.queue_pairs,
        version=zhichun.__version__,
        task=task.name,
        classes=list(task.classes),
        engine=engine,
        locale=service.locale,
        catalogue=service.catalogue is not None,
    )


INFO = api.Endpoint(paths=("/info",), summary="Model, limits and version (TEI)", dialect=TEI, reply=Info, say=_info)
