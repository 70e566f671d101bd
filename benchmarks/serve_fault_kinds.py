"""What clients do wrong: each fault is a function that commits it once and gives the status of the answer, if any."""

import contextlib
import json
import random
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from served import HOST, JSON, Served

MOST_BODY: Final = 4 << 20
CONNECTIONS_PER_SECOND, START_SECONDS = 500, 120.0
KEY = "a-key-of-this-benchmark"
WITH_KEY = {**JSON, "X-API-Key": KEY}


@dataclass(frozen=True)
class Known:
    """A request and its right scores, in the order of its texts."""

    body: bytes
    scores: list[float]


Fault = Callable[[Served, random.Random, list[Known]], "int | str"]


def _send(server: Served, content: bytes, *, waits: bool) -> int | str:
    """Send bytes as they are; gives the status of the answer, or that there was none."""
    with socket.create_connection((HOST, server.port), timeout=20) as connection:
        try:
            connection.sendall(content)
            if not waits:
                return "gone"
            first = connection.recv(64)
        except OSError:
            return "closed"
    return int(first.split(b" ", 2)[1]) if first.startswith(b"HTTP/1.1 ") else "closed"


def _http(body: bytes, length: int | None = None, path: str = "/rerank") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nX-API-Key: {KEY}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


def cut_off(server: Served, chance: random.Random, known: list[Known]) -> int | str:
    """Go away in the middle of the body."""
    request = _http(chance.choice(known).body)
    return _send(server, request[: chance.randrange(1, len(request))], waits=False)


def gone_before_answer(server: Served, chance: random.Random, known: list[Known]) -> int | str:
    """Send all, and go away before the answer."""
    return _send(server, _http(chance.choice(known).body), waits=False)


def oversized(server: Served, chance: random.Random, known: list[Known]) -> int | str:
    """Send too large a body, too many documents, or say that much will come."""
    too_large = b'{"query": "shoes", "texts": ["' + b"x" * (MOST_BODY + 1) + b'"]}'
    too_many = json.dumps({"query": "shoes", "texts": ["hat"] * 1001}).encode()
    return _send(server, chance.choice([_http(too_large), _http(too_many), _http(b"{", 1 << 40)]), waits=True)


def malformed(server: Served, chance: random.Random, known: list[Known]) -> int | str:
    """Change some bytes of a good body; what is still JSON may be answered."""
    body = bytearray(chance.choice(known).body)
    for _ in range(chance.randrange(1, 20)):
        body[chance.randrange(len(body))] = chance.randrange(256)
    return server.ask("POST", chance.choice(["/rerank", "/v2/rerank", "/score"]), bytes(body), WITH_KEY)[0]


def raw_bytes(server: Served, chance: random.Random, known: list[Known]) -> int | str:
    """Send what is no HTTP."""
    return _send(server, chance.randbytes(chance.randrange(1, 4000)) + b"\r\n\r\n", waits=chance.random() < 0.5)


def wrong_key(server: Served, chance: random.Random, known: list[Known]) -> int | str:
    """Ask with a key that is wrong."""
    return server.ask("POST", "/rerank", chance.choice(known).body, {**JSON, "X-API-Key": chance.randbytes(8).hex()})[0]


def impatient(server: Served, chance: random.Random, known: list[Known]) -> int | str:
    """Ask for an answer sooner than it can be there."""
    return server.ask("POST", "/rerank", chance.choice(known).body, {**WITH_KEY, "X-Request-Timeout": "0.001"})[0]


def many_items(server: Served, chance: random.Random, known: list[Known]) -> int | str:
    """Send a body that is small for its number of values, or whose one name is as long as it may be."""
    item = chance.choice([b"1", b'""', b"[]", b"{}", b'{"a":1}', b'{"title":1}', b"null"])
    listed = b'{"query":"a","documents":[' + b",".join([item] * (MOST_BODY // (len(item) + 1) - 20)) + b"]}"
    fields = b",".join(b'"%x":1' % number for number in range(MOST_BODY // 12))
    named = b'{"query":"a","documents":[{"' + b"a" * (MOST_BODY - 60) + b'":1}]}'
    body = chance.choice([listed, listed, b'{"query":"a","documents":[{' + fields + b"}]}", named])
    return server.ask("POST", chance.choice(["/v1/rerank", "/rerank", "/v2/rerank"]), body, WITH_KEY)[0]


FAULTS: list[Fault] = [cut_off, gone_before_answer, oversized, malformed, raw_bytes, wrong_key, impatient, many_items]

# What many connections do at once


def allow_open_files(count: int) -> None:
    """Let this process open so many files, as far as the system lets it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, most), most))


def slow_heads(server: Served, count: int, seconds: float) -> int:
    """Send half a head on many connections at once and then nothing; gives how many the server has cut off in time."""
    with contextlib.ExitStack() as opened:
        connections = []
        for _ in range(count):
            connections.append(opened.enter_context(socket.create_connection((HOST, server.port), timeout=20)))
            connections[-1].sendall(f"POST /rerank HTTP/1.1\r\nHost: {HOST}\r\n".encode())
            time.sleep(1 / CONNECTIONS_PER_SECOND)
        return _cut_off(server, connections, time.monotonic() + seconds)


def slow_readers(server: Served, count: int, seconds: float) -> int:
    """Ask for large answers and do not read them; gives how many connections the server has cut off in time."""
    documents = [f"{number} {'word ' * (MOST_BODY // 6000)}" for number in range(1000)]
    request = _http(json.dumps({"query": "word", "documents": documents}).encode(), path="/v1/rerank")
    with contextlib.ExitStack() as opened:
        connections = [opened.enter_context(socket.socket()) for _ in range(count)]
        for connection in connections:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(60)
            connection.connect((HOST, server.port))
            with contextlib.suppress(ConnectionError):  # an answer that refuses it may come before all is sent
                connection.sendall(request)
        return _cut_off(server, connections, time.monotonic() + seconds)


def _cut_off(server: Served, connections: Sequence[socket.socket], latest: float) -> int:
    """Wait until the server has closed connections, without reading what comes; gives how many it has."""
    ours = {connection.getsockname()[1] for connection in connections}
    while (left := ours & server.clients()) and time.monotonic() < latest:
        time.sleep(0.5)
    return len(ours) - len(left)


def tampered(command: Sequence[str], exported: Path, engine: str, chance: random.Random) -> dict[str, str]:
    """Change one byte of each file that an engine reads, in turn; gives what `zhichun serve` says of each."""
    said, work = {}, exported.parent
    read = [file for file in exported.rglob("*") if file.is_file() and file.name != "predictions.parquet"]
    for file in sorted(file for file in read if file.parent.name in (engine, "vocabulary", "tables", exported.name)):
        copy = shutil.copytree(exported, work / "tampered")
        place = copy / file.relative_to(exported)
        content = bytearray(place.read_bytes())
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        place.write_bytes(content)
        words = [str(copy) if word == str(exported) else "0" if word == "PORT" else word for word in command]
        try:
            ended = subprocess.run(words, capture_output=True, text=True, timeout=START_SECONDS, check=False)
            said[str(file.relative_to(exported))] = " ".join(ended.stderr.replace(str(copy), "EXPORT").split())[-300:]
        except subprocess.TimeoutExpired:
            said[str(file.relative_to(exported))] = "served"
        shutil.rmtree(copy)
    return said
