"""Lengths of texts by locale, as `zhichun.data.prepare.length_counts` describes them: histograms and tables."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from zhichun.measure.report.html import Html, figure, table, tag
from zhichun.measure.report.names import in_order
from zhichun.measure.report.plot import Plot

# More locales than these are in the table alone; those with most texts are drawn.
MOST_PLOTS: Final = 6
COLUMNS: Final = ("count", "mean", "median", "95 %", "largest")


def length_plots(described: dict[str, Any], what: str, unit: str) -> Html:
    """Draw one histogram for each locale, one below the other on the same axes, with the median.

    Parameters
    ----------
    described
        The lengths: ``bar`` and ``by_locale``.
    what, unit
        What was measured, in the plural (``queries``), and in what (``characters``).
    """
    width, by_locale = described["bar"], described["by_locale"]
    drawn = sorted(by_locale, key=lambda locale: (-by_locale[locale]["texts"], locale))[:MOST_PLOTS]
    shares = {locale: np.asarray(by_locale[locale]["bars"]) / by_locale[locale]["texts"] for locale in in_order(drawn)}
    # A length is drawn in the middle of its place, so that a bar of one length stands above its number.
    end = max((len(share) for share in shares.values()), default=1) * width - 0.5
    highest = max((float(share.max()) for share in shares.values()), default=1.0)
    figures = []
    for locale, share in shares.items():
        found = by_locale[locale]
        plot = Plot((-0.5, end), (0, highest), unit, "share", 150)
        plot.bars(np.arange(len(share) + 1) * width - 0.5, share, "bars")
        plot.segment((found["median"], 0), (found["median"], highest), "mark")
        text = (
            f"{locale}: {found['texts']:,} {what}. Half have at most {found['median']:,} {unit} (dashed); the most is "
            f"{found['longest']:,}."
        )
        if found["beyond"]:
            text += f" Right of what is drawn: {found['beyond']:,}."
        figures.append(figure(plot.svg(text), text))
    return tag("div", *figures, class_="stack")


def length_table(caption: str, head: str, rows: Iterable[tuple[str, dict[str, Any]]]) -> Html:
    """List mean, median and tail.

    Parameters
    ----------
    caption
        What the table shows.
    head
        What the names of the rows are.
    rows
        A name for each set of lengths (``characters``, or none), and the lengths; a row is made for each locale.
    """
    made = [
        [f"{name}, {locale}" if name else locale, *length_cells(described["by_locale"][locale])]
        for name, described in rows
        for locale in in_order(described["by_locale"])
    ]
    return table(caption, [head, *COLUMNS], made)


def length_cells(figures: dict[str, Any]) -> Sequence[str]:
    """Write the figures of one locale as cells under `COLUMNS`."""
    mean = f"{figures['mean']:,.1f}"
    return [f"{figures['texts']:,}", mean, *(f"{figures[name]:,}" for name in ("median", "p95", "longest"))]
