"""Connections that are slow or too many: half a head, an answer that nobody reads, more clients than may be."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("fastapi")

from zhichun.serve import server
from zhichun.serve.app import ServeSettings
from zhichun.serve.limits import Limits

HALF_HEAD = b"POST /rerank HTTP/1.1\r\nHost: localhost\r\n"
NO_BODY = HALF_HEAD + b"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
CONNECTED = b"\x01"  # of the states of a TCP connection, on Linux
Opens = Callable[..., socket.socket]
Starts = Callable[[Limits], AbstractContextManager[Opens]]


@pytest.fixture
def start(
    tiny_run: Path, serving: Callable[..., AbstractContextManager[str]], monkeypatch: pytest.MonkeyPatch
) -> Starts:
    """Start a server with limits; gives what opens a connection to it and sends some bytes."""
    monkeypatch.setattr(server, "WATCH_SECONDS", 0.02)

    @contextmanager
    def started(limits: Limits) -> Iterator[Opens]:
        def connect(sent: bytes, receive_buffer: int | None = None) -> socket.socket:
            client = opened.enter_context(socket.socket())
            if receive_buffer:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            client.settimeout(30)
            client.connect((where.hostname, where.port))
            client.sendall(sent)
            return client

        with serving(ServeSettings(run=tiny_run, limits=limits)) as url, ExitStack() as opened:
            where = urlsplit(url)
            yield connect

    return started


def all_of(client: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    content = b""
    try:
        while part := client.recv(65536):
            content += part
    except ConnectionResetError:
        pass
    return content


@pytest.mark.parametrize("sent", [b"", b"GET", HALF_HEAD])
def test_a_client_that_sends_no_whole_head_is_cut_off(start, sent):
    with start(Limits(head_seconds=0.1)) as connect:
        assert all_of(connect(sent)) == b""


def test_after_an_answer_a_client_may_be_idle_for_longer_but_not_for_ever(start):
    with start(Limits(head_seconds=1e9, idle_seconds=0.1)) as connect:
        for rest in (b"", HALF_HEAD):
            assert all_of(connect(HEALTH + rest)).startswith(b"HTTP/1.1 200 OK\r\n")


def test_the_connections_that_waited_longest_make_room(start):
    with start(Limits(connections=32, head_seconds=1e9)) as connect:
        waiting = [connect(HALF_HEAD) for _ in range(100)]
        client = connect(HEALTH)
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        assert [all_of(each) for each in waiting[:60]] == [b""] * 60
        last = waiting[-1]
        last.sendall(b"Content-Length: 0\r\n\r\n")
        assert last.recv(12) == b"HTTP/1.1 415"


def test_a_connection_past_those_that_are_all_at_work_is_refused(start):
    with start(Limits(connections=4)) as connect:
        working = [connect(NO_BODY) for _ in range(4)]
        for client in working:
            assert client.recv(12) == b"HTTP/1.1 100"  # its body is waited for
        refused = all_of(connect(b""))
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert refused.endswith(b"\r\n\r\nthe server has too many connections.\r\n")


def test_a_client_that_does_not_read_its_answer_is_cut_off(start):
    documents = [f"red shoe {'x' * 20_000} {number}" for number in range(200)]
    body = json.dumps({"query": "red shoes", "documents": documents}).encode()
    head = HALF_HEAD.replace(b"/rerank", b"/v1/rerank") + b"Content-Type: application/json\r\n"
    request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with start(Limits(answer_seconds=0.5)) as connect:
        slow = connect(request, receive_buffer=4096)
        assert slow.recv(15) == b"HTTP/1.1 200 OK"  # the scores are there, and the rest is not read
        waiting = connect(HEALTH)
        assert waiting.recv(15) == b"HTTP/1.1 200 OK"
        while slow.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == CONNECTED:
            time.sleep(0.05)
        assert len(all_of(slow)) < len(body) // 2
    with start(Limits()) as connect:
        reading = connect(request.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\nConnection: close\r\n"))
        assert len(all_of(reading)) > len(body)
