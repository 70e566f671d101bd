"""Differences with their intervals, one below the other, as inline SVG."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from zhichun.measure.report.html import Html, tag
from zhichun.measure.report.plot import RIGHT, WIDTH, Scale, extent

ROW, FOOT, LEFT = 40, 28, 12
# Room beside the outermost interval, as a share of the axis.
MARGIN: Final = 0.05
# The axis on each side of 0 where no difference is anything else.
ALONE: Final = 0.01


class Interval(NamedTuple):
    """A difference; without an interval, ``low`` and ``high`` are the mean."""

    name: str
    mean: float
    low: float
    high: float


def interval_plot(intervals: Sequence[Interval], description: str) -> Html:
    """Draw a dot and a whisker for each difference, its name above it, and a line where there is none.

    Parameters
    ----------
    intervals
        At least one.
    description
        What the drawing shows, in words.
    """
    low, high = extent([0.0, *(end for interval in intervals for end in interval[1:])])
    margin = (high - low) * MARGIN or ALONE
    scale = Scale(low - margin, high + margin, LEFT, WIDTH - RIGHT)
    foot = ROW * len(intervals)
    marks = []
    for value in scale.ticks(5):
        place = scale.place(value)
        marks.append(_line(place, 0, place, foot, "mark" if value == 0 else "grid"))
        marks.append(
            tag("text", f"{value:+g}" if value else "0", x=f"{place:.1f}", y=str(foot + 18), text_anchor="middle")
        )
    for number, interval in enumerate(intervals):
        middle = ROW * number + 28
        marks.append(tag("text", interval.name, x=str(LEFT), y=str(middle - 12)))
        marks.append(_line(scale.place(interval.low), middle, scale.place(interval.high), middle, "whisker"))
        at = {"cx": f"{scale.place(interval.mean):.1f}", "cy": str(middle), "r": "4"}
        marks.append(tag("circle", class_="dot a", **at))
    return tag("svg", *marks, viewBox=f"0 0 {WIDTH} {foot + FOOT}", role="img", aria_label=description)


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> Html:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return tag("line", class_=style, **{name: f"{place:.1f}" for name, place in ends.items()})
