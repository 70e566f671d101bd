"""The endpoints that score pairs without ordering them: ``/score`` and ``/v1/score`` (vLLM), ``/predict`` (TEI)."""

import time
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, Response

from zhichun.core.tasks import Prediction
from zhichun.serve.api.dialects import Dialect
from zhichun.serve.api.documents import products_of
from zhichun.serve.api.pair import Pair
from zhichun.serve.api.refusal import invalid
from zhichun.serve.api.replies import Patience, decimals, failures, judgements, reply
from zhichun.serve.api.requests import Document, PredictRequest, QueriesRequest, ScoreRequest, TextsRequest
from zhichun.serve.api.responses import ClassScore, Score, ScoreResponse, Usage
from zhichun.serve.http.body import JsonRoute
from zhichun.serve.queue.service import Service, new_id

Waits = Annotated[Patience, Depends()]


def score_router(service: Service) -> APIRouter:
    """Make the endpoints of a service."""
    router = APIRouter(tags=["score"], route_class=JsonRoute)

    async def score(body: ScoreRequest, patience: Waits) -> Response:
        pairs = _pairs(service, body)
        answer, scored = await patience.wait(service, service.answer(pairs, patience.x_request_timeout), len(pairs))
        beside = judgements(answer.prediction) if scored else [{} for _ in pairs]
        data = [
            Score.model_construct(index=place, score=value, **beside[place])
            for place, value in enumerate(decimals(answer.prediction.score))
        ]
        usage = Usage(prompt_tokens=answer.tokens, total_tokens=answer.tokens)
        created = int(time.time())
        response = ScoreResponse(id=new_id(), created=created, model=service.model, data=data, usage=usage)
        return reply(response, scored=scored)

    for path in ("/score", "/v1/score"):
        router.post(
            path,
            summary="Score pairs: one query and N documents, or N of both (vLLM)",
            responses={200: {"model": ScoreResponse}, **failures(Dialect.VLLM)},
        )(score)

    @router.post(
        "/predict",
        summary="Probabilities of the classes, the likeliest first (TEI)",
        responses={200: {"model": list[ClassScore] | list[list[ClassScore]]}, **failures(Dialect.TEI)},
    )
    async def predict(body: PredictRequest, patience: Waits) -> Response:
        is_one = isinstance(body.inputs[0], str)
        inputs: Sequence[Sequence[str]] = [body.inputs] if is_one else body.inputs  # type: ignore[list-item]
        queries, texts = [query for query, _ in inputs], [text for _, text in inputs]
        pairs = _beside(service, queries, texts, body.locale)
        answer = await service.answer(pairs, patience.x_request_timeout)
        found = _classes(answer.prediction)
        return reply(found[0] if is_one else found)

    return router


def _pairs(service: Service, body: QueriesRequest | TextsRequest) -> list[Pair]:
    queries, documents = (
        (body.queries, body.documents) if isinstance(body, QueriesRequest) else (body.text_1, body.text_2)
    )
    queries = [queries] if isinstance(queries, str) else queries
    documents = documents if isinstance(documents, list) else [documents]
    if len(queries) not in (1, len(documents)):
        raise invalid(f"{len(queries)} queries and {len(documents)} documents: give one query, or as many of both.")
    return _beside(service, queries, documents, body.locale)


def _beside(
    service: Service, queries: Sequence[str], documents: Sequence[str | Document], locale: str | None
) -> list[Pair]:
    """Put each query beside its document, or the only one beside all."""
    service.check(queries, len(documents))
    products = products_of(documents, locale, service.catalogue, service.limits.text_characters)
    pairs = service.pairs(queries[0], products, locale)
    if len(queries) == 1:
        return pairs
    return [pair._replace(query=query) for query, pair in zip(queries, pairs, strict=True)]


def _classes(prediction: Prediction) -> list[list[ClassScore]]:
    """Give each pair's classes, the likeliest first; of a regressor its gain."""
    if prediction.probabilities is None:
        return [[ClassScore(label="gain", score=value)] for value in decimals(prediction.score)]
    names, rows = prediction.task.classes, decimals(prediction.probabilities)
    orders_PC = np.argsort(-prediction.probabilities, axis=1, kind="stable").tolist()
    return [
        [ClassScore(label=names[place], score=row_C[place]) for place in order]
        for order, row_C in zip(orders_PC, rows, strict=True)
    ]
