"""The end of a server: at the first signal new requests are refused and accepted ones are answered; then it ends."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final

from zhichun.serve.queue.service import Service

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
# New requests are told so for a moment at least, which lets balancers see that the server is not ready any more.
LEAST_SECONDS: Final = 0.5


@contextlib.contextmanager
def draining_on_signals(service: Service) -> Iterator[None]:
    """Put draining before what the signals do already; a second signal does not wait.

    Parameters
    ----------
    service
        What is drained.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, before = asyncio.get_running_loop(), {sig: signal.getsignal(sig) for sig in SIGNALS}

    def handle(sig: int, frame: FrameType | None) -> None:
        end: Any = before[signal.Signals(sig)]
        if service.phase == "draining":
            end(sig, frame)
        else:
            service.phase = "draining"
            loop.call_soon_threadsafe(lambda: tasks.append(loop.create_task(drained(service, lambda: end(sig, None)))))

    tasks: list[asyncio.Task[None]] = []
    for sig in SIGNALS:
        signal.signal(sig, handle)
    try:
        yield
    finally:
        for sig, handler in before.items():
            signal.signal(sig, handler)


async def drained(service: Service, end: Any) -> None:
    """Wait until all accepted requests are answered, then end."""
    loop = asyncio.get_running_loop()
    least = loop.time() + LEAST_SECONDS
    latest = loop.time() + service.limits.drain_seconds
    while loop.time() < latest and (service.in_flight or loop.time() < least):
        await asyncio.sleep(0.02)
    end()
