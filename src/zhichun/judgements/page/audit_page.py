"""The page of an audit: how labels are confused, and the judgements in doubt, on which a person decides.

One HTML file with a script of its own, readable without a server; nothing comes from elsewhere and nothing is sent.
The pairs lie in it as JSON, and the script puts them on the page as text, never as markup.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zhichun.core import schema
from zhichun.core.files import write_text
from zhichun.measure.report.html import Html, asset, bar_cell, cards, figure, folded, page, section, table, tag
from zhichun.measure.report.names import class_name, language
from zhichun.measure.report.plot import Plot

BINS: Final = 40
PAGE_SIZES: Final = ("10", "25", "50", "100")


def write_audit_page(
    path: Path,
    summary: Mapping[str, Any],
    issues: pa.Table,
    quality_P: npt.NDArray[np.float64],
    decisions: Mapping[int, str],
    key: str,
) -> None:
    """Write the page.

    Parameters
    ----------
    path
        The file to make or replace.
    summary
        From `zhichun.judgements.audit.summary.summarise`.
    issues
        Those to show, as `zhichun.judgements.audit.findings.Findings.issues` has them.
    quality_P
        Quality of every judged training pair.
    decisions
        What a person decided already, by ``example_id``; it is marked on the page.
    key
        Tells audits apart: decisions that the browser keeps belong to one.
    """
    made = page(
        "Audit of the judgements",
        _overview(summary, len(issues)),
        section("How labels are confused", tag("div", *_plots(summary, quality_P), class_="plots")),
        _judging(summary),
        tag("script", in_script(_records(issues, decisions, key)), type="application/json", id="issues"),
        tag("script", asset("audit.js", __package__)),
        style=asset("audit.css", __package__),
    )
    write_text(path, made)


def in_script(value: Any) -> Html:
    """Write JSON that can stand in a script element: nothing in it can end the element or open another."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return Html(text)


def _records(issues: pa.Table, decisions: Mapping[int, str], key: str) -> dict[str, Any]:
    """Give what the script needs: one list for each pair, in the order of ``columns``."""
    probabilities = [f"p_{label}" for label in schema.LABELS]
    texts = [schema.QUERY, schema.PRODUCT_ID, schema.LOCALE, *schema.TEXT_COLUMNS]
    columns = [schema.EXAMPLE_ID, *texts, schema.LABEL, "likely_label", *probabilities, "quality"]
    values = [issues.column(name).to_pylist() for name in columns]
    rounded = [
        [round(number, 3) for number in column] if name in (*probabilities, "quality") else column
        for name, column in zip(columns, values, strict=True)
    ]
    locales = sorted(set(values[columns.index(schema.LOCALE)]))
    return {
        "key": key,
        "columns": columns,
        "labels": {label: class_name(label) for label in schema.LABELS},
        "languages": {locale: language(locale) for locale in locales},
        "decided": {str(example): what for example, what in decisions.items()},
        "rows": [list(row) for row in zip(*rounded, strict=True)],
    }


def _overview(summary: Mapping[str, Any], shown: int) -> Html:
    text = (
        f"{summary['folds']} models, each trained without one fold of the queries, predicted the pairs of that fold. "
        "Confident learning compares their predictions with the judgements: where they disagree more surely than the "
        "models' usual mistakes explain, the judgement is in doubt. It may be right all the same: look, and decide."
    )
    if shown < summary["issues"]:
        text += f" This page has the {shown:,} most doubtful ones; issues.csv has all."
    agreement = f"micro-F1 {summary['out_of_fold']['micro_f1']:.3f} against the judgements"
    entries = [
        ("judged training pairs", f"{summary['pairs']:,}", [agreement]),
        ("in doubt", f"{summary['issues']:,}", [f"{summary['share']:.1%} of the pairs"]),
        ("estimated to be wrong", f"{summary['estimated_wrong']:.1%}", ["of the pairs, from the table below"]),
    ]
    return tag("section", tag("p", text), cards(entries))


def _plots(summary: Mapping[str, Any], quality_P: npt.NDArray[np.float64]) -> list[Html]:
    return [_noise_matrix(summary), _quality_plot(quality_P), *_shares(summary)]


