"""Evaluates a run on a dataset folder: scores its pairs, measures, writes the figures."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zhichun.core import schema
from zhichun.core.arrays import Int64
from zhichun.core.console import Stages
from zhichun.core.errors import UserError, suggest
from zhichun.core.files import new_file, read_json, write_json
from zhichun.core.tasks import Prediction
from zhichun.data.dataset.dataset import Dataset
from zhichun.data.dataset.feature_store import open_pairs
from zhichun.data.readers.pair_tables import append_columns
from zhichun.measure.report import write_report
from zhichun.metrics.figures import measure
from zhichun.score.engines.engine import AUTO, counted
from zhichun.score.ensemble import ask_members, average
from zhichun.score.ensemble_weights import Judgements, beside_members
from zhichun.score.folders import EnsembleConfig, is_ensemble
from zhichun.score.scorer import Scorer


def evaluate(
    run: Path,
    data: Path,
    *,
    split: str = "test",
    version: str | None = None,
    out: Path | None = None,
    engine: str = AUTO,
    shown: bool = True,
) -> dict[str, Any]:
    """Evaluate a run on one split of a dataset folder.

    Parameters
    ----------
    run
        Run folder of a finished training, or a folder of `zhichun export` or `zhichun ensemble`.
    data
        Dataset folder.
    split
        ``test``, ``train``, or ``all``.
    version
        ``small``, ``large`` or ``all`` pairs of it; ``None`` is the small version for task 1 (a regressor, an ensemble
        with one, or a classifier whose checkpoint was chosen by nDCG) where the dataset has one, and all pairs for the
        others.
    out
        Where ``metrics.json`` and ``scored.parquet`` (every pair with its probabilities) go; the run folder, if not
        given, whose ``report.html`` is then rewritten.
    engine
        As in `Scorer.load`.
    shown
        Whether to show progress.

    Returns
    -------
    dict
        What `zhichun.metrics.figures.measure` gives, with split and version and the gains; of an ensemble
        also how it stands beside its members, under ``ensemble``.

    Raises
    ------
    UserError
        For a run that is not finished, a folder that is no dataset, or a split without pairs.
    """
    scorer = None if is_ensemble(run) else Scorer.load(run, engine=engine)
    dataset = Dataset.open(data)
    version, rows = dataset.of_version(_rows_of(dataset, split), version, ranking=_ranks(scorer, run))
    with Stages("pairs", shown=shown) as stages:
        prediction, engine, of_ensemble = _score(scorer, run, dataset, rows, engine, stages)
    if not np.isfinite(prediction.score).all():
        raise UserError("the model's scores are not finite numbers.", file=run, remedy="Train it again in fp32.")
    query_ids, locales = dataset.column(schema.QUERY_ID)[rows], dataset.column(schema.LOCALE)[rows]
    measured = {
        "split": split,
        "version": version,
        "task": prediction.task.name,
        "engine": engine,
        "gains": schema.GAINS,
        **measure(prediction, dataset.labels[rows], query_ids, locales),
        **of_ensemble,
    }
    folder = run if out is None else out
    write_json(folder / "metrics.json", measured)
    with new_file(folder / "scored.parquet") as partial:
        pq.write_table(append_columns(dataset.examples.take(pa.array(rows)), prediction), partial)
    if folder.samefile(run) and (run / "recipe.json").is_file():
        write_report(run)
    return measured


def _score(
    scorer: Scorer | None, run: Path, dataset: Dataset, rows: Int64, engine: str, stages: Stages
) -> tuple[Prediction, str, dict[str, Any]]:
    """Score pairs, by which engine; an ensemble is also held against its members, under ``ensemble``."""
    if scorer is not None:
        pairs = open_pairs(dataset, scorer.featurizer, scorer.max_length, stages)
        prediction = scorer.predict(pairs, rows, progress=counted(stages, "score", len(rows)))
        return prediction, scorer.engine_name, {}
    answers = ask_members(run, dataset, rows, engine, stages=stages)
    prediction = average([answer.prediction for answer in answers], [answer.entry.weight for answer in answers])
    judgements = Judgements(dataset.labels[rows], dataset.column(schema.QUERY_ID)[rows])
    engines = ", ".join(dict.fromkeys(answer.engine for answer in answers))
    return prediction, engines, {"ensemble": beside_members(answers, prediction, judgements)}


def _ranks(scorer: Scorer | None, run: Path) -> bool:
    """Return whether a model is for task 1; of an ensemble, whether a regressor is in it."""
    if scorer is None:
        return any(entry.task == "gain" for entry in EnsembleConfig.load(run).members)
    recipe = run / "recipe.json"
    chosen_by = read_json(recipe, {"train": dict})["train"].get("metric") if recipe.is_file() else None
    return chosen_by == "ndcg" or scorer.task.name == "gain"


def _rows_of(dataset: Dataset, split: str) -> Int64:
    splits = dataset.column(schema.SPLIT)
    known = sorted({*splits.tolist(), "all"})
    if split not in known:
        raise UserError(f"there is no split {split!r}.", file=dataset.folder, remedy=suggest(split, known))
    judged = dataset.column(schema.ORIGIN) == schema.JUDGED
    return np.flatnonzero(judged if split == "all" else judged & (splits == split))
