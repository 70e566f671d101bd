"""The examples of `docs/integrations.md`, by the heading under which they stand."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).parents[2] / "docs" / "integrations.md"
ADDRESS, KEY = "http://127.0.0.1:8080", "my-key"


class Console(NamedTuple):
    """A request to a search engine as its console takes it."""

    method: str
    path: str
    body: dict[str, Any]


def headings() -> list[str]:
    """Name the sections."""
    return re.findall(r"^## (.+)$", PAGE.read_text("utf-8"), re.MULTILINE)


def blocks(heading: str, language: str) -> list[str]:
    """Give the blocks of a language under a heading, in order."""
    _, _, rest = PAGE.read_text("utf-8").partition(f"\n## {heading}\n")
    section = rest.partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def console(heading: str) -> list[Console]:
    """Give the requests under a heading."""
    found = []
    for block in blocks(heading, "console"):
        first, _, body = block.partition("\n")
        method, path = first.split()
        found.append(Console(method, path, json.loads(body)))
    return found
