"""A table of results as Markdown, to be committed as it is; ``result`` everywhere is the value of ``table.json``."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from zhichun.measure.page import figure_name as name_of_figure

Cell = Callable[[dict[str, Any]], str]


def figure_name(key: str) -> str:
    """Name a column: a metric, or the loss of the pre-training."""
    return "MLM loss (lower is better)" if key == "mlm_loss" else name_of_figure(key)


def markdown(result: dict[str, Any]) -> str:
    """Write the page of a table."""
    done = result["runs"]
    lines = [f"# {result['name']}", ""]
    if result["partial"]:
        lines += [f"**Partial: {done['done']} of {done['planned']} runs are done.**", ""]
    lines += [result["caption"], ""]
    for metric in result["metrics"]:
        if any(metric in row["figures"] for row in result["rows"]):
            lines += [f"## {figure_name(metric)}", "", *_metric_table(result, metric), *_floor(result, metric)]
    lines += ["## Rows", "", *_rows_table(result), "## How it was measured", ""]
    for text in (*_circumstances(result), f"{_machine(result)}."):
        lines += [text, ""]
    lines += [f"Dataset: SHA-256 of its manifest `{result['dataset']['manifest']}`.", ""]
    return "\n".join([*lines, f"```bash\n{result['command']}\n```", ""])


def _metric_table(result: dict[str, Any], metric: str) -> list[str]:
    rows = [row for row in result["rows"] if metric in row["figures"]]
    against = {row["compared_with"] for row in rows} - {None}
    minus = f"minus {next(iter(against))}" if len(against) == 1 else "minus the first of its task"
    minus = "minus the row above" if result["compared_with"] == "above" else minus
    columns: dict[str, Cell] = {
        figure_name(metric): lambda figure: _number(figure.get("ours", {}).get("mean")),
        "95 %": lambda figure: _interval(figure.get("ours"), ""),
        "deviation over seeds": lambda figure: _number(figure.get("seed_deviation")),
        minus: lambda figure: _number(figure.get("difference", {}).get("mean"), "+"),
        "95 % of it": lambda figure: _interval(figure.get("difference"), "+"),
        "p": lambda figure: _p(figure.get("difference", {}).get("p")),
        "paper": lambda figure: _number(figure.get("paper")),
        "paper's difference": lambda figure: _number(figure.get("paper_difference"), "+"),
    }
    return _table([_header(row) for row in rows], [row["figures"][metric] for row in rows], columns, "---:")


def _rows_table(result: dict[str, Any]) -> list[str]:
    rows = result["rows"]
    shared = [setting for setting in rows[0]["settings"] if all(setting in row["settings"] for row in rows)]
    columns: dict[str, Cell] = {
        "set": lambda row: _settings([setting for setting in row["settings"] if setting not in shared]),
        "set in pre-training": lambda row: "" if row["pretraining"] is None else _settings(row["pretraining"]),
        "judgements left out": lambda row: "" if row["dropping"] is None else f"{row['dropping']['share']:.1%}",
        "seconds a training": lambda row: _seconds(row["seconds"]),
        "seconds before it": lambda row: _seconds(row["seconds_before"]),
        "runs": lambda row: f"{row['runs']['done']} of {row['runs']['planned']}",
    }
    note = f"Set in all rows: {_settings([*result['settings'], *shared])}."
    if result["pretraining_settings"]:
        note += f" In all pre-training: {_settings(result['pretraining_settings'])}."
    return [*_table([row["name"] for row in rows], rows, columns, "---"), note, ""]


def _table(names: Sequence[str], rows: Sequence[dict[str, Any]], columns: dict[str, Cell], side: str) -> list[str]:
    """Set a table, without the columns in which no row has anything."""
    kept = {heading: cell for heading, cell in columns.items() if any(map(cell, rows))}
    cells = [[name, *(cell(row) for cell in kept.values())] for name, row in zip(names, rows, strict=True)]
    made = [["row", *kept], ["---", *([side] * len(kept))], *cells]
    return [*("| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in made), ""]


def _floor(result: dict[str, Any], metric: str) -> list[str]:
    """Say what is reached without a model."""
    found = {task: floor[metric] for task, floor in result["floor"].items() if metric in floor}
    values = [f"{value:.4f}" + (f" ({task})" if len(result["floor"]) > 1 else "") for task, value in found.items()]
    how = "One class always" if "f1" in metric else "A random order"
    return [f"{how} gives {', '.join(values)}.", ""] if found else []


def _circumstances(result: dict[str, Any]) -> Iterable[str]:
    data, model, train = result["dataset"], result["recipe"]["model"], result["recipe"]["train"]
    seeds = result["seeds"]
    yield (
        f"Measured on {data['test_pairs']:,} test pairs of {data['test_queries']:,} queries, with the "
        f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}. Intervals are of 95 %: a bootstrap "
        "over queries of the value of each pair or query, averaged over the seeds; paired where two rows are compared."
    )
    yield (
        f"Recipe of the first row: encoder {model['encoder']}, {model['max_length']} tokens, epochs {train['epochs']}, "
        f"batch {train['batch_size']}, learning rate {train['learning_rate']:g}."
    )
    if any("paper" in name for row in result["rows"] for figure in row["figures"].values() for name in figure):
        yield (
            "The paper's figures come from another encoder, other data and cross-validation: its differences can be "
            "held beside ours, its levels cannot."
        )
    for own in result["overruled"]:
        yield f"{own['setting']} does not hold for {', '.join(own['rows'])}, which set it themselves."


def _machine(result: dict[str, Any]) -> str:
    where = result["machine"]
    if not where:
        return str(result["date"])
    hardware = f"{where['processor']}, {where['cores']} cores, {where['threads']} threads, GPU {where['gpu'] or 'none'}"
    versions = ", ".join(f"{name} {version}" for name, version in where["libraries"].items())
    return f"{result['date']}; {hardware}; Python {where['python']}, {versions}"


def _header(row: dict[str, Any]) -> str:
    done, planned = row["runs"]["done"], row["runs"]["planned"]
    return row["name"] if done == planned else f"{row['name']} ({done} of {planned} runs)"


def _number(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.4f}"


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _interval(found: dict[str, Any] | None, sign: str) -> str:
    if found is None or found["low"] is None:
        return ""
    return f"{_number(found['low'], sign)} to {_number(found['high'], sign)}"


def _settings(settings: Sequence[str]) -> str:
    return ", ".join(settings) or "nothing"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}" if value < 10 else f"{value:,.0f}"
