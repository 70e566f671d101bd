"""What the server refuses, and in whose words: keys, hosts, limits, broken bodies, a full queue, a time that is up."""

import base64
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("fastapi")
from starlette.testclient import TestClient

from zhichun.score.scorer import load_scorer
from zhichun.serve import batcher, service
from zhichun.serve.app import create_app
from zhichun.serve.guard import LOOPBACK, Keys
from zhichun.serve.limits import Limits
from zhichun.serve.service import Service

BODY = {"query": "red shoes", "documents": ["Red shoes", "Blue hat"]}
TEI_BODY = {"query": "red shoes", "texts": ["Red shoes", "Blue hat"]}


@pytest.fixture(scope="module")
def scorer(tiny_run):
    return load_scorer(tiny_run)


@contextmanager
def serving(scorer: Any, limits: Limits | None = None, **options: Any) -> Iterator[TestClient]:
    """Give a client of an application in this process, whose model is loaded."""
    service = Service("model", limits=limits or Limits())
    app = create_app(lambda: (scorer, None), service, **options)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        latest = time.monotonic() + 20
        while service.phase == "loading" and time.monotonic() < latest:
            time.sleep(0.01)
        yield client


@pytest.fixture(scope="module")
def client(scorer) -> Iterator[TestClient]:
    limits = Limits(body_bytes=4000, documents=5, query_characters=50, text_characters=200)
    with serving(scorer, limits, hosts=LOOPBACK) as client:
        yield client


# Keys


@pytest.fixture(scope="module")
def locked(scorer) -> Iterator[TestClient]:
    with serving(scorer, keys=Keys.of(["one-key", "schlüssel"])) as client:
        yield client


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer one-key"},
        {"Authorization": "bearer one-key"},
        {"X-API-Key": "one-key"},
        {"Authorization": basic("one-key")},
        {"Authorization": "Bearer schlüssel".encode()},
    ],
)
def test_each_way_of_sending_a_key_opens(locked, headers):
    assert locked.post("/rerank", json=BODY, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer two-key"},
        {"Authorization": "one-key"},
        {"Authorization": "Basic one-key"},
        {"Authorization": basic("one-key:")},
        {"X-API-Key": ""},
        {"X-API-Key": "one-ke"},
    ],
)
@pytest.mark.parametrize("path", ["/rerank", "/", "/metrics", "/openapi.json", "/nowhere", "/info"])
def test_without_a_key_there_is_401_and_nothing_else(locked, headers, path):
    for answer in (locked.get(path, headers=headers), locked.post(path, content=b"{", headers=headers)):
        assert answer.status_code == 401
        assert set(answer.json()) <= {"error", "error_type", "detail", "message", "id"}
        assert "key is missing or wrong" in answer.text
    asks_browser = "Basic" in locked.get(path, headers=headers).headers["WWW-Authenticate"]
    assert asks_browser == (path == "/")


def test_health_needs_no_key(locked):
    for path in ("/health", "/health/live", "/health/ready"):
        assert locked.get(path).json() == {"status": "ready", "live": True, "ready": True}


# Who may ask


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.2", ""])
def test_a_name_that_is_not_ours_is_refused(client, host):
    answer = client.post("/rerank", json=BODY, headers={"Host": host})
    assert (answer.status_code, "Host header not allowed" in answer.text) == (403, True)


CROSS_ORIGIN = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://[", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://["},
    {"Origin": "http://localhost:3000"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1"},
]


@pytest.mark.parametrize("headers", CROSS_ORIGIN)
def test_a_page_of_another_origin_is_rejected(client, headers):
    answer = client.post("/rerank", json=BODY, headers=headers)
    assert (answer.status_code, "cross-origin request rejected" in answer.text) == (403, True)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://127.0.0.1"},
        {"Origin": "https://shop.example", "Sec-Fetch-Site": "same-origin"},  # a proxy that does not pass the host on
        {"Origin": "https://search.example"},
        {"Origin": "https://search.example", "Host": "search.example"},
        {"Sec-Fetch-Site": "none"},
        {},
    ],
)
def test_our_own_page_may_ask_also_behind_a_proxy(scorer, headers):
    with serving(scorer, hosts=LOOPBACK | {"search.example"}) as client:
        assert client.post("/rerank", json=BODY, headers=headers).status_code == 200


def test_health_is_open_to_http_1_0_and_to_any_name(server):
    address = urlsplit(server)
    for request in (b"GET /health HTTP/1.0\r\n\r\n", b"HEAD /health HTTP/1.1\r\nHost: balancer.example\r\n\r\n"):
        with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
            connection.sendall(request)
            assert connection.recv(15) == b"HTTP/1.1 200 OK"


