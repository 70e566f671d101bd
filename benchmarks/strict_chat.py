"""A stand-in for an OpenAI-compatible chat API, as strict as the real one, that counts its calls by pair. Not a script.

It answers on 127.0.0.1 while a ``with`` lasts. Which label it gives follows from the texts alone. A word in brackets in
a product's title makes trouble: ``[429]``, ``[500]`` and ``[slow]`` at the first call of a pair, with ``always`` after
it (``[500 always]``) at each; ``FAULTS`` names the others.
"""

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

LABELS: Final = ("E", "S", "C", "I")
RETRY_AFTER: Final = 0.05
_SAMPLING: Final = ("temperature", "max_tokens", "max_completion_tokens", "seed")
FIELDS: Final = frozenset(("model", "messages", *_SAMPLING, "response_format", "logprobs", "top_logprobs"))
# Of an answer whose status is 200: its content, why it ended, and a refusal.
FAULTS: Final[dict[str, tuple[str | None, str, str | None]]] = {
    "refuse": (None, "stop", "I cannot help with that."),
    "filter": ("", "content_filter", None),
    "cut": ('{"reason": "a long', "length", None),
    "broken": ('{"reason": "x", "label": E}', "stop", None),
    "wrong label": ('{"reason": "x", "label": "Perfect"}', "stop", None),
    "no label": ('{"reason": "x"}', "stop", None),
    "words": ("I think that it fits.", "stop", None),
    "empty": ("", "stop", None),
    "fenced": ('<think>{"label": "I"}?</think>Here:\n```json\n{"reason": "x", "label": "Exact"}\n```', "stop", None),
}
# Bodies with status 200 that are no chat completion.
BODIES: Final = {
    "half": b'{"id": "1", "choices": [{"mess',
    "html": b"<html>gateway</html>",
    "no choices": b'{"choices": []}',
    "null": b"null",
    "list": b'{"choices": [{"message": {"content": [1]}}]}',
}


