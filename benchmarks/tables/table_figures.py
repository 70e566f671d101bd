"""What the runs of a table come to: figures over the seeds with paired bootstrap intervals, as one JSON value.

The runs of a row differ in their seed alone, so the value of each pair (micro-F1) or query (ranking) is averaged over
the seeds first; then whole queries are drawn with replacement, for two rows the same ones. Metrics without a value for
each query have a mean, a deviation over the seeds and no interval.
"""

import datetime
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from paper_tables import Row
from table_runs import OUTCOME_FILE, Plan, Run, manifest_hash

from zhichun.core import schema
from zhichun.core.files import read_json
from zhichun.core.tasks import TASKS
from zhichun.data.dataset import Dataset
from zhichun.measure.run_page import Scored
from zhichun.metrics import Judged, MicroF1, paired_bootstrap
from zhichun.metrics.figures import reported

FORMAT = 1
PER_QUERY = {metric.name: metric.per_query for metric in reported("scores")}
PAIRED = ("micro_f1", *PER_QUERY)
MACHINE = ("platform", "processor", "cores", "threads", "gpu", "python", "libraries")


@dataclass(frozen=True)
class Outcome:
    """A finished run: its folder, and what it wrote into ``outcome.json``."""

    folder: Path
    seed: int
    task: str
    figures: dict[str, float]
    floor: dict[str, float]
    seconds: float | None
    seconds_before: float | None

    @classmethod
    def of(cls, run: Run) -> "Outcome":
        """Read what a run came to."""
        return cls(run.folder, **read_json(run.folder / OUTCOME_FILE))

    @cached_property
    def judged(self) -> Judged:
        """The test pairs in the order of their ids, with scores and predicted classes."""
        scored = Scored.read(self.folder / "scored.parquet", TASKS[self.task])
        assert scored is not None
        order = np.argsort(scored.pairs.column(schema.EXAMPLE_ID).to_numpy(), kind="stable")
        query_ids = scored.pairs.column(schema.QUERY_ID).to_numpy()[order]
        if scored.probabilities is None:
            return Judged(query_ids, scored.labels[order], scores=scored.score[order])
        return Judged(
            query_ids,
            scored.truth.astype(np.intp)[order],
            scores=scored.score[order],
            predictions=scored.probabilities.argmax(axis=1)[order],
            classes=scored.task.classes,
        )

    def values(self, metric: str) -> npt.NDArray[np.float64]:
        """Give the value of each pair (micro-F1) or query (ranking), whose mean is the metric."""
        return MicroF1().per_pair(self.judged) if metric == "micro_f1" else PER_QUERY[metric](self.judged)[1]


def estimate(outcomes: Sequence[Outcome], metric: str, others: Sequence[Outcome] = ()) -> dict[str, Any]:
    """Measure a row, or its difference to another row of the same seeds: mean, 95 % interval and p."""
    if metric not in PAIRED:
        means = [np.mean([outcome.figures[metric] for outcome in side]) for side in (outcomes, others) if side]
        mean = float(means[0] - (means[1] if others else 0))
        return {"mean": mean, "low": None, "high": None, "p": None, "over": "seeds"}
    ours = np.mean([outcome.values(metric) for outcome in outcomes], axis=0)
    theirs = np.mean([outcome.values(metric) for outcome in others], axis=0) if others else np.zeros_like(ours)
    query_ids = outcomes[0].judged.query_ids if metric == "micro_f1" else None
    found = paired_bootstrap(ours, theirs, query_ids=query_ids)
    p = found.p if others else None
    return {"mean": found.mean, "low": found.low, "high": found.high, "p": p, "over": "queries"}


