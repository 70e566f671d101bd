"""Runs a table and writes it down, anew after each run."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zhichun.ablate.ablation import Ablation
from zhichun.ablate.clock import Clock
from zhichun.ablate.markdown import markdown
from zhichun.ablate.plan import Plan
from zhichun.ablate.result import make_result
from zhichun.ablate.run import Run
from zhichun.core.errors import UserError
from zhichun.core.files import write_json, write_text
from zhichun.fit.recipe import PretrainingRecipe, Recipe
from zhichun.measure.report.ablation_page import ablation_page


def ablate(
    ablation: Ablation,
    data: Path,
    out: Path,
    *,
    recipe: Recipe,
    pretraining: PretrainingRecipe | None = None,
    settings: Sequence[str] = (),
    pretraining_settings: Sequence[str] = (),
    seeds: int = 3,
    only: Sequence[str] = (),
    keep_models: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Run the rows of a table, each with several seeds, and compare them.

    A run that is there already is not run again; one that was killed goes on where it was.

    Parameters
    ----------
    ablation
        The table.
    data
        Dataset folder of `zhichun prepare`; rows are compared on its test split.
    out
        Folder for ``table.md``, ``table.html``, ``table.json`` and the run folders, ``ROW/seed-K``.
    recipe
        What the rows change.
    pretraining
        What the pre-training of rows changes; its encoder and what that reads are those of the row.
    settings, pretraining_settings
        ``KEY=VALUE`` for the training, and the pre-training, of all rows; what a row sets itself stays.
    seeds
        Runs of each row.
    only
        Names of the rows to run; all, if empty. The table shows the others as far as they are there.
    keep_models
        Keep the weights of each run.
    say
        Takes a line before each run.

    Returns
    -------
    dict
        The value of ``table.json``.

    Raises
    ------
    UserError
        Before anything is run, for a setting, a dataset or a run that does not fit.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("a table is run by one process.", remedy="Start it without accelerate launch.")
    # Runs remember the path of what they start from.
    plan = Plan(
        ablation=ablation,
        base=recipe,
        pretraining=pretraining,
        data=data,
        out=out.resolve(),
        settings=tuple(settings),
        pretraining_settings=tuple(pretraining_settings),
        seeds=seeds,
    )
    chosen = {ablation.row(name).name for name in only} or {row.name for row in ablation.rows}
    dataset = plan.check()
    out.mkdir(parents=True, exist_ok=True)
    for setting, rows in plan.overruled:
        say(f"--set {setting} does not hold for {', '.join(rows)}: set there already")
    waiting = [run for run in plan.runs if run.row.name in chosen and not run.is_finished]
    clock = Clock(waiting)
    for run in waiting:
        say(clock.line(run))
        began = time.monotonic()
        run.finish(say, keep_models=keep_models)
        clock.took(run, time.monotonic() - began)
        if not keep_models:
            drop_stages(run, plan.runs)
        write_table(out, make_result(plan, dataset))
    result = make_result(plan, dataset)
    write_table(out, result)
    return result


def drop_stages(run: Run, runs: Sequence[Run]) -> None:
    """Drop what a finished run needed, unless another that is not finished needs it too."""
    needed = {stage.folder for other in runs if not other.is_finished for stage in other.stages}
    for stage in run.stages:
        if stage.folder not in needed:
            stage.drop()


def write_table(out: Path, result: dict[str, Any]) -> None:
    """Write ``table.json``, ``table.md`` and ``table.html``."""
    write_json(out / "table.json", result)
    write_text(out / "table.md", markdown(result))
    write_text(out / "table.html", ablation_page(result))
