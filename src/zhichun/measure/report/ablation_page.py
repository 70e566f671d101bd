"""An ablation as a page: tables, and the differences drawn."""

from typing import Any

from zhichun.measure.report.ablation_plot import Interval, interval_plot
from zhichun.measure.report.ablation_tables import (
    ShownTable,
    circumstances,
    machine,
    metric_tables,
    rows_table,
    state,
    subtrahend,
)
from zhichun.measure.report.html import Html, figure, page, section, table, tag


def ablation_page(result: dict[str, Any]) -> str:
    """Write the page of a table.

    Parameters
    ----------
    result
        The value of ``table.json``.
    """
    opening = [tag("p", tag("strong", text)) for text in [state(result)] if text] + [tag("p", result["caption"])]
    sections = [
        section(shown.title, _set(shown), *_plots(result, metric, shown.title))
        for metric, shown in metric_tables(result)
    ]
    rows = rows_table(result)
    how = [*(tag("p", text) for text in circumstances(result)), tag("p", machine(result))]
    manifest = tag("p", "Dataset: SHA-256 of its manifest ", tag("code", result["dataset"]["manifest"]), ".")
    command = tag("pre", tag("code", result["command"]))
    return page(
        result["name"],
        tag("section", *opening),
        *sections,
        section(rows.title, table(rows.note, rows.columns, rows.rows, numbers=False)),
        section("How it was measured", *how, manifest, command),
    )


def _set(shown: ShownTable) -> Html:
    return table(shown.note or shown.title, shown.columns, shown.rows)


def _plots(result: dict[str, Any], metric: str, title: str) -> list[Html]:
    """Draw the differences of the rows that have one."""
    intervals = []
    for row in result["rows"]:
        found = row["figures"].get(metric, {}).get("difference")
        if found is not None:
            ends = (found["mean"], found["mean"]) if found["low"] is None else (found["low"], found["high"])
            intervals.append(Interval(row["name"], found["mean"], *ends))
    if not intervals:
        return []
    said = f"{title}: each row {subtrahend(result, metric)}, with 95 %"
    return [figure(interval_plot(intervals, said), f"{said}.")]
