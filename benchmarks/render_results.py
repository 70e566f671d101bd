"""Writes the README's results anew from the JSON files in ``benchmarks/results``, so that no figure is typed by hand.

    python benchmarks/render_results.py

A benchmark whose layout is known here gets a table; any other file is named, so that none is overlooked.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zhichun.errors import UserError
from zhichun.files import read_json, write_text

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- results -->", "<!-- /results -->"
NONE_YET = "No result is recorded yet."
TITLES = {"micro_f1": "micro-F1", "macro_f1": "macro-F1", "ndcg": "nDCG"}


def main() -> None:
    """Rewrite the README."""
    readme = ROOT / "README.md"
    write_text(readme, insert(readme.read_text("utf-8"), render(ROOT / "benchmarks" / "results")))


def insert(page: str, results: str) -> str:
    """Put results between the markers of a page.

    Raises
    ------
    UserError
        When the page does not have both markers once.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise UserError(f"the page must have {BEGIN} and then {END}, once each.", file="README.md")
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{results}\n{END}{rest.partition(END)[2]}"


def render(folder: Path) -> str:
    """Write all results of a folder as Markdown, in order of their names.

    Parameters
    ----------
    folder
        Where the JSON files are; it need not exist.

    Raises
    ------
    UserError
        For a file that is damaged or lacks a figure.
    """
    parts = []
    for path in sorted(folder.glob("*.json")):
        try:
            parts.append(LAYOUTS.get(path.stem, _named)(path.stem, read_json(path)))
        except (KeyError, IndexError, TypeError) as error:
            raise UserError(f"lacks a figure ({error!r}).", file=path, remedy="Run its benchmark again.") from error
    return "\n\n".join(parts) or NONE_YET


def _quality_esci(name: str, result: Mapping[str, Any]) -> str:
    systems, pairs, columns = result["systems"], result["pairs"], [*TITLES, "seconds"]
    seeds = len(next(iter(systems.values()))["seeds"])
    rows = [[f"{system}: {of['what']}", *_cells(of["mean"], columns)] for system, of in systems.items()]
    rows.append(["always Exact", *_cells(result["always_exact"], columns)])
    lines = [
        f"**Fine-tuning, beside sentence-transformers.** Encoder {result['encoder']}; pairs of the Shopping Queries "
        f"Dataset, {pairs['training']:,} to train on and {pairs['test']:,} to test on; means over {seeds} seeds; gains "
        f"`esci`; seconds of one training on {_machine(result)}.",
        "",
        _table(["system", *(TITLES.get(column, column) for column in columns)], rows),
        "",
    ]
    for system, found in result["differences"].items():
        lines.append(f"{system} minus sentence-transformers: {_differences(found)}.")
    return "\n".join([*lines, _source(name, result)])


def _tiny_start(name: str, result: Mapping[str, Any]) -> str:
    columns = ["micro_f1", "ndcg"]
    rows = [
        [f"{start} start", *(f"{np.mean(result[start][column]):.3f}" for column in columns)]
        for start in ("matching", "random")
    ]
    baselines = result["baselines"]
    rows.append(["always Exact, random order", f"{baselines['always_exact']:.3f}", f"{baselines['random_order']:.3f}"])
    lines = [
        f"**The tiny encoder's start.** Recipe `tiny` on the sample shop, {result['data']['test_pairs']:,} test pairs; "
        f"means over {len(result['seeds'])} seeds; gains `esci`.",
        "",
        _table(["", *(TITLES[column] for column in columns)], rows),
        "",
        f"matching minus random: {_differences(result['difference'])}.",
    ]
    return "\n".join([*lines, _source(name, result)])


def _prepare_scale(name: str, result: Mapping[str, Any]) -> str:
    full, plain, cost = result["full"], result["against_pandas_and_python"], result["cost_per_row_full_to_tenth"]
    lines = [
        "**Preparing data at the size of the real set.** "
        f"A sample shop of {full['pairs']:,} pairs on {full['products']:,} products, with vocabularies: "
        f"{full['seconds']['wall']:.0f} s, peak memory {full['peak_gib']:.1f} GiB, on {_machine(result)}. "
        f"A row costs {cost['wall']:.2f} times what it costs in a run on one tenth. "
        f"On {plain['pairs']:,} pairs it is {plain['times_faster']['wall']:.1f} times as fast as plain pandas and "
        "Python in the same run, with equal output.",
    ]
    return "\n".join([*lines, _source(name, result)])


def _named(name: str, result: Mapping[str, Any]) -> str:
    return f"**{result.get('what', name)}.** " + _source(name, result)


LAYOUTS: dict[str, Callable[[str, Mapping[str, Any]], str]] = {
    "prepare_scale": _prepare_scale,
    "quality_esci": _quality_esci,
    "tiny_start": _tiny_start,
}


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    aligned = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, aligned, *rows))


def _cells(figures: Mapping[str, float], columns: Iterable[str]) -> list[str]:
    return [f"{figures[name]:.{0 if name == 'seconds' else 3}f}" if name in figures else "" for name in columns]


def _differences(found: Mapping[str, Mapping[str, float]]) -> str:
    return "; ".join(
        f"{TITLES.get(name, name)} {of['mean']:+.4f} (95 %: {of['low']:+.4f} to {of['high']:+.4f}, p = {of['p']:.3f})"
        for name, of in found.items()
    )


def _machine(result: Mapping[str, Any]) -> str:
    where = result["machine"]
    return where["gpu"] or f"{where['cores']} cores of {where['processor']}"


def _source(name: str, result: Mapping[str, Any]) -> str:
    """Say where the figures come from: the file, what made it, when."""
    command = f" by `{result['command']}`" if "command" in result else ""
    date = f", {result['date']}" if "date" in result else ""
    return f"[benchmarks/results/{name}.json](benchmarks/results/{name}.json){command}{date}."


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
