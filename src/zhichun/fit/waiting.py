"""How much of the time a loop waits for its data."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Waiting:
    """A stopwatch that runs while an iterator is asked for its next item; the first one is not counted."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = time.monotonic()

    @property
    def share(self) -> float:
        """Share of the time since the first item that was spent waiting for the others."""
        return self.seconds / max(time.monotonic() - self._began, 1e-9)

    def timed(self, items: Iterable[T]) -> Iterator[T]:
        """Pass items on and count the time until each is there."""
        asked: float | None = None
        for item in items:
            if asked is None:
                self.seconds, self._began = 0.0, time.monotonic()
            else:
                self.seconds += time.monotonic() - asked
            yield item
            asked = time.monotonic()
