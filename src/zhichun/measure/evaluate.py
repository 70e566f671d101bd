"""Evaluate a run on a dataset folder: score its pairs, measure them, write the figures down."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zhichun.core import schema
from zhichun.core.console import Stages
from zhichun.core.errors import UserError, suggest
from zhichun.core.files import replacing, write_json
from zhichun.core.tasks import Prediction
from zhichun.data.dataset.dataset import Dataset
from zhichun.data.readers.pair_tables import append_columns
from zhichun.measure.report import write_report
from zhichun.metrics.figures import compare, measure
from zhichun.score.engines.engine import AUTO
from zhichun.score.ensemble.ensemble import Ensemble
from zhichun.score.ensemble.worth import Judgements, beside_members
from zhichun.score.load import load_scorer
from zhichun.score.pair_scorer import PairScorer
from zhichun.score.prior_correction import HeldOutPredictions, PriorCorrection
from zhichun.score.token_batches import Rows


def evaluate(
    run: Path,
    data: Path,
    *,
    split: str = "test",
    out: Path | None = None,
    prior_correction: float | None = None,
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
    out
        Where ``metrics.json`` and ``scored.parquet`` (every pair with its probabilities) go; the run folder, if not
        given, whose ``report.html`` is then written anew.
    prior_correction
        Correct the pairs whose entropy is above this share of the highest by the prior of the classes
        (`zhichun.score.prior_correction`); ``None`` corrects none.
    engine
        What computes the scores, as in `Scorer.load`.
    shown
        Whether to show progress.

    Returns
    -------
    dict
        What `zhichun.metrics.figures.measure` gives, with the split and the names of data and gains; with a prior
        correction also what it is and does, under ``prior_correction``; of an ensemble, how it stands beside its
        members, under ``ensemble``.

    Raises
    ------
    UserError
        For a run that is not finished, a folder that is no dataset, a split without pairs, or a correction that cannot
        be.
    """
    scorer = load_scorer(run, engine=engine)
    correction = None
    if prior_correction is not None:
        correction = scorer.with_prior_correction(run, prior_correction).correction
    dataset = Dataset.open(data)
    rows = _rows_of(dataset, split)
    plain, of_ensemble = _score(scorer, dataset, rows, shown)
    if not np.isfinite(plain.score).all():
        raise UserError("the model gives scores that are no numbers.", file=run, remedy="Train it again in fp32.")
    prediction = plain if correction is None else correction.correct(plain)
    query_ids, locales = dataset.column(schema.QUERY_ID)[rows], dataset.column(schema.LOCALE)[rows]
    measured = {
        "split": split,
        "task": scorer.task.name,
        "engine": scorer.engine_name,
        "gains": schema.GAINS,
        **measure(prediction, dataset.labels[rows], query_ids, locales),
        **of_ensemble,
    }
    if correction is not None:
        measured["prior_correction"] = {
            **correction.to_json(),
            split: compare(plain, prediction, dataset.labels[rows], query_ids),
            "held_out": _on_held_out(run, correction),
        }
    folder = run if out is None else out
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "metrics.json", measured)
    with replacing(folder / "scored.parquet") as partial:
        pq.write_table(append_columns(dataset.examples.take(pa.array(rows)), prediction), partial)
    if folder.samefile(run) and (run / "recipe.json").is_file():
        write_report(run)
    return measured


def _score(scorer: PairScorer, dataset: Dataset, rows: Rows, shown: bool) -> tuple[Prediction, dict[str, Any]]:
    """Score pairs; of an ensemble, also hold it against its members, under ``ensemble``."""
    stages = Stages("pairs", shown=shown)
    try:
        if not isinstance(scorer, Ensemble):
            return scorer.score_examples(dataset, rows, stages=stages), {}
        answers = scorer.ask_all(dataset, rows, stages=stages)
    finally:
        stages.stop()
    prediction = scorer.combine([answer.prediction for answer in answers])
    judgements = Judgements(dataset.labels[rows], dataset.column(schema.QUERY_ID)[rows])
    return prediction, {"ensemble": beside_members(scorer, answers, prediction, judgements)}


def _on_held_out(run: Path, correction: PriorCorrection) -> dict[str, Any] | None:
    """Measure what a correction does to the held-out pairs, each half of their queries corrected by the other."""
    held_out = HeldOutPredictions.of_run(run, correction.task)
    corrected_HC = held_out.corrected(correction.threshold)
    if corrected_HC is None:
        return None
    before, after = map(correction.task.of_probabilities, (held_out.probabilities_HC, corrected_HC))
    return compare(before, after, held_out.labels_H, held_out.query_ids)


def _rows_of(dataset: Dataset, split: str) -> Rows:
    splits = dataset.column(schema.SPLIT)
    known = sorted({*splits.tolist(), "all"})
    if split not in known:
        raise UserError(f"there is no split {split!r}.", file=dataset.folder, remedy=suggest(split, known))
    judged = dataset.column(schema.ORIGIN) == schema.JUDGED
    return np.flatnonzero(judged if split == "all" else judged & (splits == split))
