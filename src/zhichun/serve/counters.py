"""Counts for Prometheus; of several processes, the sum over all of them.

The supervisor of several processes names a folder in ``PROMETHEUS_MULTIPROC_DIR`` before it starts them. Each keeps its
counts in files there, and whichever is asked adds all up.
"""

import asyncio
import os
from collections.abc import Callable
from functools import partial
from typing import Final

import prometheus_client as prometheus
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE: Final = prometheus.exposition.CONTENT_TYPE_PLAIN_0_0_4
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
REFRESH_SECONDS: Final = 1.0
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """All metrics of a server."""

    def __init__(self) -> None:
        own = self._own = prometheus.CollectorRegistry()
        counter, histogram = partial(prometheus.Counter, registry=own), partial(prometheus.Histogram, registry=own)
        self.requests = counter("zhichun_requests", "Requests answered, by path and status.", ["path", "status"])
        self.seconds = histogram(
            "zhichun_request_seconds", "Time to answer a request, by path.", ["path"], buckets=SECONDS
        )
        self.pairs = counter("zhichun_pairs", "Pairs requested.")
        self.cached = counter("zhichun_cached_pairs", "Distinct pairs of a request whose scores were in the cache.")
        self.rounds = histogram("zhichun_round_pairs", "Pairs that were scored together.", buckets=SIZES)
        self.round_seconds = histogram("zhichun_round_seconds", "Time to score pairs together.", buckets=SECONDS)
        self.disconnects = counter("zhichun_disconnects", "Requests whose client disconnected before the answer.")
        self._gauges: list[tuple[prometheus.Gauge, Callable[[], float]]] = []

    def gauge(self, name: str, what: str, read: Callable[[], float]) -> None:
        """Show a number that is looked up."""
        self._gauges.append((prometheus.Gauge(name, what, registry=self._own, multiprocess_mode="livesum"), read))

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
            return prometheus.generate_latest(self._own)
        of_all = prometheus.CollectorRegistry()
        MultiProcessCollector(of_all)  # type: ignore[no-untyped-call]
        return prometheus.generate_latest(of_all)
