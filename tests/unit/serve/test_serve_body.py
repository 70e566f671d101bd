"""How a body of JSON is read: what is refused before it is parsed, and in which words."""

import gzip
import json
import platform
import resource
import tracemalloc
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
from fastapi import FastAPI, Request
from starlette.testclient import TestClient

from zhichun.serve.app import answer_errors
from zhichun.serve.limits import Refusal, cut, json_body, parsed
from zhichun.serve.service import TRIM

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def client() -> TestClient:
    """A client of an application with one endpoint, which says what it read."""
    app = FastAPI()

    @app.post("/echo")
    async def echo(request: Request) -> object:
        return parsed(await json_body(request), documents=10)

    answer_errors(app)
    return TestClient(app)


@pytest.mark.parametrize(
    ("content", "headers", "status", "said"),
    [
        (gzip.compress(b"{}", mtime=0), {**JSON, "Content-Encoding": "gzip"}, 415, "gzip is not supported"),
        (b"{}", {**JSON, "Content-Encoding": "\tbr\x01" * 99}, 415, "Content-Encoding br"),
        ('["é"]'.encode("latin-1"), JSON, 415, "not UTF-8: byte 2"),
        ('["a"]'.encode("utf-16"), JSON, 415, "not UTF-8: byte 0"),
        (b"[]", {"Content-Type": "application/json; charset=ISO-8859-1"}, 415, "charset iso-8859-1 is not supported"),
        (b"[]", {"Content-Type": "text/plain"}, 415, "needs Content-Type: application/json"),
        (b"[]", {}, 415, "needs Content-Type: application/json"),
        (b" \n", JSON, 400, "the body is empty"),
        (b'{"a" 1}', JSON, 400, "not JSON at character 5"),
        (b"[NaN]", JSON, 400, "not JSON"),
        (b"[" * 5000 + b"]" * 5000, JSON, 400, "nested too deeply"),
        (b"[1" + b"0" * 5000 + b"]", JSON, 400, "not JSON"),
        (b"[" + b"1," * 500_000 + b"1]", JSON, 413, "more than 10640 values"),
        (b"[" + b'"",' * 500_000 + b'""]', JSON, 413, "more than 10640 values"),
        (b"[" + b"[]," * 500_000 + b"[]]", JSON, 413, "more than 10640 values"),
        (b"{" + b",".join(b'"%d":{}' % name for name in range(6000)) + b"}", JSON, 413, "more than 10640 values"),
    ],
)
def test_a_body_that_is_not_read_says_why(client, content, headers, status, said):
    answer = client.post("/echo", content=content, headers=headers)
    assert (answer.status_code, said in answer.json()["detail"]) == (status, True), answer.text
    assert len(answer.text) < 300


@pytest.mark.parametrize(
    "value",
    [
        {"text": 'commas, [brackets], {braces}, "quotes" and \\ ' * 5000},
        ["\\", '\\"', "\\\\", '"', "\n\u2028\U0001f600"] * 1000,
        [12345678901234567890123, 0.1, None, True],
    ],
)
@pytest.mark.parametrize("ascii", [True, False])
def test_what_is_read_is_what_was_written(client, value, ascii):
    content = json.dumps(value, ensure_ascii=ascii).encode()
    for mark in (b"", b"\xef\xbb\xbf"):
        answer = client.post("/echo", content=mark + content, headers=JSON)
        assert json.loads(answer.text) == value


def test_media_types_of_json_and_utf_8_by_its_names_are_read(client):
    for kind in ("application/json; charset=UTF8", "APPLICATION/JSON", "application/vnd.api+json;charset=utf_8"):
        assert client.post("/echo", content=b"[1]", headers={"Content-Type": kind}).json() == [1]
    assert client.post("/echo", content=b"[1]", headers={**JSON, "Content-Encoding": "identity"}).json() == [1]


def test_a_value_is_counted_once_and_text_is_not(monkeypatch):
    monkeypatch.setattr("zhichun.serve.limits.VALUES", 4)
    assert parsed(b'{"a,[{": ["b,,,", 1]}', documents=0) == {"a,[{": ["b,,,", 1]}
    with pytest.raises(Refusal) as refused:
        parsed(b'{"a": ["b", 1, 2, 3]}', documents=0)
    assert refused.value.status == 413


@pytest.mark.parametrize("text", ["x" * 40_000, "\\" + "x" * 40_000])
def test_a_large_body_is_in_memory_once_more_while_it_is_parsed_and_twice_with_escapes(text):
    written = json.dumps([text] * 100).encode()
    tracemalloc.start()
    try:
        content = bytearray(written)
        assert len(parsed(content, documents=100)) == 100
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < (3.5 if "\\" in text else 2.5) * len(written)
    assert not content


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="only Linux tells a process its memory so")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators return memory by themselves")
def test_freed_memory_between_what_is_kept_is_returned_to_the_system():
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    def held(parts: int) -> list[bytearray]:
        made = [bytearray(b"x" * (16 << 10)) for _ in range(parts)]
        return made[::50]  # so that the others are not at the end of the heap

    TRIM(0)  # what earlier tests left
    before = resident()
    kept = held(4096)
    left = resident() - before
    assert left > 48 << 20, "the allocator keeps it by itself"
    TRIM(0)
    assert resident() - before < left / 4
    assert len(kept) == 82


def test_a_client_s_text_is_cut_and_cannot_act_on_a_terminal():
    assert cut("x" * 100) == "x" * 60 + "…"
    assert cut("a\n2026 ERROR\x1b[2J\x7f\u202e\ud800é") == r"a\n2026 ERROR\x1b[2J\x7f\u202e\ud800é"
