"""Writes ``docs/results.md`` anew from the JSON files in ``benchmarks/results``, so that no figure is typed by hand.

    python benchmarks/render_results.py

A benchmark whose layout is known here gets a table; any other file is named, so that none is overlooked.
"""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import rendered_catalogue
import rendered_headline
import rendered_lists
import rendered_models
import rendered_speed
from rendered_parts import source, table

from zhichun.core.errors import UserError
from zhichun.core.files import read_json, write_text

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- results -->", "<!-- /results -->"
NONE_YET = "No result is recorded yet."


def main() -> None:
    """Rewrite the page, and what it shows as a picture."""
    page = ROOT / "docs" / "results.md"
    results = ROOT / "benchmarks" / "results"
    write_text(page, insert(page.read_text("utf-8"), f"{headline(results)}\n\n{render(results)}"))
    if (front := results / "catalogue_front.json").is_file():
        write_text(page.parent / "images" / "catalogue_front.svg", rendered_catalogue.front_image(read_json(front)))


def insert(page: str, results: str) -> str:
    """Put results between the markers of a page.

    Raises
    ------
    UserError
        When the page does not have both markers once.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise UserError(f"the page must have {BEGIN} and then {END}, once each.", file="docs/results.md")
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{results}\n{END}{rest.partition(END)[2]}"


def render(folder: Path) -> str:
    """Write all results of a folder as Markdown: the headline, those with a layout in its order, then the others.

    Parameters
    ----------
    folder
        Where the JSON files are; it need not exist.

    Raises
    ------
    UserError
        For a file that is damaged or lacks a figure.
    """
    parts, files = [], {path.stem: path for path in sorted(folder.glob("*.json"))}
    for path in [files.pop(stem) for stem in LAYOUTS if stem in files] + list(files.values()):
        parts.append(_written(LAYOUTS.get(path.stem, _named), path, path.stem))
    return "\n\n".join(parts) or NONE_YET


def headline(folder: Path) -> str:
    """Write the comparisons with sentence-transformers as one table, as far as it was measured."""
    rows = [
        _written(row, path)
        for stem, row in rendered_headline.ROWS.items()
        if (path := folder / f"{stem}.json").is_file()
    ]
    return table(["beside sentence-transformers", "measured", "data and machine"], rows)


def _written(write: Callable[..., Any], path: Path, *name: str) -> Any:
    try:
        return write(*name, read_json(path))
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"lacks a figure ({error!r}).", file=path, remedy="Run its benchmark again.") from error


def _named(name: str, result: Mapping[str, Any]) -> str:
    return f"**{result.get('what', name)}.** " + source(name, result)


# In this order: what is set beside others first.
LAYOUTS: dict[str, Callable[[str, Mapping[str, Any]], str]] = {
    "quality_lists_chorus": rendered_lists.quality_lists,
    "quality_lists_chorus_e5_small": rendered_lists.quality_lists,
    "quality_lists_esci": rendered_lists.quality_lists,
    "rater_shares": rendered_lists.rater_shares,
    "quality_esci": rendered_models.quality_esci,
    "quality_esci_whole_recipe": rendered_models.quality_esci,
    "score_cpu": rendered_speed.score_cpu,
    "train_cpu": rendered_models.train_cpu,
    "serve_latency": rendered_speed.serve_latency,
    "score_catalogue": rendered_catalogue.score_catalogue,
    "catalogue_front": rendered_catalogue.catalogue_front,
    "index_quality": rendered_catalogue.index_quality,
    "serve_catalogue": rendered_catalogue.serve_catalogue,
    "index_updates": rendered_catalogue.index_updates,
    "serve_faults": rendered_speed.serve_faults,
    "gpu": rendered_speed.gpu,
    "kills": rendered_speed.kills,
    "scaling": rendered_speed.scaling,
    "shards_since": rendered_speed.since,
    "ray_faults": rendered_speed.on_ray,
    "prepare_scale": rendered_speed.prepare_scale,
    "pretrain_step": rendered_models.pretrain_step,
    "step_cost": rendered_models.step_cost,
    "lists_cost": rendered_models.lists_cost,
    "audit_shop": rendered_models.audit_shop,
    "ensemble_shop": rendered_models.ensemble_shop,
    "student": rendered_models.student,
    "soft_labels": partial(rendered_models.two_sides, title="Self-distillation", sides=("soft", "hard"), what="labels"),
    "tiny_start": partial(
        rendered_models.two_sides, title="The tiny encoder's start", sides=("matching", "random"), what="start"
    ),
}


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
