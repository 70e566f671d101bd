"""What the server says of itself: its health, by GET and by HEAD, and the description of its endpoints."""

import http.client
import json
from urllib.parse import urlsplit

import pytest

pytest.importorskip("fastapi")
from fastapi import FastAPI
from starlette.testclient import TestClient

from zhichun.serve.api.dialects import api_router
from zhichun.serve.limits import Limits
from zhichun.serve.service import Service

HEALTH = ("/health", "/health/ready", "/health/live")


@pytest.mark.parametrize(
    ("phase", "statuses"),
    [
        ("loading", [503, 503, 200]),
        ("ready", [200, 200, 200]),
        ("draining", [503, 503, 200]),
        ("failed", [503, 503, 503]),
    ],
)
def test_health_is_what_the_phase_says_by_either_method(phase, statuses):
    service, app = Service("model", limits=Limits()), FastAPI()
    service.phase = phase
    app.include_router(api_router(service))
    client = TestClient(app)
    for path, status in zip(HEALTH, statuses, strict=True):
        whole, head = client.get(path), client.head(path)
        assert whole.status_code == head.status_code == status
        assert whole.json()["status"] == phase
        assert (head.content, head.headers) == (b"", whole.headers)


@pytest.mark.parametrize("path", [*HEALTH, "/"])
def test_head_has_no_body_on_the_wire(server, path):
    """A body after the headers would be read as the next answer of the connection."""
    connection = http.client.HTTPConnection(urlsplit(server).netloc, timeout=10)
    for method in ("HEAD", "GET"):
        connection.request(method, path)
        answer = connection.getresponse()
        assert answer.status == 200
        assert bool(answer.read()) == (method == "GET")
    connection.close()


def test_the_description_names_every_endpoint(server):
    connection = http.client.HTTPConnection(urlsplit(server).netloc, timeout=10)
    connection.request("GET", "/openapi.json")
    paths = json.load(connection.getresponse())["paths"]
    connection.close()
    asked = {"/rerank", "/v1/rerank", "/v2/rerank", "/score", "/v1/score", "/predict", "/v1/models", "/info"}
    assert asked | {*HEALTH, "/metrics"} == set(paths)
    assert {method for path in HEALTH for method in paths[path]} == {"get"}