def _noise_matrix(summary: Mapping[str, Any]) -> Html:
    """Draw the confident joint as a heat map that is a table."""
    rows = []
    for label, counts in zip(summary["labels"], summary["joint"], strict=True):
        shares = [count / max(1, sum(counts)) for count in counts]
        cells = [
            tag("td", f"{count:,}", tag("small", f"{share:.1%}"), style=f"--share:{share:.2f}", class_="heat")
            for count, share in zip(counts, shares, strict=True)
        ]
        rows.append([class_name(label), *cells])
    caption = "Label given (rows) and estimated right label (columns): pairs, and their share of the row"
    return table(caption, ["given ↓ right →", *summary["labels"]], rows)


def _shares(summary: Mapping[str, Any]) -> list[Html]:
    """List how many judgements of each label and locale are in doubt."""
    tables = []
    for kind in ("label", "locale"):
        counted = summary[f"by_{kind}"]
        longest = max((counts["share"] for counts in counted.values()), default=0) or 1
        rows = [
            [
                class_name(name),
                f"{counts['pairs']:,}",
                f"{counts['issues']:,}",
                bar_cell(f"{counts['share']:.1%}", counts["share"] / longest),
            ]
            for name, counts in counted.items()
        ]
        tables.append(table(f"In doubt, by {kind}", [kind, "pairs", "in doubt", "share"], rows))
    return tables


def _quality_plot(quality_P: npt.NDArray[np.float64]) -> Html:
    counts, edges = np.histogram(quality_P, BINS, (0, 1))
    share = counts / max(1, len(quality_P))
    plot = Plot((0, 1), (0, float(share.max())), "quality of the judgement", "share of the pairs", 190)
    plot.bars(edges, share, "bars")
    below = float((quality_P < 0.5).mean())
    text = (
        "Quality of all judgements: half of one plus the probability of the given label minus that of the likeliest "
        f"other. Below 0.5 ({below:.1%} of the pairs) another label is likelier."
    )
    return figure(plot.svg(text), text)


def _judging(summary: Mapping[str, Any]) -> Html:
    """Make the part that the script fills: filters, pairs, and what is done with decisions."""
    labels = [("", "any"), *((label, class_name(label)) for label in schema.LABELS)]
    choices = {
        "locale": ("locale", [("", "any"), *((name, name) for name in summary["by_locale"])]),
        "given": ("given label", labels),
        "likely": ("likely label", labels),
        "state": ("decision", [("", "any"), ("open", "open"), ("decided", "decided")]),
        "size": ("pairs on a page", [(size, size) for size in PAGE_SIZES]),
    }
    fields = [
        tag("label", name, tag("select", *(tag("option", said, value=value) for value, said in options), id=key))
        for key, (name, options) in choices.items()
    ]
    search = tag("label", "text in query, title, brand or id", tag("input", type="search", id="text"), class_="wide")
    keys = tag(
        "p",
        "With the focus on a decision, the letters ",
        *_keys(),
        " decide and go on to the next pair; ",
        tag("kbd", "u"),
        " takes a decision back.",
    )
    apply = tag(
        "p",
        "The file of decisions is applied with ",
        tag("code", "zhichun audit --data DATA --out AUDIT --accept decisions.csv"),
        ", which lists what to drop and to relabel for zhichun prepare. This browser keeps decisions until then.",
    )
    buttons = [tag("button", "Download decisions", type="button", id="download")]
    pager = [
        tag("button", "Previous page", type="button", id="previous"),
        tag("span", id="place"),
        tag("button", "Next page", type="button", id="next"),
    ]
    return section(
        "Judgements in doubt, the most doubtful first",
        tag("noscript", tag("p", "The list needs JavaScript; the same pairs are in issues.csv.")),
        folded("How to decide, and what becomes of it", keys, apply),
        tag("form", search, *fields, class_="filters", role="search", aria_label="Filter the pairs"),
        tag("div", tag("p", role="status", id="status"), *buttons, class_="actions"),
        tag("ol", id="pairs", class_="pairs", tabindex="-1", aria_label="Judgements in doubt"),
        tag("nav", *pager, class_="actions", aria_label="Pages"),
    )


def _keys() -> list[str]:
    parts: list[str] = []
    for letter, what in (("k", "keep"), ("d", "drop"), *((label.lower(), "") for label in schema.LABELS)):
        parts += [tag("kbd", letter), f" ({what or class_name(letter.upper())[2:]}), "]
    parts[-1] = parts[-1].removesuffix(", ")
    return parts
