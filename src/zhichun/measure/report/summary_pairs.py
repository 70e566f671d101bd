"""The pairs of a dataset on its summary page: by label, locale and split, what was made, and what each step did."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from zhichun.core.schema import JUDGED, LABELS, TEST, TRAIN
from zhichun.measure.report.html import Html, bar_cell, beside, folded, section, table, tag
from zhichun.measure.report.lengths import length_plots, length_table
from zhichun.measure.report.names import class_name, in_order

Rows = Sequence[dict[str, Any]]


def pairs_section(summary: dict[str, Any], manifest: dict[str, Any]) -> Html:
    """Count the judged pairs, and the products judged for a query.

    Parameters
    ----------
    summary, manifest
        ``summary.json`` and ``manifest.json``.
    """
    judged = [row for row in summary["pairs"] if row["origin"] == JUDGED]
    folds = [[fold, f"{count:,}"] for fold, count in manifest["examples"]["by_fold"].items()]
    of_query = summary["judged_products"]
    parts = [
        shares_table("Pairs by label and locale, with their share of the column", judged, "label", "locale"),
        beside(
            shares_table("Pairs by label and split, with their share of the column", judged, "label", "split"),
            _splits_table(judged, summary["queries"]),
        ),
        folded("By fold", table("Pairs by fold, made ones included", ["fold", "pairs"], folds)),
        tag("h3", "Judged products of a query"),
        beside(
            length_plots(of_query, "queries", "judged products"),
            length_table("How many products are judged for a query", "locale", [("", of_query)]),
        ),
    ]
    return section("Judged pairs", *parts)


def shares_table(caption: str, rows: Rows, down: str, across: str) -> Html:
    """Count pairs by two things, with a bar for the share of the column.

    Parameters
    ----------
    caption
        What the table shows.
    rows
        Counts of `zhichun.data.prepare.pair_counts.count_pairs`.
    down, across
        What the rows and the columns are: ``label``, ``locale``, ``split`` or ``origin``.
    """
    columns = {"all": rows, **{value: [row for row in rows if row[across] == value] for value in _values(rows, across)}}
    totals = {name: _pairs(column) for name, column in columns.items()}
    made = []
    for value in _values(rows, down):
        cells = []
        for name, column in columns.items():
            count = _pairs(row for row in column if row[down] == value)
            share = count / max(1, totals[name])
            cells.append(bar_cell(f"{count:,} ({share:.1%})", share))
        made.append([class_name(value), *cells])
    made.append(["all", *(f"{total:,}" for total in totals.values())])
    return table(caption, [down, *columns], made)


def made_section(summary: dict[str, Any]) -> Html | None:
    """Show what steps made of judged training pairs, and what it weighs; None where they made nothing."""
    training: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in summary["pairs"]:
        if row["split"] == TRAIN:
            training[row["origin"]].append(row)
    if set(training) <= {JUDGED}:
        return None
    total = sum(row["weight"] for rows in training.values() for row in rows)
    made = []
    for origin in sorted(training, key=lambda origin: (origin != JUDGED, origin)):
        rows = training[origin]
        pairs, weight = _pairs(rows), sum(row["weight"] for row in rows)
        share = weight / total if total else 0.0
        locales = ", ".join(in_order(row["locale"] for row in rows))
        cells = [f"{pairs:,}", f"{weight / pairs:.3g}", f"{weight:,.1f}", bar_cell(f"{share:.1%}", share), locales]
        made.append([origin, *cells])
    columns = ["origin", "pairs", "mean weight", "weight together", "share of the weight", "locales"]
    products = ", ".join(f"{count:,} {origin}" for origin, count in summary["products"]["made"].items())
    parts = [
        tag("p", "Made pairs are for training alone: they keep label and fold of the pair that they were made of."),
        table("Training pairs by origin", columns, made),
        shares_table(
            "Training pairs by label and origin, with their share of the column",
            [row for row in summary["pairs"] if row["split"] == TRAIN],
            "label",
            "origin",
        ),
        tag("p", f"Products made for them: {products}.") if products else Html(""),
    ]
    return section("Made pairs", *parts)


def steps_section(manifest: dict[str, Any]) -> Html:
    """Show what each step did to the pairs, and why rows were refused."""
    names = [
        name for name in ("read", "changed", "made", "dropped", "kept") if any(name in s for s in manifest["steps"])
    ]
    rows = []
    for step in manifest["steps"]:
        counts = {**step, "dropped": sum(step["dropped"].values())}
        rows.append([step["step"], *(f"{counts.get(name, 0):,}" for name in names)])
    parts = [table("Pairs through the steps of preparing", ["step", *names], rows)]
    if refused := refused_rows(manifest):
        made = [[reason, where, f"{count:,}", share] for reason, where, count, share in refused]
        listed = tag("p", "All of them are listed in rejected.parquet, with file, row and what exactly was found.")
        columns = ["reason", "of", "rows", "share"]
        parts += [table("Refused rows by reason", columns, made), listed]
    else:
        parts.append(tag("p", "No row was refused."))
    return section("Steps", *parts)


def refused_rows(manifest: dict[str, Any]) -> list[tuple[str, str, int, str]]:
    """Give reason, table, rows and share of its rows of all that was refused, the most frequent first."""
    found = []
    for part, name in (("examples", "judgements"), ("products", "catalogue")):
        read = manifest[part]["read"]
        found += [(reason, name, count, f"{count / read:.2%}") for reason, count in manifest[part]["dropped"].items()]
    for step in manifest["steps"]:
        if step["made"]:
            drawn = step["made"]
            found += [
                (reason, step["step"], count, f"{count / drawn:.2%}") for reason, count in step["dropped"].items()
            ]
    found += [(reason, "corrections", count, "–") for reason, count in manifest["refused_issues"].items()]
    return sorted(found, key=lambda row: (-row[2], row[:2]))


def _splits_table(judged: Rows, queries: Rows) -> Html:
    locales = in_order(row["locale"] for row in judged)
    rows = []
    for split in _values(judged, "split"):
        cells = []
        for locale in (*locales, None):
            pairs = [row for row in judged if row["split"] == split and locale in (row["locale"], None)]
            asked = [row for row in queries if row["split"] == split and locale in (row["locale"], None)]
            cells.append(f"{_pairs(pairs):,} / {sum(row['queries'] for row in asked):,}")
        rows.append([split, cells[-1], *cells[:-1]])
    return table("Pairs / queries by split and locale", ["split", "all", *locales], rows)


def _values(rows: Rows, name: str) -> list[str]:
    """Give the values of a column in the order that people know; labels also where there is none."""
    found = {row[name] for row in rows}
    if name == "locale":
        return in_order(found)
    known = {"label": LABELS, "split": (TRAIN, TEST), "origin": (JUDGED,)}[name]
    return [*(value for value in known if value in found or name == "label"), *sorted(found - set(known))]


def _pairs(rows: Iterable[dict[str, Any]]) -> int:
    return sum(row["pairs"] for row in rows)