def make_result(plan: Plan) -> dict[str, Any]:
    """Compare the runs that are finished; ``partial`` says whether runs are missing."""
    rows, runs = plan.table.rows, plan.runs
    done = {row.name: [Outcome.of(run) for run in runs if run.row is row and run.is_finished] for row in rows}
    count = sum(map(len, done.values()))
    return {
        "format": FORMAT,
        "name": plan.table.name,
        "caption": plan.table.caption,
        "compared_with": plan.table.compared_with,
        "metrics": list(plan.table.metrics),
        "partial": count < len(runs),
        "runs": {"done": count, "planned": len(runs)},
        "seeds": list(range(plan.seeds)),
        "rows": [_row(plan, row, done) for row in rows],
        "floor": {outcome.task: outcome.floor for outcomes in done.values() for outcome in outcomes[:1]},
        "dataset": _dataset(plan.data),
        "recipe": runs[0].recipe.to_json(),
        "settings": list(plan.settings),
        "pretraining_settings": list(plan.pretraining_settings),
        "overruled": [{"setting": setting, "rows": names} for setting, names in plan.overruled],
        "command": shlex.join(["python", "benchmarks/tables", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": _machine([run for run in runs if run.is_finished]),
    }


def baseline_of(plan: Plan, row: Row) -> Row | None:
    """Find the row that a row is compared with: the first of its task, or the nearest of its task above."""
    task = plan.run(row, 0).recipe.task
    above = [other for other in plan.table.rows[: plan.table.rows.index(row)] if plan.run(other, 0).recipe.task == task]
    return None if not above else above[0 if plan.table.compared_with == "first" else -1]


def _row(plan: Plan, row: Row, done: Mapping[str, Sequence[Outcome]]) -> dict[str, Any]:
    outcomes, baseline = done[row.name], baseline_of(plan, row)
    figures = {metric: _figure(row, metric, baseline, done) for metric in plan.table.metrics}
    return {
        "name": row.name,
        "folder": row.folder,
        "task": plan.run(row, 0).recipe.task,
        "settings": _last_of_each_key(row.settings),
        "pretraining": None if row.pretraining is None else _last_of_each_key(row.pretraining),
        "dropping": None if row.dropping is None else {"share": row.dropping},
        "compared_with": None if baseline is None else baseline.name,
        "runs": {"done": len(outcomes), "planned": plan.seeds},
        "seconds": _mean([outcome.seconds for outcome in outcomes]),
        "seconds_before": _mean([outcome.seconds_before for outcome in outcomes]),
        "figures": {metric: figure for metric, figure in figures.items() if figure},
    }


def _figure(row: Row, metric: str, baseline: Row | None, done: Mapping[str, Sequence[Outcome]]) -> dict[str, Any]:
    figure: dict[str, Any] = {}
    outcomes = [outcome for outcome in done[row.name] if metric in outcome.figures]
    compared = [outcome for outcome in done[baseline.name] if metric in outcome.figures] if baseline else []
    if outcomes:
        values = [outcome.figures[metric] for outcome in outcomes]
        figure["by_seed"] = {str(outcome.seed): outcome.figures[metric] for outcome in outcomes}
        figure["seed_deviation"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
        figure["ours"] = estimate(outcomes, metric)
    seeds = sorted({outcome.seed for outcome in outcomes} & {outcome.seed for outcome in compared})
    if seeds:
        sides = ([outcome for outcome in side if outcome.seed in seeds] for side in (outcomes, compared))
        ours, theirs = sides
        figure["difference"] = {**estimate(ours, metric, theirs), "seeds": seeds}
    if metric in row.paper:
        figure["paper"] = row.paper[metric]
    if metric in row.paper_difference:
        figure["paper_difference"] = row.paper_difference[metric]
    elif baseline is not None and metric in row.paper and metric in baseline.paper:
        figure["paper_difference"] = round(row.paper[metric] - baseline.paper[metric], 6)
    return figure


def _dataset(data: Path) -> dict[str, Any]:
    dataset = Dataset.open(data)
    tested = (dataset.column(schema.SPLIT) == schema.TEST) & (dataset.column(schema.ORIGIN) == schema.JUDGED)
    queries = len(np.unique(dataset.column(schema.QUERY_ID)[tested]))
    pairs = int(tested.sum())
    return {"folder": str(data), "manifest": manifest_hash(data), "test_pairs": pairs, "test_queries": queries}


def _machine(finished: Sequence[Run]) -> dict[str, Any]:
    """Name what the last finished run was trained on."""
    if not finished:
        return {}
    environment = read_json(finished[-1].folder / "environment.json")
    return {name: environment[name] for name in MACHINE}


def _last_of_each_key(settings: Sequence[str]) -> list[str]:
    return list({setting.partition("=")[0]: setting for setting in settings}.values())


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
