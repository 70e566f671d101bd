"""The summary page of a dataset folder, made of ``manifest.json`` and ``summary.json`` alone."""

import json
from pathlib import Path
from typing import Any

from zhichun.core.errors import UserError
from zhichun.core.files import read_json, write_text
from zhichun.data.prepare.summary import FORMAT, SUMMARY_FILE
from zhichun.measure.report.html import Html, cards, folded, page, section, table, tag
from zhichun.measure.report.summary_pairs import made_section, pairs_section, refused_rows, steps_section
from zhichun.measure.report.summary_texts import products_section, queries_section, tokens_section, values_section

PAGE_FILE = "summary.html"


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
    if not (folder / SUMMARY_FILE).is_file():
        raise UserError(f"there is no {SUMMARY_FILE}.", file=folder, remedy="Make it with: zhichun summary DIR")
    summary, manifest = read_json(folder / SUMMARY_FILE), read_json(folder / "manifest.json")
    if summary.get("format") != FORMAT:
        raise UserError(
            "is of another version.", file=folder / SUMMARY_FILE, remedy="Make it again with: zhichun summary DIR"
        )
    sections = [
        _overview(summary, manifest),
        pairs_section(summary, manifest),
        queries_section(summary),
        products_section(summary),
        tokens_section(summary),
        values_section(summary),
        made_section(summary),
        steps_section(manifest),
        _origin(manifest),
    ]
    out = folder / PAGE_FILE
    write_text(out, page("Summary of the data", *(part for part in sections if part is not None)))
    return out


def _overview(summary: dict[str, Any], manifest: dict[str, Any]) -> Html:
    """Show the figures that say how much there is."""
    examples, queries = manifest["examples"], summary["queries"]
    count = sum(row["queries"] for row in queries)
    test = sum(row["pairs"] for row in summary["pairs"] if row["split"] == "test")
    products = sum(summary["products"]["by_locale"].values())
    refused = sum(rows for _, _, rows, _ in refused_rows(manifest))
    made = sum(examples["made"].values())
    entries: list[tuple[str, str, list[str]]] = [
        ("judged pairs", f"{examples['kept']:,}", [f"{test / examples['kept']:.1%} for testing"]),
        ("queries", f"{count:,}", [f"{examples['kept'] / count:.1f} judged products each"]),
        ("products", f"{products:,}", [f"{len(summary['products']['by_locale'])} locales"]),
        ("refused rows", f"{refused:,}", []),
    ]
    if made:
        entries.append(("made pairs", f"{made:,}", ["for training alone"]))
    names = ", ".join(source["file"] for source in manifest["sources"])
    return tag("section", tag("p", f"What zhichun prepare made of {names}."), cards(entries))


def _origin(manifest: dict[str, Any]) -> Html:
    """List the sources with their hashes, the options, and what made the dataset."""
    sources = [[source["part"], source["file"], source["sha256"]] for source in manifest["sources"]]
    options = [[name, json.dumps(value, ensure_ascii=False)] for name, value in manifest["options"].items()]
    vocabulary = [[name, f"{count:,}"] for name, count in manifest.get("vocabulary", {}).items()]
    parts = [
        table("Sources", ["part", "file", "SHA-256"], sources, numbers=False),
        table("Entries of the vocabularies", ["vocabulary", "entries"], vocabulary),
        folded("Options", table("Options", ["option", "value"], options, numbers=False)),
        tag("p", f"Made by zhichun {manifest['zhichun']}."),
    ]
    return section("Where it comes from", *parts)
