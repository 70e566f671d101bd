"""The page's own files, under names that change with their content, so that a browser may keep them for good."""

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from zhichun.measure.report.html import asset

STATIC: Final = "static"
_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@dataclass(frozen=True)
class StaticFile:
    """A file that the page loads.

    Parameters
    ----------
    name
        Its name with a part of its hash: ``page-0123456789ab.css``.
    content
        Its bytes.
    media_type
        Its type.
    integrity
        Its hash, as the attribute of that name has it.
    """

    name: str
    content: bytes
    media_type: str
    integrity: str

    @property
    def address(self) -> str:
        """Where it is, seen from the page."""
        return f"{STATIC}/{self.name}"


@cache
def static_files() -> dict[str, StaticFile]:
    """Give the files by plain name: ``page.css``, ``page.js``, ``icon.svg``."""
    folder = resources.files("zhichun.serve.page").joinpath(STATIC)
    texts = {name: folder.joinpath(name).read_text("utf-8") for name in ("page.css", "page.js", "icon.svg")}
    texts["page.css"] = asset("style.css") + texts["page.css"]
    return {name: _static_file(name, text.encode()) for name, text in texts.items()}


def _static_file(name: str, content: bytes) -> StaticFile:
    digest = hashlib.sha256(content)
    stem, kind = name.split(".")
    integrity = f"sha256-{base64.b64encode(digest.digest()).decode()}"
    return StaticFile(f"{stem}-{digest.hexdigest()[:12]}.{kind}", content, _TYPES[kind], integrity)
