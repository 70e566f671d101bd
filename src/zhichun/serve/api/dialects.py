"""All endpoints, and the dialect of a path's errors; a new endpoint is one line in `ENDPOINTS`."""

from typing import Final

from fastapi import APIRouter

from zhichun.serve.api import cohere, jina, status, tei, vllm
from zhichun.serve.api.endpoint import Dialect, Endpoint, ScoringEndpoint
from zhichun.serve.api.refusal import Refusal
from zhichun.serve.queue.service import Service

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
    status.add(router, service)
    return router


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
