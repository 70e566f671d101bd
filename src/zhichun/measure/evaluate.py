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
from zhichun.score.ensemble.ensemble import Ensemble, ask_members
from zhichun.score.ensemble.gain import Judgements, beside_members
from zhichun.score.scorer import PairScorer, Scorer, load_scorer


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
    scorer = load_scorer(run, engine=engine)
    dataset = Dataset.open(data)
    version, rows = dataset.of_version(_rows_of(dataset, split), version, ranking=_ranks(scorer, run))
    prediction, of_ensemble = _score(scorer, dataset, rows, shown)
    if not np.isfinite(prediction.score).all():
        raise UserError("the model's scores are not finite numbers.", file=run, remedy="Train it again in fp32.")
    query_ids, locales = dataset.column(schema.QUERY_ID)[rows], dataset.column(schema.LOCALE)[rows]
    measured = {
        "split": split,
        "version": version,
        "task": scorer.task.name,
        "engine": scorer.engine_name,
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


def _score(scorer: Scorer | Ensemble, dataset: Dataset, rows: Int64, shown: bool) -> tuple[Prediction, dict[str, Any]]:
    """Score pairs; of an ensemble, also hold it against its members, under ``ensemble``."""
    stages = Stages("pairs", shown=shown)
    try:
        if isinstance(scorer, Scorer):
            pairs = open_pairs(dataset, scorer.featurizer, scorer.max_length, stages)
            return scorer.predict(pairs, rows, progress=counted(stages, "score", len(rows))), {}
        answers = ask_members(scorer, dataset, rows, stages=stages)
    finally:
        stages.stop()
    prediction = scorer.combine([answer.prediction for answer in answers])
    judgements = Judgements(dataset.labels[rows], dataset.column(schema.QUERY_ID)[rows])
    return prediction, {"ensemble": beside_members(scorer, answers, prediction, judgements)}


def _ranks(scorer: PairScorer, run: Path) -> bool:
    """Return whether a model is for task 1; of an ensemble, whether a regressor is in it."""
    recipe = run / "recipe.json"
    chosen_by = read_json(recipe, {"train": dict})["train"].get("metric") if recipe.is_file() else None
    tasks = [member.task for member in scorer.members] if isinstance(scorer, Ensemble) else [scorer.task]
    return chosen_by == "ndcg" or any(task.name == "gain" for task in tasks)


def _rows_of(dataset: Dataset, split: str) -> Int64:
    splits = dataset.column(schema.SPLIT)
    known = sorted({*splits.tolist(), "all"})
    if split not in known:
        raise UserError(f"there is no split {split!r}.", file=dataset.folder, remedy=suggest(split, known))
    judged = dataset.column(schema.ORIGIN) == schema.JUDGED
    return np.flatnonzero(judged if split == "all" else judged & (splits == split))
