"""A running server for other projects' clients, with a key and a low limit, beside the scorer that it has to equal."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# The tests beside it import `running_server` and the search engines' stand-ins; no client reports to its makers.
sys.path.insert(0, str(Path(__file__).parent))
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

from running_server import KEY, MOST_DOCUMENTS, MOST_WAITING, Running

SECONDS = 30


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
def running(tiny_run: Path) -> Iterator[Running]:
    """Serve the tiny run in a thread of this process, on a free port."""
    uvicorn = pytest.importorskip("uvicorn")
    from zhichun import Scorer
    from zhichun.serve.app import create_app
    from zhichun.serve.keys import Keys
    from zhichun.serve.limits import Limits
    from zhichun.serve.server import address, config_of, listening
    from zhichun.serve.settings import ServeSettings

    keys, limits = Keys.of([KEY]), Limits(documents=MOST_DOCUMENTS, queue_pairs=MOST_WAITING)
    settings = ServeSettings(run=tiny_run, port=0, name="zhichun", keys=keys, limits=limits)
    service = settings.service()
    app = create_app(settings.load, service, keys=keys, hosts=settings.hosts)
    with listening(settings.host, settings.port) as socket:
        server = uvicorn.Server(config_of(app, settings))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
        thread.start()
        latest = time.monotonic() + SECONDS
        while service.phase == "loading" and time.monotonic() < latest:
            time.sleep(0.02)
        assert service.phase == "ready"
        yield Running(address(settings.host, socket.getsockname()[1]), Scorer.load(tiny_run, device="cpu"))
        server.should_exit = True
        thread.join(SECONDS)
        assert not thread.is_alive()
