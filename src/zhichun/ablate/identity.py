"""Names for what several rows share: the same settings on the same data have the same one."""

import hashlib
import json
from pathlib import Path
from typing import Any

from zhichun.core.errors import UserError
from zhichun.data.dataset.dataset import REMEDY


def identity(*values: Any) -> str:
    """Give a short hash of JSON values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def manifest_hash(data: Path) -> str:
    """Give the SHA-256 of a dataset's manifest, in hexadecimal: as runs record it.

    Raises
    ------
    UserError
        When the folder is no dataset.
    """
    manifest = data / "manifest.json"
    if not manifest.is_file():
        raise UserError("not a dataset folder: there is no manifest.json.", file=data, remedy=REMEDY)
    return hashlib.sha256(manifest.read_bytes()).hexdigest()
