"""Whatever comes, the server answers what its document says, and never with a fault of its own."""

import http.client
import importlib
import json
import random
import socket
from urllib.parse import urlsplit

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("fastapi")
schemathesis = pytest.importorskip("schemathesis")
openapi_checks = importlib.import_module("schemathesis.specs.openapi.checks")
create_app = importlib.import_module("zhichun.serve.app").create_app
best_first = importlib.import_module("zhichun.serve.replies").best_first
Service = importlib.import_module("zhichun.serve.service").Service

CHECKS = (
    schemathesis.checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
)
DOCUMENT = schemathesis.openapi.from_dict(create_app(lambda: None, Service("model")).openapi())
OPERATIONS = [found.ok() for found in DOCUMENT.get_all_operations()]
POSTS = ("/rerank", "/v1/rerank", "/v2/rerank", "/score", "/v1/score", "/predict")
GARBAGE = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"\xff\xfe\x00",
    b'{"query": "\xc3\x28", "documents": ["a"], "texts": ["a"]}',
    b'{"query": "\\ud800", "documents": ["a"]}',
    b'{"query": "a", "documents": ["\\udfff"]}',
    b'{"query": "a", "documents": [{"title": NaN}]}',
    b'{"query": "a", "documents": [{"title": 1e999}]}',
    b'{"query": "a", "documents": ["a"], "top_n": NaN}',
    b'{"query": "a", "documents": ["a"], "top_n": ' + b"9" * 5000 + b"}",
    b'{"query": "a", "documents": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    b'{"query": "a", "documents": [], "texts": []}',
    b'{"query": 1, "documents": {"a": 1}}',
    b'{"query": "\\u0000", "documents": ["a"]}',
    b'{"query": "a", "documents": [{"tilte": "a"}]}',
    b'{"query": "a", "documents": [{"text": "a", "title": "b"}]}',
    b'{"query": "a", "documents": [["a"]]}',
    b'{"inputs": [["a"]]}',
    b'{"inputs": []}',
    b'{"queries": ["a", "b"], "documents": ["a", "b", "c"]}',
]


@pytest.mark.parametrize("path", POSTS)
def test_garbage_is_refused(server, path):
    at = urlsplit(server)
    for body in GARBAGE:
        connection = http.client.HTTPConnection(at.hostname, at.port, timeout=30)
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        assert 400 <= answer.status < 500, (body[:60], answer.status, said)
        assert json.loads(said)
        assert b"Traceback" not in said


@pytest.mark.parametrize("chunk", [b"\x00\x01\x02", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 50])
def test_raw_bytes_leave_the_server_standing(server, chunk):
    at, draw = urlsplit(server), random.Random(len(chunk))
    head = b"POST /rerank HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    for raw in (
        chunk,
        head + b"Content-Length: 5\r\n\r\n" + chunk,
        head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk,
        head + b"Content-Length: -1\r\n\r\n" + chunk,
        draw.randbytes(300),
        head + draw.randbytes(300),
    ):
        with socket.create_connection((at.hostname, at.port), timeout=10) as connection:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            try:
                said = connection.recv(4096)
            except ConnectionResetError:
                said = b""
        assert b" 500 " not in said
    connection = http.client.HTTPConnection(at.hostname, at.port, timeout=10)
    connection.request("GET", "/health")
    assert connection.getresponse().status == 200
    connection.close()


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_answers_are_those_of_the_document(server, operation):
    @settings(max_examples=5, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy())
    def check(case):
        case.validate_response(case.call(base_url=server), checks=[*CHECKS])

    check()


@given(st.lists(st.floats(0, 1, width=32), max_size=60))
def test_each_index_comes_once_sorted_and_stable(scores):
    score_P = np.array(scores, np.float32)
    order = best_first(score_P)
    assert sorted(order) == list(range(len(scores)))
    assert order == sorted(range(len(scores)), key=lambda place: (-score_P[place], place))
