"""An endpoint: what adding one touches, how it is described, whose errors it has, and what a request may cost."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.testclient import TestClient

from zhichun.score.scorer import load_scorer
from zhichun.serve import service as service_module
from zhichun.serve.api.dialects import ENDPOINTS, api_router, dialect_of, unknown_path
from zhichun.serve.api.endpoint import SMALL_BYTES, Body, Dialect, Documents, ScoringEndpoint, Text, decimals
from zhichun.serve.app import answer_errors
from zhichun.serve.limits import Limits
from zhichun.serve.service import Service

# All that a new endpoint is: one file would hold this.


class OwnError(BaseModel):
    """How it says that something went wrong."""

    sorry: str


class OwnRequest(Body):
    """What it reads."""

    question: Text
    things: Documents


class OwnReply(BaseModel):
    """What it gives back."""

    values: list[float]
    warnings: list[str]


OWN = Dialect("own", OwnError, lambda kind, message, status: {"sorry": message}, empty_status=418)
ENDPOINT = ScoringEndpoint(
    paths=("/own/values",),
    summary="Values, in an interface of our own",
    dialect=OWN,
    request=OwnRequest,
    reply=OwnReply,
    ask=lambda service, body: service.ask([body.question], body.things, body.locale),
    write=lambda service, body, answer, warnings: OwnReply(values=decimals(answer.prediction.score), warnings=warnings),
)


@pytest.fixture(scope="module")
def scorer(tiny_run):
    return load_scorer(tiny_run)


@contextmanager
def serving(scorer: Any, *more: ScoringEndpoint, **limits: Any) -> Iterator[TestClient]:
    service = Service("model", limits=Limits(**limits))

    app = FastAPI()
    app.include_router(api_router(service, (*ENDPOINTS, *more)))
    answer_errors(app)

    @app.post("/open")
    async def _open() -> None:
        service.open(scorer, None)

    with TestClient(app) as client:
        client.post("/open")
        yield client


def test_one_declaration_is_an_endpoint_with_its_description_and_its_errors(scorer):
    with serving(scorer, ENDPOINT, documents=3, text_characters=20) as client:
        answer = client.post("/own/values", json={"question": "red", "things": ["shoe", {"title": "x" * 30}]})
        expected = scorer.score("red", ["shoe", "x" * 20]).score
        assert answer.json()["values"] == pytest.approx(expected.tolist(), abs=1e-6)
        assert answer.json()["warnings"] == ["1 texts were truncated to 20 characters."]
        assert answer.headers["X-Warning"] == "1 texts were truncated to 20 characters."
        for body, status, said in (
            ({"question": "red", "things": []}, 418, "`things` cannot be empty"),
            ({"question": 1, "things": ["a"]}, 422, "question should be a text."),
            ({"things": ["a"]}, 422, "question is missing."),
            ([], 422, "the body should be an object."),
            ({"question": "red", "things": ["a"] * 4}, 413, "4 documents are more than 3."),
        ):
            refused = client.post("/own/values", json=body)
            assert (refused.status_code, refused.json()) == (status, {"sorry": said})
        described = client.get("/openapi.json").json()
    operation = described["paths"]["/own/values"]["post"]
    schemas = described["components"]["schemas"]
    assert operation["summary"] == ENDPOINT.summary
    assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/OwnRequest")
    things = schemas["OwnRequest"]["properties"]["things"]
    assert things["items"]["anyOf"] == [{"type": "string"}, {"$ref": "#/components/schemas/Document"}]
    assert {"title", "product_brand", "id"} <= set(schemas["Document"]["properties"])
    assert {name for name, said in operation["responses"].items() if "OwnError" in str(said)} >= {"413", "415", "422"}
    assert {parameter["name"] for parameter in operation["parameters"]} == {"X-Request-Timeout", "X-On-Timeout"}


@pytest.mark.parametrize("text", ["red shoes " * 12_000, "靴" * 120_000, "<p>red &amp; blue</p>" * 4_000, "x" * 99_000])
def test_a_long_text_has_the_score_that_it_has_in_python_and_is_cut_with_a_warning(scorer, text):
    with serving(scorer) as client:
        said = client.post(
            "/v1/rerank", json={"query": "red", "documents": [text, {"title": "a", "description": text}]}
        )
    expected = scorer.score("red", [text, {"title": "a", "description": text}]).score
    scores = {result["index"]: result["relevance_score"] for result in said.json()["results"]}
    assert [scores[0], scores[1]] == pytest.approx(expected.tolist(), abs=1e-6)
    warnings = ["2 texts were truncated to 100,000 characters."] if len(text) > 100_000 else None
    assert said.json()["meta"].get("warnings") == warnings


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/v2/rerank", "Cohere"),
        ("/api/v1/rerank", "Jina"),
        ("/rerank", "TEI or Jina"),
        ("/x/predict", "TEI"),
        ("/nowhere", "Jina"),
    ],
)
def test_a_path_that_is_not_there_is_answered_in_the_words_of_the_one_it_ends_with(path, dialect):
    assert dialect_of(path).name == dialect
    message = unknown_path().message
    assert message.index("/v1/rerank") < message.index("/predict")
    assert "/v2/rerank" in message


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/v1/rerank", {"query": "a", "documents": ["a", None]}, "documents.1 is null: give a text or an object."),
        ("/v1/rerank", {"query": "a", "documents": "b"}, "documents should be a list."),
        ("/v1/rerank", {"query": "a", "documents": []}, "`documents` cannot be empty"),
        ("/v1/rerank", {"query": None, "documents": ["a"]}, "query should be a text."),
        ("/v1/rerank", {"query": "a", "documents": ["a"], "top_n": -1}, "top_n should be greater than or equal to 0."),
        ("/v1/rerank", {"query": "a", "documents": ["a"], "locale": "x" * 17}, "locale string should have at most 16"),
        ("/rerank", {"query": "a"}, "documents is missing."),
        ("/rerank", {"query": "a", "texts": ["a", None]}, "texts.1 should be a text."),
        ("/score", {"queries": ["a", 1], "documents": ["a", "b"]}, "queries.1 should be a text."),
        ("/score", {"text_1": "a", "text_2": None}, "documents.0 is null: give a text or an object."),
        ("/score", {"data_1": "a", "data_2": None}, "documents.0 is null: give a text or an object."),
        ("/score", {"queries": "a", "items": None}, "documents.0 is null: give a text or an object."),
        ("/score", {"queries": ["a"] * 3, "documents": ["a"] * 2}, "3 queries and 2 documents: give one query"),
        ("/predict", {"inputs": [["a", "b"], ["c"]]}, "inputs.1 list should have at least 2 items"),
    ],
)
def test_a_refusal_names_what_was_wrong_in_plain_words(scorer, path, body, said):
    with serving(scorer) as client:
        assert said in client.post(path, json=body).text
    for value in ("0", "-1", "soon", "nan"):
        assert client.post(path, json=body, headers={"X-Request-Timeout": value}).status_code == 422


MANY = 1_000_000
HOSTILE = {
    "integers": ("/v1/rerank", b'{"query":"a","documents":[' + b"1," * MANY + b"1]}"),
    "empty texts": ("/v2/rerank", b'{"query":"a","documents":[' + b'"",' * MANY + b'""]}'),
    "objects": ("/rerank", b'{"query":"a","documents":[' + b"{}," * MANY + b"{}]}"),
    "keys": ("/rerank", b'{"query":"a","documents":[{' + b",".join(b'"%x":1' % n for n in range(MANY)) + b"}]}"),
    "pairs": ("/predict", b'{"inputs":[' + b"[1]," * MANY + b"[1]]}"),
    "queries": ("/score", b'{"documents":"a","queries":[' + b"1," * MANY + b"1]}"),
    "few integers": ("/v1/rerank", b'{"query":"a","documents":[' + b"1," * 50_000 + b"1]}"),
    "few pairs": ("/predict", b'{"inputs":[' + b"[1]," * 30_000 + b"[1]]}"),
    "a long name": ("/v1/rerank", b'{"query":"a","documents":[{"' + b"x" * 15_000_000 + b'":1}]}'),
    "a long key": ("/v1/rerank", b'{"query":"a","' + b"x" * 15_000_000 + b'":1}'),
    "a long locale": ("/v1/rerank", b'{"query":"a","documents":["a"],"locale":"' + b"x" * 15_000_000 + b'"}'),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_body_that_was_made_to_cost_is_refused_in_a_sentence(scorer, case):
    path, body = HOSTILE[case]
    with serving(scorer) as client:
        answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (413, 422)
    assert len(answer.content) < 500


def test_work_on_a_body_is_done_beside_the_event_loop(scorer, monkeypatch):
    threads: dict[str, bool] = {}

    def noted(name: str, function: Any) -> Any:
        def call(*given: Any, **options: Any) -> Any:
            try:
                asyncio.get_running_loop()
                threads[name] = False
            except RuntimeError:
                threads[name] = threading.current_thread().name.startswith("requests")
            return function(*given, **options)

        return call

    service = "zhichun.serve.service"
    for name in (f"{service}.read_documents", f"{service}.clean_text", "zhichun.serve.api.endpoint.reply"):
        module, _, attribute = name.rpartition(".")
        monkeypatch.setattr(name, noted(attribute, getattr(__import__(module, fromlist=["x"]), attribute)))
    with serving(scorer) as client:
        assert client.post("/v1/rerank", json={"query": "red", "documents": ["a"]}).status_code == 200
    assert threads == {"read_documents": True, "clean_text": True, "reply": True}


def test_a_large_body_is_parsed_beside_the_event_loop_and_a_small_one_at_once(scorer, monkeypatch):
    threads: dict[bool, str] = {}
    loads = json.loads

    def watched(text: str, **options: Any) -> Any:
        threads[len(text) > SMALL_BYTES] = threading.current_thread().name
        return loads(text, **options)

    monkeypatch.setattr("zhichun.serve.limits.json.loads", watched)
    with serving(scorer) as client:
        for size in (10, SMALL_BYTES):
            assert client.post("/v1/rerank", json={"query": "red", "documents": ["a" * size]}).status_code == 200
    assert [threads[is_large].startswith("requests") for is_large in (True, False)] == [True, False]


def test_every_endpoint_is_in_the_documents():
    page = Path(__file__).parents[3].joinpath("docs/serving.md").read_text("utf-8")
    for endpoint in ENDPOINTS:
        for path in endpoint.paths:
            assert f"`{'POST' if isinstance(endpoint, ScoringEndpoint) else 'GET'} {path}`" in page


def test_a_small_request_does_not_wait_for_work_on_large_ones(scorer, monkeypatch):
    begun, go = threading.Semaphore(0), threading.Event()
    read = service_module.read_documents

    def held(queries: Any, *given: Any) -> Any:
        if len(queries) > 10:
            begun.release()
            assert go.wait(20)
        return read(queries, *given)

    monkeypatch.setattr(service_module, "read_documents", held)
    large = {"query": "red", "documents": ["x" * 100_000] * 11, "return_documents": False}
    with serving(scorer) as client:
        asked = [threading.Thread(target=client.post, args=("/v1/rerank",), kwargs={"json": large}) for _ in range(6)]
        for thread in asked:
            thread.start()
        assert begun.acquire(timeout=20)
        assert client.post("/v1/rerank", json={"query": "red", "documents": ["a"]}).status_code == 200
        assert not begun.acquire(blocking=False), "large ones are worked on one by one"
        go.set()
        for thread in asked:
            thread.join(20)
