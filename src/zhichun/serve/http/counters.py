"""Counts for Prometheus, written in its text format by hand: four kinds of numbers need no library."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
Labels = tuple[tuple[str, str], ...]


class Counter:
    """A number that only grows, for each set of labels."""

    kind = "counter"

    def __init__(self, name: str, what: str) -> None:
        self.name, self.what = name, what
        self.values: dict[Labels, float] = {}

    def add(self, value: float = 1, **labels: str) -> None:
        """Count more."""
        key = tuple(labels.items())
        self.values[key] = self.values.get(key, 0) + value

    def samples(self) -> Iterator[str]:
        """Write the numbers."""
        for labels, value in self.values.items() or [((), 0)]:
            yield _sample(self.name, labels, value)


class Gauge:
    """A number that is looked up when it is asked for."""

    kind = "gauge"

    def __init__(self, name: str, what: str, read: Callable[[], float]) -> None:
        self.name, self.what, self.read = name, what, read

    def samples(self) -> Iterator[str]:
        """Write the number."""
        yield _sample(self.name, (), self.read())


class Histogram:
    """How often values were at most so great, for each set of labels."""

    kind = "histogram"

    def __init__(self, name: str, what: str, bounds: Sequence[float]) -> None:
        self.name, self.what, self.bounds = name, what, bounds
        self.counts: dict[Labels, list[int]] = {}
        self.sums: dict[Labels, float] = {}

    def observe(self, value: float, **labels: str) -> None:
        """Count one value."""
        key = tuple(labels.items())
        counts = self.counts.setdefault(key, [0] * (len(self.bounds) + 1))
        counts[bisect_left(self.bounds, value)] += 1
        self.sums[key] = self.sums.get(key, 0.0) + value

    def samples(self) -> Iterator[str]:
        """Write the counts, each with all below it."""
        for labels, counts in self.counts.items():
            total = 0
            for bound, count in zip((*map(_number, self.bounds), "+Inf"), counts, strict=True):
                total += count
                yield _sample(f"{self.name}_bucket", (*labels, ("le", bound)), total)
            yield _sample(f"{self.name}_sum", labels, self.sums[labels])
            yield _sample(f"{self.name}_count", labels, total)


class Metrics:
    """All that a server counts."""

    def __init__(self) -> None:
        self.requests = Counter("zhichun_requests_total", "Requests answered, by path and status.")
        self.seconds = Histogram("zhichun_request_seconds", "Time to answer a request, by path.", SECONDS)
        self.pairs = Counter("zhichun_pairs_total", "Pairs asked for.")
        self.cached = Counter("zhichun_cached_pairs_total", "Distinct pairs of a request whose scores were kept.")
        self.rounds = Histogram("zhichun_round_pairs", "Pairs that were scored together.", SIZES)
        self.round_seconds = Histogram("zhichun_round_seconds", "Time to score pairs together.", SECONDS)
        self.gone = Counter("zhichun_disconnects_total", "Requests whose client went before the answer.")
        self.gauges: list[Gauge] = []

    def gauge(self, name: str, what: str, read: Callable[[], float]) -> None:
        """Show a number that is looked up."""
        self.gauges.append(Gauge(name, what, read))

    def text(self) -> str:
        """Write all."""
        lines = []
        counted: tuple[Counter | Histogram, ...] = (
            self.requests,
            self.seconds,
            self.pairs,
            self.cached,
            self.rounds,
            self.round_seconds,
            self.gone,
        )
        metrics: list[Counter | Histogram | Gauge] = [*counted, *self.gauges]
        for metric in metrics:
            lines += [f"# HELP {metric.name} {metric.what}", f"# TYPE {metric.name} {metric.kind}", *metric.samples()]
        return "\n".join(lines) + "\n"


def _sample(name: str, labels: Labels, value: float) -> str:
    inner = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
    return f"{name}{{{inner}}} {_number(value)}" if inner else f"{name} {_number(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return repr(int(value)) if value == int(value) else repr(float(value))
