"""API keys: stored as hashes and compared in constant time."""

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from zhichun.core.errors import UserError
from zhichun.data.readers.text_file import TextFile

VARIABLE: Final = "ZHICHUN_API_KEYS"


@dataclass(frozen=True)
class Keys:
    """API keys; none means no authentication.

    Parameters
    ----------
    hashes
        SHA-256 of each.
    """

    hashes: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, keys: Iterator[str] | list[str]) -> Self:
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
        return cls.of([key for key in keys if key])

    def __bool__(self) -> bool:
        return bool(self.hashes)

    def admit(self, headers: Mapping[bytes, bytes]) -> bool:
        """Return whether headers carry one of the keys, in any of the ways in which clients send it."""
        admitted = not self.hashes
        for key in _given(headers):
            hashed = _hash(key)
            for known in self.hashes:
                admitted |= hmac.compare_digest(hashed, known)
        return admitted


def _given(headers: Mapping[bytes, bytes]) -> Iterator[bytes]:
    """Return the keys of a request: ``Authorization: Bearer``, ``Basic`` (the password), ``X-API-Key``."""
    if b"x-api-key" in headers:
        yield headers[b"x-api-key"].strip()
    scheme, _, value = headers.get(b"authorization", b"").strip().partition(b" ")
    if scheme.lower() == b"bearer":
        yield value.strip()
    elif scheme.lower() == b"basic":
        try:
            yield base64.b64decode(value.strip(), validate=True).partition(b":")[2]
        except binascii.Error:
            return


def _hash(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


OPEN: Final = Keys()
