"""The summary page of a dataset folder, made of ``manifest.json`` and ``summary.json`` alone."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from zhichun.core.errors import UserError
from zhichun.core.files import read_json
from zhichun.core.schema import JUDGED, LABELS, TEST, TRAIN
from zhichun.data.prepare.summary import FORMAT, SUMMARY_FILE
from zhichun.measure.report.page import Figure, bar, class_name, in_order, language, write_page
from zhichun.measure.report.plot import Plot

PAGE_FILE: Final = "summary.html"
# More locales than these are in the table alone; those with most texts are drawn.
MOST_PLOTS: Final = 6
COLUMNS: Final = ("count", "mean", "median", "95 %", "largest")

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
    lengths, of_query, refused = summary["lengths"], summary["judged_products"], _refused(manifest)
    characters = lengths["query"]["characters"]
    units = ((unit, lengths["query"][unit]) for unit in ("characters", "bytes", "words"))
    drawn, total = summary["sample"]["products"], summary["sample"]["of"]
    return write_page(
        folder / PAGE_FILE,
        "dataset.html",
        title="Summary of the data",
        manifest=manifest,
        length_columns=list(COLUMNS),
        cards=_cards(summary, manifest, sum(count for _, _, count, _ in refused)),
        by_locale=_shares(judged, "label", "locale"),
        by_split=_shares(judged, "label", "split"),
        splits=_splits(judged, summary["queries"]),
        of_query={"figures": _figures(of_query, "queries", "judged products"), "rows": _lengths([("", of_query)])},
        queries={"figures": _figures(characters, "queries", "characters"), "rows": _lengths(units)},
        products=_products(lengths),
        empty=_empty(summary["products"]),
        sample=f"all {total:,} products" if drawn == total else f"{drawn:,} of the {total:,} products, drawn evenly",
        tokens=_tokens(summary),
        frequent={kind: _frequent(summary, kind) for kind in ("brands", "colors")},
        made=_made(summary),
        steps=_steps(manifest["steps"]),
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


def _cards(summary: dict[str, Any], manifest: dict[str, Any], refused: int) -> list[tuple[str, str, list[str]]]:
    """Return the figures that say how much there is."""
    kept, made = manifest["examples"]["kept"], sum(manifest["examples"]["made"].values())
    queries, by_locale = sum(row["queries"] for row in summary["queries"]), summary["products"]["by_locale"]
    test = _pairs(row for row in summary["pairs"] if row["split"] == TEST)
    cards = [
        ("judged pairs", f"{kept:,}", [f"{test / max(1, kept):.1%} for testing"]),
        ("queries", f"{queries:,}", [f"{kept / max(1, queries):.1f} judged products each"]),
        ("products", f"{sum(by_locale.values()):,}", [f"{len(by_locale)} locales"]),
        ("refused rows", f"{refused:,}", []),
    ]
    return [*cards, ("made pairs", f"{made:,}", ["for training alone"])] if made else cards


def _shares(rows: Counts, down: str, across: str) -> list[Cells]:
    """Count pairs by two things, with a bar for the share of the column; the first row has the columns' names."""
    columns = {"all": rows, **{value: [row for row in rows if row[across] == value] for value in _values(rows, across)}}
    totals = [_pairs(column) for column in columns.values()]
    made: list[Cells] = [[down, *columns]]
    for value in _values(rows, down):
        cells: Cells = [class_name(value)]
        for column, total in zip(columns.values(), totals, strict=True):
            count = _pairs(row for row in column if row[down] == value)
            cells.append(bar(f"{count:,} ({count / max(1, total):.1%})", count / max(1, total)))
        made.append(cells)
    return [*made, ["all", *(f"{total:,}" for total in totals)]]


def _splits(judged: Counts, queries: Counts) -> list[Cells]:
    locales = in_order(row["locale"] for row in judged)
    rows: list[Cells] = [["split", "all", *locales]]
    for split in _values(judged, "split"):
        cells = []
        for wanted in (locales, *([locale] for locale in locales)):
            pairs, asked = (
                [row for row in counts if row["split"] == split and row["locale"] in wanted]
                for counts in (judged, queries)
            )
            cells.append(f"{_pairs(pairs):,} / {sum(row['queries'] for row in asked):,}")
        rows.append([split, *cells])
    return rows


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


def _lengths(named: Iterable[tuple[str, dict[str, Any]]]) -> list[Cells]:
    """List mean, median and tail of some lengths, each under a name (or none), for each locale."""
    return [
        [f"{name}, {locale}" if name else locale, *_cells(described["by_locale"][locale])]
        for name, described in named
        for locale in in_order(described["by_locale"])
    ]


def _cells(found: dict[str, Any]) -> list[str]:
    """Write the figures of one locale under `COLUMNS`."""
    others = (f"{found[name]:,}" for name in ("median", "p95", "longest"))
    return [f"{found['texts']:,}", f"{found['mean']:,.1f}", *others]