# What is too much


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({**BODY, "documents": ["a"] * 6}, 413),
        ({**BODY, "query": "a" * 51}, 422),
        ({**BODY, "documents": ["a" * 5000]}, 413),
        ({**BODY, "query": " \u3000"}, 422),
        ({**BODY, "top_n": -1}, 422),
        ({**BODY, "documents": [{"titel": "a"}]}, 422),
        ({**BODY, "documents": [{"brand": "a", "product_brand": "b"}]}, 422),
        ({**BODY, "documents": [{"id": "B1"}]}, 422),
        ({**BODY, "documents": [7]}, 422),
        ({**BODY, "query": None}, 422),
        ({"query": "a"}, 422),
        ([], 422),
    ],
)
def test_what_cannot_be_answered_says_why(client, body, status):
    answer = client.post("/v1/rerank", json=body)
    assert answer.status_code == status
    assert isinstance(answer.json()["detail"], str)


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank", "/score", "/v1/score", "/predict"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nul",
        b"\xff\xfe",
        b'{"query": NaN, "documents": [Infinity]}',
        b'{"query": "\\ud800", "documents": ["\\udfff"], "texts": ["\\ud800"]}',
        b"[" * 3000,
        b'{"query": ' + b"[" * 1500,
        b'{"query": 1' + b"0" * 3000 + b', "documents": [1]}',
        b'{"inputs": [["a"]], "queries": [], "documents": []}',
        b'{"query": "a", "documents": {"a": 1}}',
    ],
)
def test_broken_bodies_are_the_client_s_fault(client, path, body):
    answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert answer.json()


