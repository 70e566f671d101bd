"""The endpoints that rerank: ``/rerank`` (TEI, Jina and vLLM, by the body), ``/v1/rerank``, ``/v2/rerank`` (Cohere)."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from zhichun.serve.api.cut import cut
from zhichun.serve.api.dialects import Dialect
from zhichun.serve.api.documents import products_of
from zhichun.serve.api.replies import WARNING, Patience, best_first, decimals, failures, judgements, reply
from zhichun.serve.api.requests import AnyRerankRequest, Document, RerankRequest, TeiRerankRequest
from zhichun.serve.api.responses import Meta, RerankResponse, RerankResult, TeiRank, Tokens, Usage
from zhichun.serve.http.body import JsonRoute
from zhichun.serve.queue.service import Service, new_id

Waits = Annotated[Patience, Depends()]


def rerank_router(service: Service) -> APIRouter:
    """Make the endpoints of a service."""
    router = APIRouter(tags=["rerank"], route_class=JsonRoute)

    @router.post(
        "/rerank",
        summary="Rerank texts (TEI) or documents (Jina, vLLM)",
        responses={200: {"model": RerankResponse | list[TeiRank]}, **failures(Dialect.UNDECIDED)},
    )
    async def rerank(body: AnyRerankRequest, patience: Waits) -> Response:
        if isinstance(body, TeiRerankRequest):
            return await rerank_texts(service, body, patience)
        return await rerank_documents(service, body, patience, shown=True)

    @router.post(
        "/v1/rerank",
        summary="Rerank documents (Jina, vLLM, Cohere v1)",
        responses={200: {"model": RerankResponse}, **failures(Dialect.JINA)},
    )
    async def rerank_v1(body: RerankRequest, patience: Waits) -> Response:
        return await rerank_documents(service, body, patience, shown=True)

    @router.post(
        "/v2/rerank",
        summary="Rerank documents (Cohere v2)",
        responses={200: {"model": RerankResponse}, **failures(Dialect.COHERE)},
    )
    async def rerank_v2(body: RerankRequest, patience: Waits) -> Response:
        return await rerank_documents(service, body, patience, shown=False)

    return router


async def rerank_documents(service: Service, body: RerankRequest, patience: Patience, *, shown: bool) -> Response:
    """Answer as Jina and Cohere do; ``shown`` is whether documents are given back where the request does not say."""
    service.check([body.query], len(body.documents))
    products = products_of(body.documents, body.locale, service.catalogue, service.limits.text_characters)
    if body.max_tokens_per_doc is not None:
        products = await asyncio.to_thread(cut, service.scorer, products, body.max_tokens_per_doc)
    pairs = service.pairs(body.query, products, body.locale)
    answer, scored = await patience.wait(service, service.answer(pairs, patience.x_request_timeout), len(pairs))
    prediction = answer.prediction
    with_documents = shown if body.return_documents is None else body.return_documents
    beside = judgements(prediction) if scored else [{} for _ in pairs]
    order, scores = best_first(prediction.score)[: body.top_n or None], decimals(prediction.score)
    results = [
        RerankResult.model_construct(
            index=place,
            relevance_score=scores[place],
            document=_shown(body.documents[place]) if with_documents else None,
            **beside[place],
        )
        for place in order
    ]
    meta = Meta(
        tokens=Tokens(input_tokens=answer.tokens),
        order="score" if scored else "incoming",
        warnings=None if scored else [WARNING],
    )
    usage = Usage(prompt_tokens=answer.tokens, total_tokens=answer.tokens)
    return reply(
        RerankResponse(id=new_id(), model=service.model, results=results, usage=usage, meta=meta), scored=scored
    )


async def rerank_texts(service: Service, body: TeiRerankRequest, patience: Patience) -> Response:
    """Answer as TEI does."""
    service.check([body.query], len(body.texts))
    products = products_of(body.texts, body.locale, service.catalogue, service.limits.text_characters)
    pairs = service.pairs(body.query, products, body.locale)
    answer, scored = await patience.wait(service, service.answer(pairs, patience.x_request_timeout), len(pairs))
    prediction = answer.prediction
    beside = judgements(prediction) if scored else [{} for _ in pairs]
    scores = decimals(prediction.score)
    ranks = [
        TeiRank.model_construct(
            index=place,
            score=scores[place],
            text=body.texts[place] if body.return_text else None,
            **beside[place],
        )
        for place in best_first(prediction.score)
    ]
    return reply(ranks, scored=scored)


def _shown(document: str | Document) -> dict[str, object]:
    return {"text": document} if isinstance(document, str) else document.model_dump(exclude_none=True)
