"""What the written results are made of: tables, figures, differences, and where they come from."""

from collections.abc import Iterable, Mapping
from typing import Any

TITLES = {
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "ndcg": "nDCG",
    "ndcg@10": "nDCG@10",
    "mrr": "MRR",
    "log_loss": "log loss",
}


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Write a table, its first column to the left."""
    heads = list(heads)
    aligned = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, aligned, *rows))


def cells_of(figures: Mapping[str, float], columns: Iterable[str]) -> list[str]:
    """Write figures; empty where there is none."""
    return [f"{figures[name]:.{0 if name == 'seconds' else 3}f}" if name in figures else "" for name in columns]


def differences(found: Mapping[str, Mapping[str, float]]) -> str:
    """Write differences with their intervals."""
    return "; ".join(
        f"{TITLES.get(name, name)} {of['mean']:+.4f} (95 %: {of['low']:+.4f} to {of['high']:+.4f}, {chance(of['p'])})"
        for name, of in found.items()
    )


def chance(p: float) -> str:
    """Write the p of a bootstrap; a finite number of draws never gives 0."""
    return f"p = {p:.3f}" if p >= 0.0005 else "p < 0.001"


def machine_of(result: Mapping[str, Any]) -> str:
    """Name the machine of a result."""
    where = result["machine"]
    return where["gpu"] or f"{where['cores']} cores of {where['processor']}"


def source(name: str, result: Mapping[str, Any]) -> str:
    """Say where the figures come from: the file, what made it, when."""
    command = f" by `{result['command']}`" if "command" in result else ""
    date = f", {result['date']}" if "date" in result else ""
    return f"[benchmarks/results/{name}.json](../benchmarks/results/{name}.json){command}{date}."
