"""The summary page of a dataset folder, made of ``manifest.json`` and ``summary.json`` alone."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from zhichun.core.errors import UserError
from zhichun.core.files import read_json
from zhichun.core.schema import JUDGED, LABELS, TEST, TRAIN
from zhichun.data.prepare.summary import FORMAT, SUMMARY_FILE
from zhichun.measure.page import Figure, Plot, bar, class_name, in_order, write_page

PAGE_FILE: Final = "summary.html"
# More locales than these are in the table alone; those with most texts are drawn.
MOST_PLOTS: Final = 6
STEP_COLUMNS: Final = ("read", "changed", "settled", "made", "dropped", "kept")

Counts = Sequence[dict[str, Any]]
Cells = list[Any]


def write_summary_page(folder: Path) -> Path:
    """Write ``summary.html`` into a dataset folder.

    Parameters
    ----------
    folder
        A dataset folder with ``summary.json``.

    Returns
    -------
    Path
        The page: no script, nothing from elsewhere, no times and no paths; the same figures give the same bytes.

    Raises
    ------
    UserError
        When the folder holds no such figures, damaged ones, or those of another version.
    """
    remedy = "Make it with: zhichun summary DIR"
    if not (folder / SUMMARY_FILE).is_file():
        raise UserError(f"there is no {SUMMARY_FILE}.", file=folder, remedy=remedy)
    summary, manifest = read_json(folder / SUMMARY_FILE), read_json(folder / "manifest.json")
    if summary.get("format") != FORMAT:
        raise UserError("is of another version.", file=folder / SUMMARY_FILE, remedy=remedy)
    judged = [row for row in summary["pairs"] if row["origin"] == JUDGED]
    lengths, refused, examples = summary["lengths"], _refused(manifest), manifest["examples"]
    steps = [{**step, "dropped": sum(step["dropped"].values())} for step in manifest["steps"]]
    return write_page(
        folder / PAGE_FILE,
        "dataset.html",
        title="Summary of the data",
        manifest=manifest,
        summary=summary,
        total={
            "kept": examples["kept"],
            "tested": _pairs(row for row in summary["pairs"] if row["split"] == TEST) / max(1, examples["kept"]),
            "queries": sum(row["queries"] for row in summary["queries"]),
            "products": sum(summary["products"]["by_locale"].values()),
            "refused": sum(count for _, _, count, _ in refused),
            "made": sum(examples["made"].values()),
        },
        by_locale=_shares(judged, "label", "locale"),
        by_split=_shares(judged, "label", "split"),
        splits=_splits(judged, summary["queries"]),
        figures={
            "of_query": _figures(summary["judged_products"], "queries", "judged products"),
            "queries": _figures(lengths["query"]["characters"], "queries", "characters"),
            "products": _figures(lengths["product"]["characters"], "products", "characters"),
            "pairs": _figures(lengths["pair"]["tokens"], "pairs", "tokens") if summary["tokens"] else [],
        },
        empty=_empty(summary["products"]),
        cut=_cut(summary["tokens"]["cut"]) if summary["tokens"] else [],
        made=_made(summary["pairs"]),
        steps=steps,
        step_columns=[name for name in STEP_COLUMNS if any(name in step for step in steps)],
        refused=refused,
        options=[[name, json.dumps(value, ensure_ascii=False)] for name, value in manifest["options"].items()],
    )


def _refused(manifest: dict[str, Any]) -> list[tuple[str, str, int, int | None]]:
    """Give reason, table, rows, and rows of that table, of all that was refused, the most frequent first."""
    found = [(reason, "corrections", count, None) for reason, count in manifest["refused_issues"].items()]
    for part, name in (("examples", "judgements"), ("products", "catalogue")):
        found += [(reason, name, count, manifest[part]["read"]) for reason, count in manifest[part]["dropped"].items()]
    for step in manifest["steps"]:
        if step["made"]:
            found += [(reason, step["step"], count, step["made"]) for reason, count in step["dropped"].items()]
    return sorted(found, key=lambda row: (-row[2], row[:2]))


def _crossed(corner: str, down: Iterable[Any], across: Sequence[str], cell: Callable[..., Any]) -> list[Cells]:
    """Make a table whose cells are of a row and of columns, all of these together and each; the head is first."""
    wanted = (across, *([value] for value in across))
    rows: list[Cells] = [[class_name(str(value)), *(cell(value, columns) for columns in wanted)] for value in down]
    return [[corner, "all", *across], *rows]


def _shares(rows: Counts, down: str, across: str) -> list[Cells]:
    """Count pairs by two things, with a bar for the share of the column."""

    def count(value: str | None, columns: Sequence[str]) -> int:
        return _pairs(row for row in rows if row[across] in columns and value in (None, row[down]))

    def cell(value: str, columns: Sequence[str]) -> dict[str, Any]:
        share = count(value, columns) / max(1, count(None, columns))
        return bar(f"{count(value, columns):,} ({share:.1%})", share)

    values = _values(rows, across)
    totals = ["all", *(f"{count(None, columns):,}" for columns in (values, *([value] for value in values)))]
    return [*_crossed(down, _values(rows, down), values, cell), totals]


def _splits(judged: Counts, queries: Counts) -> list[Cells]:
    def cell(split: str, locales: Sequence[str]) -> str:
        pairs, asked = (
            [row for row in counts if row["split"] == split and row["locale"] in locales]
            for counts in (judged, queries)
        )
        return f"{_pairs(pairs):,} / {sum(row['queries'] for row in asked):,}"

    return _crossed("split", _values(judged, "split"), in_order(row["locale"] for row in judged), cell)


def _figures(described: dict[str, Any], what: str, unit: str) -> list[Figure]:
    """Draw one histogram for each locale on the same axes, with the median."""
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
        figures.append(Figure(plot, text))
    return figures


def _empty(products: dict[str, Any]) -> list[Cells]:
    """Return the share of products without a field, by locale."""
    by_locale, without = products["by_locale"], products["without"]
    locales = in_order(by_locale)

    def cell(field: str, wanted: Sequence[str]) -> dict[str, Any]:
        share = sum(without[field].get(locale, 0) for locale in wanted) / max(1, sum(map(by_locale.get, wanted)))
        return bar(f"{share:.1%}", share)

    totals = [sum(by_locale.values()), *map(by_locale.get, locales)]
    return [*_crossed("field", without, locales, cell), ["products", *(f"{total:,}" for total in totals)]]


def _cut(counts: Counts) -> list[Cells]:
    """Return the share of pairs that are cut, by length and locale."""

    def cell(length: int, locales: Sequence[str]) -> dict[str, Any]:
        chosen = [row for row in counts if row["max_length"] == length and row["locale"] in locales]
        share = sum(row["cut"] for row in chosen) / max(1, _pairs(chosen))
        return bar(f"{share:.1%}", share)

    lengths = sorted({row["max_length"] for row in counts})
    return _crossed("max_length", lengths, in_order(row["locale"] for row in counts), cell)


def _made(pairs: Counts) -> dict[str, Any] | None:
    """Return what steps made of judged training pairs, and what it weighs; none where they made nothing."""
    training = [row for row in pairs if row["split"] == TRAIN]
    if {row["origin"] for row in training} <= {JUDGED}:
        return None
    total = sum(row["weight"] for row in training)
    origins = []
    for origin in _values(training, "origin"):
        rows = [row for row in training if row["origin"] == origin]
        weight, locales = sum(row["weight"] for row in rows), in_order(row["locale"] for row in rows)
        share = weight / total if total else 0.0
        origins.append({"name": origin, "pairs": _pairs(rows), "weight": weight, "share": share, "locales": locales})
    return {"origins": origins, "labels": _shares(training, "label", "origin")}


def _values(rows: Counts, name: str) -> list[str]:
    """Return the values of a column in the order that people know; labels also where there is none."""
    found = {row[name] for row in rows}
    if name == "locale":
        return in_order(found)
    known = {"label": LABELS, "split": (TRAIN, TEST), "origin": (JUDGED,)}[name]
    return [*(value for value in known if value in found or name == "label"), *sorted(found - set(known))]


def _pairs(rows: Iterable[dict[str, Any]]) -> int:
    return sum(row["pairs"] for row in rows)
