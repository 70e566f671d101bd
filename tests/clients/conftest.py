"""A running server for other projects' clients, with a key and a low limit, beside the scorer that it has to equal."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

# The tests beside it import `running_server` and the search engines' stand-ins; no client reports to its makers.
sys.path.insert(0, str(Path(__file__).parent))
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

from running_server import KEY, MOST_DOCUMENTS, MOST_WAITING, Running


@pytest.fixture(autouse=True)
def closed_connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close the connections that the clients leave to the garbage collector, which would warn of them in any test."""
    try:
        import httpx
    except ImportError:
        yield
        return
    opened, begin = [], httpx.Client.__init__

    def recorded(client: Any, *arguments: Any, **options: Any) -> None:
        begin(client, *arguments, **options)
        opened.append(client)

    monkeypatch.setattr(httpx.Client, "__init__", recorded)
    yield
    for client in opened:
        client.close()


@pytest.fixture(scope="session")
def running(tiny_run: Path, serving: Callable[..., AbstractContextManager[str]]) -> Iterator[Running]:
    """Serve the tiny run with a key and low limits."""
    from zhichun import Scorer
    from zhichun.serve.app import ServeSettings
    from zhichun.serve.guard import Keys
    from zhichun.serve.limits import Limits

    limits = Limits(documents=MOST_DOCUMENTS, queue_pairs=MOST_WAITING)
    with serving(ServeSettings(run=tiny_run, name="zhichun", keys=Keys.of([KEY]), limits=limits)) as url:
        yield Running(url, Scorer.load(tiny_run, device="cpu"))
