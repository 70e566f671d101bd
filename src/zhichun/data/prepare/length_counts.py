"""How many texts have which length, by locale, and what that looks like: mean, median, tail and histogram.

Lengths are counted, not kept, so memory grows with the longest text and not with the number of texts.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]

# A histogram shows all but the longest hundredth, in so many bars at most.
SHOWN_SHARE: Final = 0.99
MOST_BARS: Final = 40


class LengthCounts:
    """Counts lengths by locale."""

    def __init__(self) -> None:
        self._counts: dict[str, Counts] = {}

    def add(self, locale: str, lengths: npt.NDArray[np.integer]) -> None:
        """Count the lengths of some texts of a locale."""
        if not len(lengths):
            return
        fresh = np.bincount(lengths).astype(np.int64)
        known = self._counts.get(locale, fresh[:0])
        longer, shorter = (fresh, known) if len(fresh) >= len(known) else (known, fresh)
        total = longer.copy()
        total[: len(shorter)] += shorter
        self._counts[locale] = total

    def add_rows(self, locales: npt.NDArray[Any], lengths: npt.NDArray[np.integer]) -> None:
        """Count the lengths of texts, whose locale is given for each.

        Parameters
        ----------
        locales, lengths
            ``[texts]`` each.
        """
        for locale in np.unique(locales):
            self.add(str(locale), lengths[locales == locale])

    def describe(self) -> dict[str, Any]:
        """Give the figures of each locale; JSON.

        Returns
        -------
        dict
            ``bar`` is how many lengths one bar of the histograms holds, the same for all locales. ``by_locale`` has for
            each ``texts``, ``mean``, ``median``, ``p95`` (the lengths that half and 95 % of the texts do not exceed),
            ``longest``, ``bars`` (the first holds the lengths from 0) and ``beyond`` (texts longer than all bars).
        """
        ends = [_reached_by(counts, SHOWN_SHARE) for counts in self._counts.values()]
        bar = _bar_width(max(ends, default=0) + 1)
        return {
            "bar": bar,
            "by_locale": {locale: _figures(self._counts[locale], bar) for locale in sorted(self._counts)},
        }


def _figures(counts: Counts, bar: int) -> dict[str, Any]:
    texts = int(counts.sum())
    bars = _reached_by(counts, SHOWN_SHARE) // bar + 1
    shown = np.zeros(bars * bar, np.int64)
    kept = min(len(shown), len(counts))
    shown[:kept] = counts[:kept]
    return {
        "texts": texts,
        "mean": round(float(counts @ np.arange(len(counts))) / texts, 2),
        "median": _reached_by(counts, 0.5),
        "p95": _reached_by(counts, 0.95),
        "longest": len(counts) - 1,
        "bars": shown.reshape(bars, bar).sum(axis=1).tolist(),
        "beyond": texts - int(shown.sum()),
    }


def _reached_by(counts: Counts, share: float) -> int:
    """Give the smallest length that a share of the texts does not exceed."""
    total = np.cumsum(counts)
    return int(np.searchsorted(total, share * total[-1] - 1e-9))


def _bar_width(lengths: int) -> int:
    """Give the smallest of 1, 2, 5, 10, 20, … with which so many lengths fit into `MOST_BARS` bars."""
    unit = 1
    while True:
        for factor in (1, 2, 5):
            if factor * unit * MOST_BARS >= lengths:
                return factor * unit
        unit *= 10
