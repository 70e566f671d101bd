"""The endpoints about the server itself: ``/v1/models``, ``/info``, ``/health`` and ``/metrics``."""

from typing import Any

from fastapi import APIRouter, Response

import zhichun
from zhichun.serve.api.dialects import Dialect
from zhichun.serve.api.replies import failures, reply
from zhichun.serve.api.responses import Health, Info, ModelCard, ModelList
from zhichun.serve.http.counters import CONTENT_TYPE
from zhichun.serve.queue.service import Service


def status_router(service: Service) -> APIRouter:
    """Make the endpoints of a service."""
    router = APIRouter(tags=["status"])
    unwell: dict[int | str, dict[str, Any]] = {503: {"model": Health, "description": "Not now."}}

    def health(*, ready: bool) -> Response:
        is_ready, live = service.phase == "ready", service.phase != "failed"
        response = reply(Health(status=service.phase, live=live, ready=is_ready))
        response.status_code = 200 if (is_ready if ready else live) else 503
        return response

    # Load balancers ask with HEAD; it has no answer of its own to describe.
    @router.head("/health", include_in_schema=False)
    @router.head("/health/ready", include_in_schema=False)
    @router.get("/health", summary="Whether requests are answered now", responses={200: {"model": Health}, **unwell})
    @router.get("/health/ready", summary="The same", responses={200: {"model": Health}, **unwell})
    async def ready() -> Response:
        return health(ready=True)

    @router.head("/health/live", include_in_schema=False)
    @router.get("/health/live", summary="Whether the process works", responses={200: {"model": Health}, **unwell})
    async def live() -> Response:
        return health(ready=False)

    @router.get("/v1/models", summary="The model", responses={200: {"model": ModelList}, **_some(Dialect.VLLM)})
    async def models() -> Response:
        card = ModelCard(id=service.model, created=service.created, max_model_len=service.scorer.max_length)
        return reply(ModelList(data=[card]))

    @router.get(
        "/info",
        summary="Model, limits and version (TEI)",
        responses={200: {"model": Info}, **_some(Dialect.TEI)},
    )
    async def info() -> Response:
        return reply(info_of(service))

    @router.get(
        "/metrics",
        summary="Counts for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    return router


def info_of(service: Service) -> Info:
    """Describe a service."""
    scorer, task, limits = service.scorer, service.task, service.limits
    names = task.classes or ("gain",)
    labels = {str(place): name for place, name in enumerate(names)}
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


def _some(dialect: Dialect) -> dict[int | str, dict[str, Any]]:
    return {status: text for status, text in failures(dialect).items() if status in (401, 403, 500, 503)}