def _products(lengths: dict[str, Any]) -> dict[str, Any]:
    """Return how long products and their fields are, in characters and in words."""
    rows = []
    for part, units in lengths.items():
        if part == "query" or "words" not in units:
            continue
        words = units["words"]["by_locale"]
        for name, *cells in _lengths([(part, units["characters"])]):
            found = words.get(name.removeprefix(f"{part}, "))
            in_words = ["–", "–"] if found is None else [f"{found[key]:,}" for key in ("median", "p95")]
            rows.append([name, *cells, *in_words])
    return {"figures": _figures(lengths["product"]["characters"], "products", "characters"), "rows": rows}


def _empty(products: dict[str, Any]) -> list[Cells]:
    """Return the share of products without a field, by locale."""
    by_locale = products["by_locale"]
    locales = in_order(by_locale)
    rows: list[Cells] = [["field", "all", *locales]]
    for field, without in products["without"].items():
        shares = [sum(without.values()) / max(1, sum(by_locale.values()))]
        shares += [without.get(locale, 0) / by_locale[locale] for locale in locales]
        rows.append([field, *(bar(f"{share:.1%}", share) for share in shares)])
    return [*rows, ["products", f"{sum(by_locale.values()):,}", *(f"{by_locale[locale]:,}" for locale in locales)]]


def _tokens(summary: dict[str, Any]) -> dict[str, Any] | None:
    """Return how many tokens a pair has, and the share of pairs that are cut, by length and locale."""
    if summary["tokens"] is None:
        return None
    lengths, cut = summary["lengths"], summary["tokens"]["cut"]
    locales = in_order(row["locale"] for row in cut)
    rows: list[Cells] = [["max_length", "all", *locales]]
    for length in sorted({row["max_length"] for row in cut}):
        cells: Cells = [f"{length}"]
        for wanted in (locales, *([locale] for locale in locales)):
            chosen = [row for row in cut if row["max_length"] == length and row["locale"] in wanted]
            share = sum(row["cut"] for row in chosen) / max(1, _pairs(chosen))
            cells.append(bar(f"{share:.1%}", share))
        rows.append(cells)
    return {
        **summary["tokens"],
        "cut": rows,
        "figures": _figures(lengths["pair"]["tokens"], "pairs", "tokens"),
        "rows": _lengths((part, lengths[part]["tokens"]) for part in ("query", "product", "pair")),
    }


def _frequent(summary: dict[str, Any], kind: str) -> list[tuple[str, int, list[Cells]]]:
    """List the most frequent brands or colors of each locale, with how many there are."""
    found = []
    for locale in in_order(summary[kind]):
        top, products = summary[kind][locale]["top"], summary["products"]["by_locale"][locale]
        rows: list[Cells] = [
            [
                {"text": value, "lang": language(locale)},
                f"{count:,}",
                bar(f"{count / products:.2%}", count / top[0][1]),
            ]
            for value, count in top
        ]
        found.append((locale, summary[kind][locale]["values"], rows))
    return found


def _made(summary: dict[str, Any]) -> dict[str, Any] | None:
    """Return what steps made of judged training pairs, and what it weighs; none where they made nothing."""
    training = [row for row in summary["pairs"] if row["split"] == TRAIN]
    if {row["origin"] for row in training} <= {JUDGED}:
        return None
    total = sum(row["weight"] for row in training)
    origins: list[Cells] = []
    for origin in _values(training, "origin"):
        rows = [row for row in training if row["origin"] == origin]
        pairs, weight = _pairs(rows), sum(row["weight"] for row in rows)
        share = weight / total if total else 0.0
        locales = ", ".join(in_order(row["locale"] for row in rows))
        cells = [f"{pairs:,}", f"{weight / pairs:.3g}", f"{weight:,.1f}", bar(f"{share:.1%}", share), locales]
        origins.append([origin, *cells])
    return {"origins": origins, "labels": _shares(training, "label", "origin"), "products": summary["products"]["made"]}


def _steps(steps: Counts) -> list[Cells]:
    """Return what each step did to the pairs."""
    shown = ("read", "changed", "settled", "made", "dropped", "kept")
    names = [name for name in shown if any(name in step for step in steps)]
    counts = [{**step, "dropped": sum(step["dropped"].values())} for step in steps]
    return [["step", *names], *([step["step"], *(f"{step.get(name, 0):,}" for name in names)] for step in counts)]


def _values(rows: Counts, name: str) -> list[str]:
    """Return the values of a column in the order that people know; labels also where there is none."""
    found = {row[name] for row in rows}
    if name == "locale":
        return in_order(found)
    known = {"label": LABELS, "split": (TRAIN, TEST), "origin": (JUDGED,)}[name]
    return [*(value for value in known if value in found or name == "label"), *sorted(found - set(known))]


def _pairs(rows: Iterable[dict[str, Any]]) -> int:
    return sum(row["pairs"] for row in rows)
