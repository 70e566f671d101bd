"""What holds of every answer of the server, whatever it is asked; and that its description is true."""

import json
import socket
from urllib.parse import urlsplit

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("fastapi")
schemathesis = pytest.importorskip("schemathesis")
httpx2 = pytest.importorskip("httpx2")

from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402

from zhichun.score.scorer import load_scorer  # noqa: E402

TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
QUERIES = TEXTS.map(lambda text: f"shoe {text}")
GENTLE = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def scorer(tiny_run):
    return load_scorer(tiny_run)


@GENTLE
@given(query=QUERIES, texts=st.lists(TEXTS, min_size=1, max_size=12), top_n=st.none() | st.integers(0, 15))
def test_each_index_comes_once_best_first_and_as_the_model_scores(server, scorer, query, texts, top_n):
    answer = httpx2.post(f"{server}/v1/rerank", json={"query": query, "documents": texts, "top_n": top_n}, timeout=30)
    assert answer.status_code == 200
    results = answer.json()["results"]
    indices = [result["index"] for result in results]
    expected = scorer.score(query, [{"title": text} for text in texts]).score
    assert len(set(indices)) == len(indices) == min(top_n or len(texts), len(texts))
    scores = np.array([result["relevance_score"] for result in results], np.float32)
    assert np.abs(scores - expected[indices]).max() < 1e-5
    assert (np.diff(scores) <= 0).all()
    ties = np.flatnonzero(np.diff(scores) == 0)
    assert all(indices[place] < indices[place + 1] for place in ties)
    assert all(f'"relevance_score":{result["relevance_score"]}' for result in results)
    assert all("." in part.split(",")[0] or "e-" in part for part in answer.text.split('"relevance_score":')[1:])


@GENTLE
@given(content=st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["query", "documents", "texts", "queries", "text_1", "text_2", "inputs", "top_n", "x"]),
        inner, max_size=5),
    max_leaves=12,
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
@pytest.mark.parametrize("path", ["/rerank", "/v2/rerank", "/score", "/predict"])
def test_no_body_breaks_it(server, path, content):
    answer = httpx2.post(server + path, content=content, headers={"Content-Type": "application/json"}, timeout=30)
    assert answer.status_code < 500, answer.text
    json.loads(answer.text)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(sent=st.binary(max_size=300) | st.binary(max_size=60).map(
    lambda rest: b"POST /rerank HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 40\r\n\r\n" + rest
) | st.binary(max_size=60).map(lambda rest: b"GET /" + rest + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"))  # fmt: skip
def test_no_bytes_break_it(server, sent):
    place = urlsplit(server)
    with socket.create_connection((place.hostname, place.port), timeout=10) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(10)
        said = b""
        while part := connection.recv(65536):
            said += part
    assert b" 500 " not in said.partition(b"\r\n")[0]
    assert httpx2.get(f"{server}/health", timeout=10).status_code == 200


ENDPOINTS = ["/rerank", "/v1/rerank", "/v2/rerank", "/score", "/v1/score", "/predict"]
ENDPOINTS += ["/v1/models", "/info", "/health", "/health/live", "/health/ready", "/metrics"]


@pytest.mark.parametrize("path", ENDPOINTS)
def test_the_description_is_true(server, path):
    """What schemathesis makes up from the description is answered as the description says."""
    described = schemathesis.openapi.from_url(f"{server}/openapi.json")
    (operation,) = (found.ok() for found in described.get_all_operations() if found.ok().path == path)

    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def holds(case):
        # A blank query and an id without a catalogue are valid by the schema, and refused with the 422 that it names.
        # A time that nobody can keep is 504, which is the server's word for it and no fault.
        answer = case.call_and_validate(excluded_checks=[positive_data_acceptance, not_a_server_error])
        assert answer.status_code < 500 or answer.status_code == 504

    holds()
