"""Writes the README's results anew from the JSON files in ``benchmarks/results``, so that no figure is typed by hand.

    python benchmarks/render_results.py

A benchmark whose layout is known here gets a table; any other file is named, so that none is overlooked.
"""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import rendered_models
import rendered_speed
from rendered_parts import source

from zhichun.core.errors import UserError
from zhichun.core.files import read_json, write_text

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- results -->", "<!-- /results -->"
NONE_YET = "No result is recorded yet."


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


def _named(name: str, result: Mapping[str, Any]) -> str:
    return f"**{result.get('what', name)}.** " + source(name, result)


LAYOUTS: dict[str, Callable[[str, Mapping[str, Any]], str]] = {
    "audit_shop": rendered_models.audit_shop,
    "ensemble_shop": rendered_models.ensemble_shop,
    "prepare_scale": rendered_speed.prepare_scale,
    "pretrain_step": rendered_models.pretrain_step,
    "quality_esci": rendered_models.quality_esci,
    "quality_esci_whole_recipe": rendered_models.quality_esci,
    "scaling": rendered_speed.scaling,
    "score_cpu": rendered_speed.score_cpu,
    "serve_faults": rendered_speed.serve_faults,
    "serve_latency": rendered_speed.serve_latency,
    "step_cost": rendered_models.step_cost,
    "student": rendered_models.student,
    "tiny_start": partial(
        rendered_models.two_sides, title="The tiny encoder's start", sides=("matching", "random"), what="start"
    ),
    "soft_labels": partial(rendered_models.two_sides, title="Self-distillation", sides=("soft", "hard"), what="labels"),
    "train_cpu": rendered_models.train_cpu,
}


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
