"""What clients do wrong: each fault is a function that commits it once and gives the status of the answer, if any."""

import json
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass

from served import HOST, JSON, Served

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


def _http(body: bytes, length: int | None = None) -> bytes:
    head = f"POST /rerank HTTP/1.1\r\nHost: {HOST}\r\nX-API-Key: {KEY}\r\nContent-Type: application/json\r\n"
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
    too_large = b'{"query": "shoes", "texts": ["' + b"x" * (2 << 20) + b'"]}'
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


FAULTS: list[Fault] = [cut_off, gone_before_answer, oversized, malformed, raw_bytes, wrong_key, impatient]
