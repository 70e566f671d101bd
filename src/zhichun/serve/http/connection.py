"""A uvicorn connection with timeouts for slow headers and slow readers, and a connection limit."""

import asyncio
import heapq
import resource
import socket
import struct
from operator import attrgetter
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

from zhichun.serve.http.limits import Limits

WATCH_SECONDS: Final = 1.0
# What one connection holds of an answer that is not read yet; the rest waits where it is counted.
UNSENT_BYTES: Final = 32 << 10
MADE_ROOM: Final = 16  # of so many idle connections one is cut off
OPEN_FILES: Final = 1 << 16
BUSY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 38\r\n\r\nthe server has too many connections.\r\n"
)


class Connection(H11Protocol):
    """One connection. Its limits come from the application, by the state of its lifespan.

    A client that sends half a request head, or does not read its answer, is cut off after some seconds. Where there
    are as many connections as there may be, the one that has waited longest without a request makes room for a new one.
    """

    _phase: tuple[str, Any] = ("", None)
    _since = 0.0
    _watching: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, or answer that there are too many."""
        self.transport, self.limits = transport, self.app_state["limits"]
        if len(self.connections) >= most_connections(self.limits) and not self._make_room():
            transport.write(BUSY)
            transport.close()
            return
        super().connection_made(transport)
        transport.set_write_buffer_limits(UNSENT_BYTES)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if self._watching is not None:
            self._watching.cancel()
        super().connection_lost(exc)

    @property
    def is_idle(self) -> bool:
        """Whether it is idle, or waits for the rest of the headers."""
        return self.cycle is None or self.cycle.response_complete

    def _watch(self) -> None:
        now, limits = self.loop.time(), self.limits
        answering = self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        if answering or self.transport.get_write_buffer_size():
            phase, seconds = "answer", limits.answer_seconds
        elif self.is_idle:
            phase, seconds = "head", limits.head_seconds if self.cycle is None else limits.idle_seconds
        else:  # which has limits of its own, in which it is refused with a reason
            phase, seconds = "request", float("inf")
        if (phase, self.cycle) != self._phase:
            self._phase, self._since = (phase, self.cycle), now
        elif now - self._since > seconds:
            if phase == "answer":  # which is then gone from the system's memory, too
                linger = struct.pack("ii", 1, 0)
                self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.transport.abort()
        self._watching = self.loop.call_later(WATCH_SECONDS, self._watch)

    def _make_room(self) -> bool:
        idle = [each for each in self.connections if isinstance(each, Connection) and each.is_idle]
        longest = heapq.nsmallest(1 + len(idle) // MADE_ROOM, idle, key=attrgetter("_since"))
        for each in longest:  # several at once, since looking for them takes its time
            self.connections.discard(each)
            each.transport.abort()
        return bool(longest)


def most_connections(limits: Limits) -> int:
    """Return how many connections this process may have: half of its open files at most."""
    return min(limits.connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)


def allow_open_files() -> None:
    """Raise the limit of open files to the system's maximum."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = OPEN_FILES if most == resource.RLIM_INFINITY else min(most, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
