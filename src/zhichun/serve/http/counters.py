"""Counts for Prometheus; of several processes, the sum over all of them.

The supervisor of several processes names a folder in ``PROMETHEUS_MULTIPROC_DIR`` before it starts them. Each keeps its
counts in files there, and whichever is asked adds all up.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    exposition,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE: Final = exposition.CONTENT_TYPE_PLAIN_0_0_4
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
REFRESH_SECONDS: Final = 1.0
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """All metrics of a server."""

    def __init__(self) -> None:
        own = self._own = CollectorRegistry()
        self.requests = Counter(
            "zhichun_requests", "Requests answered, by path and status.", ["path", "status"], registry=own
        )
        self.seconds = Histogram(
            "zhichun_request_seconds", "Time to answer a request, by path.", ["path"], buckets=SECONDS, registry=own
        )
        self.pairs = Counter("zhichun_pairs", "Pairs requested.", registry=own)
        self.cached = Counter(
            "zhichun_cached_pairs", "Distinct pairs of a request whose scores were in the cache.", registry=own
        )
        self.rounds = Histogram("zhichun_round_pairs", "Pairs that were scored together.", buckets=SIZES, registry=own)
        self.round_seconds = Histogram(
            "zhichun_round_seconds", "Time to score pairs together.", buckets=SECONDS, registry=own
        )
        self.disconnects = Counter(
            "zhichun_disconnects", "Requests whose client disconnected before the answer.", registry=own
        )
        self._gauges: list[tuple[Gauge, Callable[[], float]]] = []

    def gauge(self, name: str, what: str, read: Callable[[], float]) -> None:
        """Show a number that is looked up."""
        self._gauges.append((Gauge(name, what, registry=self._own, multiprocess_mode="livesum"), read))

    def refresh(self) -> None:
        """Update the gauges for all processes."""
        for gauge, read in self._gauges:
            gauge.set(read())

    async def refreshed(self) -> None:
        """Update the gauges periodically."""
        while FOLDER_VARIABLE in os.environ:
            self.refresh()
            await asyncio.sleep(REFRESH_SECONDS)

    def text(self) -> bytes:
        """Write all in the text format of Prometheus."""
        self.refresh()
        if FOLDER_VARIABLE not in os.environ:
            return generate_latest(self._own)
        of_all = CollectorRegistry()
        MultiProcessCollector(of_all)  # type: ignore[no-untyped-call]
        return generate_latest(of_all)
