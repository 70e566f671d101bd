"""All endpoints, with those for operators, and the dialect of a path's errors.

A new endpoint is one line in `ENDPOINTS`.
"""

from typing import Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from zhichun.serve.api import cohere, jina, tei, vllm
from zhichun.serve.api.endpoint import Dialect, Endpoint, ScoringEndpoint, reply
from zhichun.serve.limits import CONTENT_TYPE, Refusal
from zhichun.serve.service import Phase, Service

ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    tei.RERANK,
    jina.RERANK,
    cohere.RERANK,
    vllm.SCORE,
    tei.PREDICT,
    vllm.MODELS,
    tei.INFO,
)


def api_router(service: Service, endpoints: tuple[Endpoint, ...] = ENDPOINTS) -> APIRouter:
    """Make the routes of a service."""
    router = APIRouter()
    for endpoint in endpoints:
        endpoint.add(router, service)
    _add_status(router, service)
    return router


class Health(BaseModel):
    """Whether the server answers."""

    status: Phase
    live: bool
    ready: bool


def _add_status(router: APIRouter, service: Service) -> None:
    """Serve health and counts."""
    described: dict[int | str, Any] = {200: {"model": Health}, 503: {"model": Health, "description": "Not now."}}

    async def health(request: Request) -> Response:
        found = Health(status=service.phase, live=service.phase != "failed", ready=service.phase == "ready")
        response = reply(found)
        response.status_code = 200 if (found.live if request.url.path.endswith("/live") else found.ready) else 503
        return response

    for path, summary in (
        ("/health", "Whether requests are answered now"),
        ("/health/ready", "The same"),
        ("/health/live", "Whether the process works"),
    ):
        router.get(path, summary=summary, responses=described)(health)
        router.head(path, include_in_schema=False)(health)  # as load balancers ask

    @router.get(
        "/metrics",
        summary="Counts for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def dialect_of(path: str) -> Dialect:
    """Return the dialect of a path's errors; for an unknown path, that of the endpoint it ends with."""
    paths = {known: endpoint.dialect for endpoint in ENDPOINTS for known in endpoint.paths}
    ends = [known for known in paths if path.endswith(known)]
    return paths[max(ends, key=len)] if ends else jina.JINA


def unknown_path() -> Refusal:
    """Refuse an unknown path, and list the endpoints."""
    scoring = [path for each in ENDPOINTS if isinstance(each, ScoringEndpoint) for path in each.paths]
    there = ", ".join(sorted(scoring, key=lambda path: "rerank" not in path))
    return Refusal(404, "Validation", f"there is no such path. POST {there}; GET /openapi.json describes all.")
