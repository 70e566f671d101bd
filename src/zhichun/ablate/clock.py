"""How long the rest of a table is going to take."""

from collections.abc import Sequence

import numpy as np

from zhichun.ablate.run import Run


class Clock:
    """Counts the runs of a table and guesses the time that is left from those that are done.

    Parameters
    ----------
    waiting
        The runs that are to be done, in order.
    """

    def __init__(self, waiting: Sequence[Run]) -> None:
        self._waiting = list(waiting)
        self._of_all = len(self._waiting)
        self._seconds: dict[str, list[float]] = {}

    def took(self, run: Run, seconds: float) -> None:
        """Note that a run is done."""
        self._waiting.remove(run)
        self._seconds.setdefault(run.row.name, []).append(seconds)

    def left(self) -> float | None:
        """Seconds for the runs that wait, each as long as its row's, or as all, so far; ``None`` before the first."""
        if not self._seconds:
            return None
        of_all = float(np.mean([second for seconds in self._seconds.values() for second in seconds]))
        return sum(float(np.mean(self._seconds.get(run.row.name, of_all))) for run in self._waiting)

    def line(self, run: Run) -> str:
        """Say which run is next and how long it and the others will take."""
        number = self._of_all - len(self._waiting) + 1
        left = self.left()
        rest = "" if left is None else f", {left:.0f} s left" if left < 100 else f", {left / 60:.0f} min left"
        return f"run {number} of {self._of_all}: {run.row.name}, seed {run.seed}{rest}"
