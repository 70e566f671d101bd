"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 10.0
stderr = Console(stderr=True)


def say_aside(line: str) -> None:
    """Print a line on stderr."""
    stderr.print(line, markup=False, highlight=False, soft_wrap=True)


class Bar:
    """Progress of one piece of work, with its rate and the time left.

    Parameters
    ----------
    title
        What is being done.
    unit
        What is counted in the rate, such as `pairs`.
    shown
        Whether to show anything; other processes than the first stay silent.
    """

    def __init__(self, title: str, unit: str = "", *, shown: bool = True) -> None:
        self.title, self.unit, self.shown = title, unit, shown
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._first = self._done = self._total = self._units = 0
        self._began = self._spoke = time.monotonic()

    def start(self, done: int, total: int) -> None:
        """Begin at ``done`` of ``total`` steps; a total of 0 is one that nobody knows."""
        self._first, self._done, self._total, self._units = done, done, total, 0
        self._began = self._spoke = time.monotonic()
        if self.shown and stderr.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[detail]}"),
                console=stderr,
            )
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=total or None, completed=done, detail="")

    def advance(self, units: int, loss: float | None = None, *, steps: int = 1) -> None:
        """Report ``steps`` more steps that did ``units`` pieces of work."""
        self._done += steps
        self._units += units
        now = time.monotonic()
        rate = self._units / max(now - self._began, 1e-9)
        detail = f"{rate:,.0f} {self.unit}/s" + ("" if loss is None else f"  loss {loss:.4f}")
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, detail=detail)
        elif self.shown and now - self._spoke >= SECONDS_BETWEEN_LINES:
            self._spoke = now
            sys.stderr.write(f"{self.title}: {self._place()}  {detail}{self._left(now)}\n")

    def note(self, text: str) -> None:
        """Say something in between."""
        if self.shown:
            say_aside(f"{self.title}: {self._place()}  {text}")

    def _place(self) -> str:
        return f"{self._done:,}/{self._total:,}" if self._total else f"{self._done:,}"

    def _left(self, now: float) -> str:
        done = self._done - self._first
        if not self._total or not done:
            return ""
        return f"  {(now - self._began) / done * (self._total - self._done):.0f} s left"

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Stages(Bar):
    """Progress of work that reports (stage, done, total): a bar for each stage, one after the other.

    Parameters
    ----------
    unit
        What is counted.
    shown
        Whether to show anything.
    """

    def __init__(self, unit: str = "rows", *, shown: bool = True) -> None:
        super().__init__("", unit, shown=shown)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report how far a stage has come."""
        if self.title != stage:
            self.stop()
            self.title = stage
            self.start(0, total)
        self.advance(done - self._done, steps=done - self._done)
