"""The endpoints for operators: ``/health`` and ``/metrics``."""

from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from zhichun.serve.api.endpoint import reply
from zhichun.serve.http.counters import CONTENT_TYPE
from zhichun.serve.queue.service import Service


class Health(BaseModel):
    """Whether the server answers."""

    status: Literal["loading", "ready", "draining", "failed"]
    live: bool
    ready: bool


def add(router: APIRouter, service: Service) -> None:
    """Serve them."""
    said: dict[int | str, dict[str, Any]] = {200: {"model": Health}, 503: {"model": Health, "description": "Not now."}}

    def health(*, ready: bool) -> Response:
        is_ready, live = service.phase == "ready", service.phase != "failed"
        response = reply(Health(status=service.phase, live=live, ready=is_ready))
        response.status_code = 200 if (is_ready if ready else live) else 503
        return response

    # Load balancers ask with HEAD; it has no answer of its own to describe.
    @router.head("/health", include_in_schema=False)
    @router.head("/health/ready", include_in_schema=False)
    @router.get("/health", summary="Whether requests are answered now", responses=said)
    @router.get("/health/ready", summary="The same", responses=said)
    async def ready() -> Response:
        return health(ready=True)

    @router.head("/health/live", include_in_schema=False)
    @router.get("/health/live", summary="Whether the process works", responses=said)
    async def live() -> Response:
        return health(ready=False)

    @router.get(
        "/metrics",
        summary="Counts for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})