def test_each_interface_is_refused_in_its_own_words(client):
    def said(path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = client.post(path, json=body)
        assert answer.status_code == 422
        return answer.json()

    assert set(said("/rerank", {**TEI_BODY, "query": " "})) == {"error", "error_type"}
    assert set(said("/rerank", {**BODY, "query": " "})) == {"detail"}
    assert set(said("/v2/rerank", {**BODY, "query": " "})) >= {"message"}
    assert set(said("/predict", {"inputs": [[" ", "a"]]})) == {"error", "error_type"}
    assert "error" in said("/score", {"queries": " ", "documents": ["a"]})


def test_texts_are_in_no_log_and_errors_carry_no_trace(scorer, caplog, monkeypatch):
    def broken(_: Any, pairs: Any) -> None:
        raise RuntimeError(pairs.queries[0])

    monkeypatch.setattr(batcher, "score", broken)
    with serving(scorer) as client, caplog.at_level("INFO"):
        answer = client.post("/v1/rerank", json={"query": "secret words", "documents": ["secret words"]})
    assert answer.status_code == 424
    assert "secret" not in answer.text + caplog.text
    assert "Traceback" not in answer.text
    assert "RuntimeError" in caplog.text


def test_texts_are_logged_when_that_was_asked_for(scorer, caplog):
    with serving(scorer, log_texts=True) as client, caplog.at_level("INFO"):
        client.post("/v1/rerank", json={"query": "open words", "documents": ["a"]})
    assert "open words" in caplog.text


def test_a_client_cannot_write_lines_of_the_log(scorer, caplog):
    with serving(scorer, log_texts=True) as client, caplog.at_level("INFO"):
        client.post("/rerank", content=b"a\n2026 ERROR forged\x1b[2J", headers={"Content-Type": "application/json"})
        client.get("/%0A2026%20ERROR%20forged%1b[2J")
        client.request("X" * 1000, "/rerank")
    ours = [record.getMessage() for record in caplog.records if record.name == "zhichun.serve"]
    assert any(r"a\n2026 ERROR forged\x1b[2J" in line for line in ours)
    assert not any("\n" in line or "\x1b" in line or "X" * 30 in line for line in ours)


# Under load


def test_large_answers_that_are_not_read_yet_count_as_held(scorer):
    body = {"query": "red", "documents": ["shoe"] * 500}  # whose answer is some times as large
    with serving(scorer, Limits(held_bytes=100_000)) as client:
        for _ in range(3):
            answer = client.post("/v1/rerank", json=body)
            assert (answer.status_code, "not read yet" in answer.json()["detail"]) == (429, True)
            assert answer.headers["Retry-After"] == "1"
        assert client.post("/v1/rerank", json=BODY).status_code == 200
    with serving(scorer, Limits(held_bytes=1_000_000)) as client:
        for _ in range(9):
            assert client.post("/v1/rerank", json=body).status_code == 200


def test_bodies_of_which_there_is_no_room_are_refused_and_leave_none_behind(scorer):
    with serving(scorer, Limits(held_bytes=4000)) as client:
        for _ in range(3):
            answer = client.post("/v1/rerank", json={"query": "red", "documents": ["a" * 3000]})
            assert (answer.status_code, "bodies of all requests" in answer.json()["detail"]) == (429, True)
        for _ in range(9):
            assert client.post("/v1/rerank", json={"query": "red", "documents": ["a" * 1000]}).status_code == 200


def test_memory_that_a_large_body_leaves_is_returned_in_threads_and_none_is_sought_after_small_ones(
    scorer, monkeypatch
):
    threads: list[str] = []
    monkeypatch.setattr(service, "TRIM", lambda kept: threads.append(threading.current_thread().name))
    with serving(scorer) as client:
        for size, parts in ((service.LARGE_BYTES // 200, 100), (service.LARGE_BYTES // 50, 100)):
            body = {"query": "red", "documents": ["a" * size] * parts}
            assert client.post("/v1/rerank", json=body).status_code == 200
            if size * parts < service.LARGE_BYTES:
                assert not threads
        assert client.post("/v1/rerank", json={**body, "documents": [*body["documents"], 1]}).status_code == 422
        latest = time.monotonic() + 20
        while len(threads) < 3 + 1 + 2 + 1 and time.monotonic() < latest:
            time.sleep(0.01)
    # Parsed, read and written, the second one not written, and each once more when nothing of it is held.
    assert len(threads) == 3 + 1 + 2 + 1
    assert all(name.startswith("requests") for name in threads)


@pytest.fixture
def held(monkeypatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Hold the model up until it is let go: events for `begun` and `go`."""
    begun, go, score = threading.Event(), threading.Event(), batcher.score

    def waiting(*given: Any) -> Any:
        begun.set()
        assert go.wait(20)
        return score(*given)

    monkeypatch.setattr(batcher, "score", waiting)
    yield begun, go
    go.set()


def in_background(ask: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(ask()), daemon=True)
    thread.start()
    return thread, answers


def until(happened: Callable[[], bool]) -> None:
    latest = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < latest
        time.sleep(0.01)


def waiting_pairs(client: TestClient) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("zhichun_queue_pairs "))


def test_a_full_queue_says_when_to_come_back(scorer, held):
    begun, go = held
    with serving(scorer, Limits(queue_pairs=3)) as client:
        first = in_background(lambda: client.post("/rerank", json={"query": "first", "documents": ["a", "b"]}))
        assert begun.wait(10)
        second = in_background(lambda: client.post("/rerank", json={"query": "second", "documents": ["a", "b"]}))
        until(lambda: waiting_pairs(client) == 2)
        refused = client.post("/rerank", json=TEI_BODY)
        go.set()
        for thread, answers in (first, second):
            thread.join(20)
            assert answers[0].status_code == 200
    assert (refused.status_code, refused.json()["error_type"]) == (429, "Overloaded")
    assert int(refused.headers["Retry-After"]) >= 1


def test_a_time_that_is_over_is_504_or_the_incoming_order(scorer, held):
    _, go = held
    with serving(scorer) as client:
        hurry = {"X-Request-Timeout": "0.1"}
        late = client.post("/v1/rerank", json=BODY, headers=hurry)
        ordered = client.post("/v1/rerank", json=BODY, headers={**hurry, "X-On-Timeout": "incoming-order"})
        go.set()
    assert late.status_code == 504
    assert (ordered.status_code, ordered.headers["X-Order"]) == (200, "incoming")
    assert [result["index"] for result in ordered.json()["results"]] == [0, 1]
    assert ordered.json()["meta"]["order"] == "incoming"
    assert ordered.json()["meta"]["warnings"]
    for value in ("0", "-1", "soon", "nan"):
        assert client.post("/v1/rerank", json=BODY, headers={"X-Request-Timeout": value}).status_code in (422, 503)


def test_a_large_request_does_not_hold_up_a_small_one(scorer, monkeypatch):
    rounds: list[list[str]] = []
    score = batcher.score

    def watched(model: Any, pairs: Any) -> Any:
        rounds.append(pairs.queries)
        time.sleep(0.02)
        return score(model, pairs)

    monkeypatch.setattr(batcher, "score", watched)
    monkeypatch.setattr(batcher, "FIRST_CHARACTERS", 400)
    monkeypatch.setattr(batcher, "ROUND_SECONDS", 1e-6)  # rounds stay as small as they may be
    with serving(scorer) as client:
        documents = [f"shoe {number}" for number in range(300)]
        large, _ = in_background(lambda: client.post("/rerank", json={"query": "large", "documents": documents}))
        until(lambda: len(rounds) > 1)
        assert client.post("/rerank", json={"query": "small", "documents": ["shoe"]}).status_code == 200
        asked = len(rounds)
        large.join(20)
    assert any("small" in queries and "large" in queries for queries in rounds)
    assert asked < len(rounds)


def test_what_is_asked_again_is_not_computed_again(scorer):
    with serving(scorer) as client:
        first, second = (client.post("/v1/rerank", json=BODY).json() for _ in range(2))
        metrics = client.get("/metrics").text
    assert first["results"] == second["results"]
    hits = next(line for line in metrics.splitlines() if line.startswith("zhichun_") and "cache" in line)
    assert float(hits.split()[-1]) == 2, hits
