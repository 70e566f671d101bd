"""Evaluate a run on a dataset folder: score its pairs, measure them, write the figures down."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zhichun import schema
from zhichun.console import Bar, Stages
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import open_pairs
from zhichun.errors import UserError, suggest
from zhichun.figures import measure
from zhichun.files import replacing, write_json
from zhichun.report import write_report
from zhichun.scoring.batches import Rows
from zhichun.scoring.pair_tables import append_columns
from zhichun.scoring.predict import predict
from zhichun.scoring.scorer import Scorer


def evaluate(
    run: Path, data: Path, *, split: str = "test", out: Path | None = None, shown: bool = True
) -> dict[str, Any]:
    """Evaluate a run on one split of a dataset folder.

    Parameters
    ----------
    run
        Run folder of a finished training.
    data
        Dataset folder.
    split
        ``test``, ``train``, or ``all``.
    out
        Where ``metrics.json`` and ``scored.parquet`` (every pair with its probabilities) go; the run folder, if not
        given, whose ``report.html`` is then written anew.
    shown
        Whether to show progress.

    Returns
    -------
    dict
        What `zhichun.figures.measure` gives, with the split and the names of data and gains.

    Raises
    ------
    UserError
        For a run that is not finished, a folder that is no dataset, or a split without pairs.
    """
    scorer = Scorer.load(run)
    dataset = Dataset.open(data)
    rows = _rows_of(dataset, split)
    stages = Stages(shown=shown)
    pairs = open_pairs(dataset, scorer.trained.featurizer, scorer.trained.settings.max_length, stages)
    stages.stop()
    with Bar("evaluate", "pairs", shown=shown) as bar:
        bar.start(0, len(rows))
        logits_PC = predict(scorer.trained.model, pairs, rows, progress=lambda done: bar.advance(done, steps=done))
    if not np.isfinite(logits_PC).all():
        raise UserError("the model gives scores that are no numbers.", file=run, remedy="Train it again in fp32.")
    prediction = scorer.task.predict(logits_PC)
    query_ids, locales = dataset.column(schema.QUERY_ID)[rows], dataset.column(schema.LOCALE)[rows]
    measured = {
        "split": split,
        "task": scorer.task.name,
        "gains": schema.GAINS,
        **measure(prediction, dataset.labels[rows], query_ids, locales),
    }
    folder = run if out is None else out
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "metrics.json", measured)
    with replacing(folder / "scored.parquet") as partial:
        pq.write_table(append_columns(dataset.examples.take(pa.array(rows)), prediction), partial)
    if folder.samefile(run) and (run / "recipe.json").is_file():
        write_report(run)
    return measured


def _rows_of(dataset: Dataset, split: str) -> Rows:
    splits = dataset.column(schema.SPLIT)
    known = sorted({*splits.tolist(), "all"})
    if split not in known:
        raise UserError(f"there is no split {split!r}.", file=dataset.folder, remedy=suggest(split, known))
    judged = dataset.column(schema.ORIGIN) == schema.JUDGED
    return np.flatnonzero(judged if split == "all" else judged & (splits == split))
