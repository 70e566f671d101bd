"""What is shown of an ablation, as plain text by row and column; Markdown and HTML both set these tables.

``result`` everywhere is the value of ``table.json``.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from zhichun.measure.report.names import figure_name

PER_SEED: Final = "over seeds"
NO_FIGURE: Final = ""


@dataclass(frozen=True)
class ShownTable:
    """One table: the first cell of each row is its header.

    Parameters
    ----------
    title
        What it is of.
    note
        How it is to be read; may be empty.
    columns
        Headings.
    rows
        Cells.
    """

    title: str
    note: str
    columns: list[str]
    rows: list[list[str]]


def metric_tables(result: dict[str, Any]) -> list[tuple[str, ShownTable]]:
    """Lay out one table for each metric that some row has, with the metric's name."""
    shown = []
    for metric in result["metrics"]:
        rows = [row for row in result["rows"] if metric in row["figures"]]
        if rows:
            shown.append((metric, _metric_table(result, metric, rows)))
    return shown


def rows_table(result: dict[str, Any]) -> ShownTable:
    """Lay out what was set in each row and what it cost."""
    shared = [
        setting for setting in result["rows"][0]["settings"] if all(setting in r["settings"] for r in result["rows"])
    ]
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "row": lambda row: row["name"],
        "set": lambda row: _settings([setting for setting in row["settings"] if setting not in shared]),
        "set in pre-training": lambda row: "" if row["pretraining"] is None else _settings(row["pretraining"]),
        "judgements left out": lambda row: "" if row["dropping"] is None else f"{row['dropping']['share']:.1%}",
        "seconds a training": lambda row: _seconds(row["seconds"]),
        "seconds before it": lambda row: _seconds(row["seconds_before"]),
        "runs": lambda row: f"{row['runs']['done']} of {row['runs']['planned']}",
    }
    kept = {heading: cell for heading, cell in columns.items() if any(map(cell, result["rows"]))}
    rows = [[cell(row) for cell in kept.values()] for row in result["rows"]]
    note = f"Set in all rows: {_settings([*result['settings'], *shared])}."
    if result["pretraining_settings"]:
        note += f" In all pre-training: {_settings(result['pretraining_settings'])}."
    return ShownTable("Rows", note, list(kept), rows)


def subtrahend(result: dict[str, Any], metric: str) -> str:
    """Name what a row's difference is to."""
    against = {row["compared_with"] for row in result["rows"] if metric in row["figures"]} - {None}
    if result["compared_with"] == "above":
        return "minus the row above"
    return f"minus {next(iter(against))}" if len(against) == 1 else "minus the first of its task"


def state(result: dict[str, Any]) -> str:
    """Say that runs are missing; empty for a whole table."""
    runs = result["runs"]
    return f"Partial: {runs['done']} of {runs['planned']} runs are done." if result["partial"] else ""


def circumstances(result: dict[str, Any]) -> list[str]:
    """Say in sentences what the figures were measured on and how."""
    data, recipe = result["dataset"], result["recipe"]
    model, train = recipe["model"], recipe["train"]
    seeds = result["seeds"]
    said = [
        f"Measured on {data['test_pairs']:,} test pairs of {data['test_queries']:,} queries, with the "
        f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}. Intervals are of 95 %: a bootstrap "
        "over queries of what each pair or query is worth on average over the seeds, paired where two rows are "
        f"compared; those marked “{PER_SEED}” are Student's.",
        f"Recipe of the first row: encoder {model['encoder']}, {model['max_length']} tokens, epochs {train['epochs']}, "
        f"batch {train['batch_size']}, learning rate {train['learning_rate']:g}.",
    ]
    if any("paper" in figure or "paper_difference" in figure for figure in _figures(result)):
        said.append(
            "The paper's figures come from another encoder, other data and cross-validation: its differences can be "
            "held beside ours, its levels cannot."
        )
    for own in result["overruled"]:
        said.append(f"{own['setting']} does not hold for {', '.join(own['rows'])}, which set it themselves.")
    return said


def machine(result: dict[str, Any]) -> str:
    """Say when and on what the last run was made."""
    where = result["machine"]
    if not where:
        return result["date"]
    hardware = f"{where['processor']}, {where['cores']} cores, {where['threads']} threads, GPU {where['gpu'] or 'none'}"
    versions = ", ".join(f"{name} {version}" for name, version in where["libraries"].items())
    return f"{result['date']}; {hardware}; Python {where['python']}, {versions}"


def _metric_table(result: dict[str, Any], metric: str, rows: list[dict[str, Any]]) -> ShownTable:
    name = figure_name(metric)
    minus = subtrahend(result, metric)
    columns: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        (name, lambda figure: _number(figure.get("ours", {}).get("mean"))),
        ("95 %", lambda figure: _interval(figure.get("ours"), "")),
        ("deviation over seeds", lambda figure: _number(figure.get("seed_deviation"))),
        (minus, lambda figure: _number(figure.get("difference", {}).get("mean"), "+")),
        ("95 % of it", lambda figure: _interval(figure.get("difference"), "+")),
        ("p", lambda figure: _number(figure.get("difference", {}).get("p"), places=3)),
        ("paper", lambda figure: _number(figure.get("paper"))),
        ("paper's difference", lambda figure: _number(figure.get("paper_difference"), "+")),
    ]
    figures = [row["figures"][metric] for row in rows]
    kept = [(heading, cell) for heading, cell in columns if any(cell(figure) for figure in figures)]
    cells = [[_header(row), *(cell(figure) for _, cell in kept)] for row, figure in zip(rows, figures, strict=True)]
    return ShownTable(name, _floor(result, metric), ["row", *(heading for heading, _ in kept)], cells)


def _header(row: dict[str, Any]) -> str:
    done = row["runs"]
    whole = done["done"] == done["planned"]
    return row["name"] if whole else f"{row['name']} ({done['done']} of {done['planned']} runs)"


def _floor(result: dict[str, Any], metric: str) -> str:
    """Say what is reached without a model."""
    found = {task: floor[metric] for task, floor in result["floor"].items() if metric in floor}
    if not found:
        return ""
    how = "One class always" if "f1" in metric else "A random order"
    values = [f"{value:.4f}" + (f" ({task})" if len(result["floor"]) > 1 else "") for task, value in found.items()]
    return f"{how} gives {', '.join(values)}."


def _figures(result: dict[str, Any]) -> Iterable[dict[str, Any]]:
    for row in result["rows"]:
        yield from row["figures"].values()


def _number(value: float | None, sign: str = "", places: int = 4) -> str:
    return NO_FIGURE if value is None else f"{value:{sign}.{places}f}"


def _interval(found: dict[str, Any] | None, sign: str) -> str:
    if found is None or found["low"] is None:
        return NO_FIGURE
    how = f" {PER_SEED}" if found["over"] == "seeds" else ""
    return f"{_number(found['low'], sign)} to {_number(found['high'], sign)}{how}"


def _settings(settings: list[str]) -> str:
    return ", ".join(settings) or "nothing"


def _seconds(value: float | None) -> str:
    return NO_FIGURE if value is None else f"{value:,.1f}" if value < 10 else f"{value:,.0f}"