class StrictChat:
    """The server.

    Parameters
    ----------
    key
        What it wants as the key; none is any.
    seconds
        What an answer takes.
    log_probabilities
        Whether it gives them.

    Attributes
    ----------
    calls
        Calls by the user's message, refused ones too.
    paid
        Answers given, by the user's message.
    faults
        What a client did wrong.
    """

    def __init__(self, *, key: str = "", seconds: float = 0, log_probabilities: bool = True) -> None:
        self.key, self.seconds, self.log_probabilities = key, seconds, log_probabilities
        self.calls: Counter[str] = Counter()
        self.paid: Counter[str] = Counter()
        self.faults: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.running = self.most_at_once = 0
        self._earliest: dict[str, float] = {}
        self._lock, self._closed = threading.Lock(), threading.Event()

    def __enter__(self) -> "StrictChat":
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, reply, headers = stub.answer(self.path, self.headers, body)
                try:
                    self.send_response(status)
                    for name, value in {"Content-Type": "application/json", **headers}.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(reply)))
                    self.end_headers()
                    self.wfile.write(reply)
                except OSError:  # the client was killed
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:  # a client that was killed
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Base of the API."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes, dict[str, str]]:
        """Give status, body and headers."""
        if path != "/v1/chat/completions":
            return _error(404, f"Invalid URL (POST {path})")
        given = headers.get("Authorization", "").removeprefix("Bearer ")
        if self.key and given != self.key:
            return _error(401, f"Incorrect API key provided: {given}")
        try:
            request = json.loads(body)
            fault = wrong_with(request)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            fault = f"we could not parse the JSON body of your request: {error!r}"
        if fault:
            with self._lock:
                self.faults.append(fault)
            return _error(400, fault)
        shown = request["messages"][-1]["content"]
        if request["model"] != "judge-1":
            return _error(404, f"The model {request['model']!r} does not exist")
        with self._lock:
            self.requests.append(request)
            self.calls[shown] += 1
            if time.monotonic() < self._earliest.get(shown, 0):
                self.faults.append("called again before Retry-After")
            self.running += 1
            self.most_at_once = max(self.most_at_once, self.running)
        try:
            self._closed.wait(self.seconds)
            return self._reply(request, shown)
        finally:
            with self._lock:
                self.running -= 1

    def _reply(self, request: dict[str, Any], shown: str) -> tuple[int, bytes, dict[str, str]]:
        marked = re.search(r"<title>[^<]*\[([^\]]+)\]", shown)
        what, always = (marked[1].removesuffix(" always"), marked[1].endswith(" always")) if marked else ("", False)
        if always or self.calls[shown] == 1:
            if what == "429":
                self._earliest[shown] = time.monotonic() + RETRY_AFTER
                return _error(429, "Rate limit reached", {"Retry-After": str(RETRY_AFTER)})
            if what.isdigit():
                return _error(int(what), "The server had an error", {"Retry-After": "0.001"})
            if what == "slow":
                self._closed.wait(2)
        if what in BODIES:
            return 200, BODIES[what], {}
        label = LABELS[hashlib.sha256(shown.encode()).digest()[0] % 4]
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        said: str | None = label if "logprobs" in request else json.dumps({"reason": f"it is {label}", "label": label})
        refusal = None
        if what in FAULTS:
            said, choice["finish_reason"], refusal = FAULTS[what]
        choice["message"] = {"role": "assistant", "content": said, "refusal": refusal}
        choice["logprobs"] = None
        if request.get("logprobs") and self.log_probabilities:
            others = [(f" {label}", -0.5), (LABELS[LABELS.index(label) - 1], -1.5), ("The", -2.0), (label, -3.0)]
            others_listed = [{"token": token, "logprob": value, "bytes": None} for token, value in others]
            choice["logprobs"] = {"content": [{"token": said, "logprob": -0.5, "top_logprobs": others_listed}]}
        with self._lock:
            self.paid[shown] += 1
        usage = {"prompt_tokens": len(shown) // 4, "completion_tokens": 10, "total_tokens": len(shown) // 4 + 10}
        reply = {"id": "1", "object": "chat.completion", "created": 0, "model": "judge-1", "choices": [choice]}
        return 200, json.dumps({**reply, "usage": usage}).encode(), {}


def wrong_with(request: dict[str, Any]) -> str:
    """Name the first thing that the real API would refuse."""
    if unknown := {*request} - FIELDS:
        return f"Unrecognized request argument supplied: {sorted(unknown)[0]}"
    roles = [message["role"] for message in request["messages"]]
    if roles != ["system", "user"] or not all(type(message["content"]) is str for message in request["messages"]):
        return f"Invalid messages: {roles}"
    if any({*message} != {"role", "content"} for message in request["messages"]):
        return "Invalid message"
    if not 0 <= request.get("temperature", 1) <= 2:
        return "Invalid temperature"
    if type(request.get("max_tokens", 1)) is not int or request.get("max_tokens", 1) < 1:
        return "Invalid max_tokens"
    if "top_logprobs" in request and not (request.get("logprobs") is True and 0 <= request["top_logprobs"] <= 20):
        return "Invalid top_logprobs"
    if "response_format" in request:
        form = request["response_format"]
        schema = form["json_schema"]["schema"]
        if (
            form["type"] != "json_schema"
            or form["json_schema"]["strict"] is not True
            or not form["json_schema"]["name"]
        ):
            return "Invalid response_format"
        if schema["additionalProperties"] is not False or {*schema["required"]} != {*schema["properties"]}:
            return "Invalid schema: additionalProperties must be false, and all properties required"
    return ""


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> tuple[int, bytes, dict[str, str]]:
    said = {"error": {"message": message, "type": "error", "param": None, "code": None}}
    return status, json.dumps(said).encode(), headers or {}
