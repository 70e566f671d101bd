"""Who may ask: callers with a key, by a name of this server, and no page of another origin."""

import base64
import hashlib
import hmac
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from zhichun.core.errors import UserError
from zhichun.data.readers.text_file import TextFile
from zhichun.serve.http.limits import Refusal

VARIABLE: Final = "ZHICHUN_API_KEYS"
# Names of this machine for itself.
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
ALWAYS_OPEN: Final = ("/health", "/health/live", "/health/ready")
SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Keys:
    """API keys, compared in constant time; none means no authentication.

    Parameters
    ----------
    hashes
        SHA-256 of each.
    """

    hashes: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, keys: Iterable[str]) -> Self:
        """Take keys as they are written."""
        return cls(tuple(dict.fromkeys(_hash(key.encode()) for key in keys)))

    @classmethod
    def load(cls, file: Path | None, environment: Mapping[str, str] = os.environ) -> Self:
        """Read keys from a file, one on each line, and from ``ZHICHUN_API_KEYS``, separated by commas.

        Raises
        ------
        UserError
            When the file cannot be read or holds no key.
        """
        keys = [key.strip() for key in environment.get(VARIABLE, "").split(",")]
        if file is not None:
            lines = [line.strip() for _, line in TextFile(file).lines()]
            found = [line for line in lines if line and not line.startswith("#")]
            if not found:
                raise UserError("there is no key in it.", file=file, remedy="Write one key on each line.")
            keys += found
        return cls.of(filter(None, keys))

    def __bool__(self) -> bool:
        return bool(self.hashes)

    def admit(self, headers: Mapping[str, str]) -> bool:
        """Return whether headers carry one of the keys, in any of the ways in which clients send it."""
        given = [_hash(key) for key in _given(headers)]
        return not self or any(hmac.compare_digest(key, known) for key in given for known in self.hashes)


def _given(headers: Mapping[str, str]) -> Iterator[bytes]:
    """Return the keys of a request: ``X-API-Key``, ``Authorization: Bearer``, ``Basic`` (the password)."""
    if "x-api-key" in headers:
        yield headers["x-api-key"].strip().encode("latin-1")
    scheme, _, value = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer":
        yield value.strip().encode("latin-1")
    elif scheme.lower() == "basic":
        with suppress(ValueError):
            yield base64.b64decode(value.strip(), validate=True).partition(b":")[2]


def _hash(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


OPEN: Final = Keys()


def admit(request: HTTPConnection, keys: Keys, hosts: frozenset[str] | None) -> None:
    """Let a request in.

    Parameters
    ----------
    request
        Its method, path and headers.
    keys
        That open the server.
    hosts
        Names under which it is called; ``None`` where any will do. A page of another site that gives itself our
        address by its DNS has another name.

    Raises
    ------
    Refusal
        When it comes from elsewhere, or without a key.
    """
    headers, path = request.headers, request.scope["path"]
    is_safe = request.scope["method"] in SAFE_METHODS
    if path in ALWAYS_OPEN and is_safe:
        return
    if hosts is not None and _name(headers.get("host", "")) not in hosts:
        raise Refusal(403, "Validation", "Host header not allowed: start the server with --allow-host NAME.")
    if not is_safe and _is_cross_origin(headers, hosts):
        raise Refusal(403, "Validation", "cross-origin request rejected.")
    if not keys.admit(headers):
        wants_page = path == "/" or "text/html" in headers.get("accept", "")
        scheme = 'Basic realm="zhichun"' if wants_page else "Bearer"
        raise Refusal(401, "Validation", "the API key is missing or wrong.", {"WWW-Authenticate": scheme})


def _is_cross_origin(headers: Mapping[str, str], hosts: frozenset[str] | None) -> bool:
    """Return whether a page of another origin makes a request, by what its browser says."""
    if "sec-fetch-site" in headers:  # no page can write it, and no proxy needs to
        return headers["sec-fetch-site"] not in ("same-origin", "none")
    try:
        origin = urlsplit(headers.get("origin", "").lower()).netloc
    except ValueError:
        return True
    is_ours = origin == headers.get("host", "").lower() or _name(origin) in (hosts or frozenset()) - LOOPBACK
    return "origin" in headers and not is_ours


def _name(host: str) -> str:
    """Remove the port from a host."""
    host = host.lower()
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
