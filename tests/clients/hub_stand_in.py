"""A stand-in of the hub's API on 127.0.0.1: repositories in memory, for huggingface_hub with HF_ENDPOINT.

It makes repositories, takes commits of small files, lists and gives them; a private one only with the token.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_secret"
ROUTE = re.compile(r"/api/(models|datasets)/([\w.-]+/[\w.-]+)/(revision|tree|preupload|commit)/([^/]+)")
ABOUT = re.compile(r"/api/(models|datasets)/([\w.-]+/[\w.-]+)")
FILE = re.compile(r"/(datasets/)?([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)")


@dataclass
class Repository:
    """One repository: its files, and whether it is private."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def sha(self) -> str:
        """Name of the commit: a hash of the files."""
        return hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()


@dataclass
class Hub:
    """The stand-in: its address, and its repositories by kind and name (`models/USER/NAME`)."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    close: Callable[[], None] = lambda: None  # from then on nobody listens at its address

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def environment(self, home: str, token: str = TOKEN) -> dict[str, str]:
        """Give the variables by which huggingface_hub finds it, with a cache of its own."""
        own = {"HF_ENDPOINT": self.url, "HF_HOME": home, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        return {**own, "HF_TOKEN": token, "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}


def handler_of(hub: Hub) -> type[BaseHTTPRequestHandler]:
    """Make the class that answers for a hub."""

    class Handler(BaseHTTPRequestHandler):
        # HTTP/1.0 ends each connection with its answer, so that no client goes on with a hub that has closed.

        def do_POST(self) -> None:
            body, path = self.rfile.read(int(self.headers.get("Content-Length", 0))), urlsplit(self.path).path
            hub.asked.append(f"POST {path}")
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.answer(401, {"error": "Invalid credentials in Authorization header"})
            elif path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked.get('organization') or 'me'}/{asked['name']}"
                key = f"{asked.get('type', 'model')}s/{name}"
                known = key in hub.repositories
                hub.repositories.setdefault(
                    key, Repository(asked.get("visibility") == "private" or asked.get("private", False))
                )
                self.answer(409 if known else 200, {"url": f"{hub.url}/{name}", "id": "1"})
            elif path == "/api/validate-yaml":
                self.answer(200, {"errors": [], "warnings": []})
            elif (route := ROUTE.fullmatch(path)) and route[3] == "preupload":
                files = [
                    {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for each in json.loads(body)["files"]
                ]
                self.answer(200, {"files": files})
            elif route and route[3] == "commit":
                repository = hub.repositories[f"{route[1]}/{route[2]}"]
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        repository.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                    elif line["key"] == "deletedFile":
                        del repository.files[line["value"]["path"]]
                commit = f"{hub.url}/{route[2]}/commit/{repository.sha}"
                self.answer(200, {"success": True, "commitOid": repository.sha, "commitUrl": commit})
            else:
                self.answer(404, {"error": f"no route {path}"})

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"GET {path}")
            route, file = ROUTE.match(path) or ABOUT.fullmatch(path), FILE.fullmatch(path)
            key = (
                f"{route[1]}/{route[2]}"
                if route
                else f"{'datasets' if file and file[1] else 'models'}/{file and file[2]}"
            )
            repository = hub.repositories.get(key)
            if repository is None or (repository.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"):
                self.answer(401, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            elif route and (route.re is ABOUT or route[3] == "revision"):
                siblings = [{"rfilename": name} for name in sorted(repository.files)]
                about = {"id": route[2], "sha": repository.sha, "private": repository.private, "siblings": siblings}
                self.answer(200, about | {"tags": [], "downloads": 0, "likes": 0})
            elif route and route[3] == "tree":
                tree = [
                    {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for name, content in sorted(repository.files.items())
                ]
                self.answer(200, tree)
            elif file and file[4] in repository.files:
                content = repository.files[file[4]]
                more = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": repository.sha}
                self.answer(200, content, more)
            else:
                self.answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})

        do_HEAD = do_GET

        def answer(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
            for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    return Handler


@contextmanager
def hub_stand_in(port: int = 0) -> Iterator[Hub]:
    """Run an empty hub while a `with` lasts, on a free port or on that of one that has closed."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", port), handler_of(hub))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join(10)

    hub.close = close
    thread.start()
    try:
        yield hub
    finally:
        close()
