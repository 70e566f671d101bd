"""The table as one JSON value: all that Markdown and HTML show of it, and all that repeats it."""

import datetime
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from zhichun.ablate.ablation import Row
from zhichun.ablate.outcome import Outcome, difference, estimate
from zhichun.ablate.plan import Plan
from zhichun.ablate.row_settings import effective
from zhichun.core.files import read_json

FORMAT: Final = 1
MACHINE: Final = ("platform", "processor", "cores", "threads", "gpu", "python", "libraries")


def make_result(plan: Plan, dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Compare the runs that are finished.

    Parameters
    ----------
    plan
        The table and its runs.
    dataset
        What `Plan.check` gave.

    Returns
    -------
    dict
        JSON values; ``partial`` says whether runs are missing.
    """
    finished = {
        row.name: [outcome for run in plan.of_row(row) if (outcome := run.outcome) is not None]
        for row in plan.ablation.rows
    }
    done, runs = sum(map(len, finished.values())), plan.runs
    return {
        "format": FORMAT,
        "name": plan.ablation.name,
        "caption": plan.ablation.caption,
        "compared_with": plan.ablation.compared_with,
        "metrics": list(plan.ablation.metrics),
        "partial": done < len(runs),
        "runs": {"done": done, "planned": len(runs)},
        "seeds": sorted({run.seed for run in runs}),
        "rows": [_row(plan, row, finished) for row in plan.ablation.rows],
        "floor": {outcome.task: outcome.floor for outcomes in finished.values() for outcome in outcomes[:1]},
        "dataset": dict(dataset),
        "recipe": runs[0].recipe.to_json(),
        "settings": list(plan.settings),
        "pretraining_settings": list(plan.pretraining_settings),
        "overruled": [{"setting": setting, "rows": rows} for setting, rows in plan.overruled],
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": _machine(plan),
    }


def baseline_of(plan: Plan, row: Row) -> Row | None:
    """Find the row that a row is compared with: the first of its task, or the nearest of its task above."""
    task_of = {row.name: plan.run(row, 0).recipe.task for row in plan.ablation.rows}
    rows = plan.ablation.rows
    above = [other for other in rows[: rows.index(row)] if task_of[other.name] == task_of[row.name]]
    return None if not above else above[0] if plan.ablation.compared_with == "first" else above[-1]


def _row(plan: Plan, row: Row, finished: Mapping[str, Sequence[Outcome]]) -> dict[str, Any]:
    outcomes, baseline = finished[row.name], baseline_of(plan, row)
    compared = [] if baseline is None else finished[baseline.name]
    planned = plan.of_row(row)
    figures: dict[str, Any] = {}
    for metric in plan.ablation.metrics:
        figure: dict[str, Any] = {}
        if outcomes and metric in outcomes[0].figures:
            figure = _figure(outcomes, compared, metric)
        if metric in row.paper:
            figure["paper"] = row.paper[metric]
        if (published := _paper_difference(row, baseline, metric)) is not None:
            figure["paper_difference"] = published
        if figure:
            figures[metric] = figure
    return {
        "name": row.name,
        "folder": row.folder,
        "task": planned[0].recipe.task,
        "settings": effective(row.settings),
        "pretraining": None if row.pretraining is None else effective(row.pretraining),
        "dropping": None if row.dropping is None else asdict(row.dropping),
        "compared_with": None if baseline is None else baseline.name,
        "runs": {"done": len(outcomes), "planned": len(planned)},
        "seconds": _mean([outcome.seconds for outcome in outcomes]),
        "seconds_before": _mean([outcome.seconds_before for outcome in outcomes]),
        "figures": figures,
    }


def _figure(outcomes: Sequence[Outcome], compared: Sequence[Outcome], metric: str) -> dict[str, Any]:
    values = [outcome.figures[metric] for outcome in outcomes]
    figure = {
        "by_seed": {str(outcome.seed): value for outcome, value in zip(outcomes, values, strict=True)},
        "seed_deviation": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "ours": asdict(estimate(outcomes, metric)),
    }
    seeds = {outcome.seed for outcome in outcomes} & {outcome.seed for outcome in compared}
    if seeds and all(metric in outcome.figures for outcome in compared):
        figure["difference"] = {**asdict(difference(outcomes, compared, metric)), "seeds": sorted(seeds)}
    return figure


def _paper_difference(row: Row, baseline: Row | None, metric: str) -> float | None:
    """Give the paper's difference, as it is reported or from the two rows' figures."""
    if metric in row.paper_difference:
        return row.paper_difference[metric]
    if baseline is None or metric not in row.paper or metric not in baseline.paper:
        return None
    return round(row.paper[metric] - baseline.paper[metric], 6)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _machine(plan: Plan) -> dict[str, Any]:
    """Say what the last finished run was trained on."""
    for run in reversed(plan.runs):
        if run.is_finished:
            environment = read_json(run.folder / "environment.json")
            return {name: environment[name] for name in MACHINE}
    return {}
