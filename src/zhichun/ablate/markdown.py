"""An ablation as Markdown, to be committed as it is."""

from typing import Any

from zhichun.measure.report.ablation_tables import ShownTable, circumstances, machine, metric_tables, rows_table, state


def markdown(result: dict[str, Any]) -> str:
    """Write the page of a table.

    Parameters
    ----------
    result
        The value of ``table.json``.
    """
    lines = [f"# {result['name']}", ""]
    if text := state(result):
        lines += [f"**{text}**", ""]
    lines += [result["caption"], ""]
    for _, shown in metric_tables(result):
        lines += [f"## {shown.title}", "", *_set(shown, "---:"), *([shown.note, ""] if shown.note else [])]
    rows = rows_table(result)
    lines += [f"## {rows.title}", "", *_set(rows, "---"), rows.note, "", "## How it was measured", ""]
    for text in circumstances(result):
        lines += [text, ""]
    manifest = f"Dataset: SHA-256 of its manifest `{result['dataset']['manifest']}`."
    lines += [f"{machine(result)}.", "", manifest, "", f"```bash\n{result['command']}\n```", ""]
    return "\n".join(lines)


def _set(shown: ShownTable, side: str) -> list[str]:
    rule = ["---", *([side] * (len(shown.columns) - 1))]
    return [*(f"| {' | '.join(map(_cell, row))} |" for row in (shown.columns, rule, *shown.rows)), ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
