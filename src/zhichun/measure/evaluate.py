"""Evaluates a run on a dataset folder: scores its pairs, measures, writes the figures."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from zhichun.core import schema
from zhichun.core.arrays import Bools, Int64, write_parquet
from zhichun.core.console import Stages
from zhichun.core.errors import UserError, suggest
from zhichun.core.files import read_json, write_json
from zhichun.core.tasks import Prediction, Task
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import open_pairs
from zhichun.data.predictions import held_out_by, require_trained_on
from zhichun.data.readers.pair_tables import append_columns, write_qrels, write_run
from zhichun.data.readers.ratings import RatedPairs
from zhichun.measure.run_page import write_report
from zhichun.metrics import Judged
from zhichun.metrics.agreement import HUMAN_METRICS, human_level, majority
from zhichun.metrics.ceiling import ceiling
from zhichun.metrics.figures import by_list_size, measure
from zhichun.metrics.metric import measurable
from zhichun.metrics.significance import intervals, to_json
from zhichun.score.engine import AUTO, counted
from zhichun.score.ensemble import ask_members, average
from zhichun.score.ensemble_weights import Judgements, beside_members
from zhichun.score.folders import EnsembleConfig, has_members, is_ensemble, is_stack
from zhichun.score.scorer import Scorer
from zhichun.score.stacked import TREES, StackConfig, load_stage
from zhichun.text.fold import fold_query

if TYPE_CHECKING:
    from zhichun.score.index.scorer import IndexScorer


def evaluate(
    run: Path,
    data: Path,
    *,
    split: str = "test",
    version: str | None = None,
    out: Path | None = None,
    engine: str = AUTO,
    ratings: RatedPairs | None = None,
    products: Path | None = None,
    trec: bool = False,
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
    ratings
        What several people said of the same pairs (`zhichun.data.readers.ratings.read_ratings`): adds how they and the
        model do on the pairs that they rated, and the best that any model can.
    products
        An index of `zhichun index`, which states of products are taken from.
    trec
        Whether to write a run file and qrels too, ``scored.run`` and ``judged.qrels``.
    shown
        Whether to show progress.

    Returns
    -------
    dict
        What `zhichun.metrics.figures.measure` gives, with split and version and the gains; of an ensemble
        also how it stands beside its members, under ``ensemble``; with ratings the figures beside them, under
        ``raters``; of training pairs under ``trained_on`` how many the run was trained on, ``None`` if not known.

    Raises
    ------
    UserError
        For a run that is not finished, a folder that is no dataset, or a split without pairs.
    """
    scorer = _loaded(run, engine, products)
    dataset = Dataset.open(data)
    version, rows = dataset.of_version(rows_of(dataset, split), version, ranking=_ranks(scorer, run))
    with Stages("pairs", shown=shown) as stages:
        prediction, engine, of_ensemble = score_rows(scorer, run, dataset, rows, engine, stages, products)
    if not np.isfinite(prediction.score).all():
        raise UserError("the model's scores are not finite numbers.", file=run, remedy="Train it again in fp32.")
    query_ids, locales = dataset.column(schema.QUERY_ID)[rows], dataset.column(schema.LOCALE)[rows]
    reads_lists = is_stack(run) or (scorer is not None and scorer.reads_lists)
    measured = {
        "split": split,
        "version": version,
        "task": prediction.task.name,
        "engine": engine,
        "gains": schema.GAINS,
        **measure(prediction, dataset.labels[rows], query_ids, locales, by_list=reads_lists),
        **_size_alone(prediction.task, dataset, rows, version),
        **of_ensemble,
    }
    if (dataset.column(schema.SPLIT)[rows] == schema.TRAIN).any():
        trained_E = trained_pairs(run, dataset)
        measured["trained_on"] = None if trained_E is None else int(trained_E[rows].sum())
    if ratings is not None:
        measured["raters"] = beside_raters(prediction, dataset, rows, ratings)
    folder = run if out is None else out
    write_json(folder / "metrics.json", measured)
    write_parquet(folder / "scored.parquet", append_columns(dataset.examples.take(pa.array(rows)), prediction))
    if trec:
        ids = query_ids, dataset.column(schema.PRODUCT_ID)[rows]
        write_run(folder / "scored.run", *ids, prediction.score)
        write_qrels(folder / "judged.qrels", *ids, dataset.labels[rows])
    if folder.samefile(run) and (run / "recipe.json").is_file():
        write_report(run)
    return measured


def _loaded(run: Path, engine: str, products: Path | None) -> "Scorer | IndexScorer | None":
    """Load what scores pairs; ``None`` for an ensemble or a stack, whose members do one after the other."""
    if products is not None and not is_stack(run):
        from zhichun.score.index.scorer import IndexScorer  # which needs torch

        return IndexScorer.load(run, products, engine=engine)
    return None if has_members(run) else Scorer.load(run, engine=engine)


def _size_alone(task: Task, dataset: Dataset, rows: Int64, version: str) -> dict[str, Any]:
    """Measure what list sizes alone tell, learnt from training queries of the version; not where those are measured."""
    judged = (dataset.column(schema.SPLIT) == schema.TRAIN) & (dataset.column(schema.ORIGIN) == schema.JUDGED)
    of_version = {"small": schema.SMALL, "large": schema.LARGE}.get(version)
    known = np.flatnonzero(judged if of_version is None else judged & (dataset.column(of_version) == 1))
    if not len(known) or np.isin(known, rows).any():
        return {}
    learnt = dataset.labels[known], dataset.column(schema.QUERY_ID)[known]
    return {"list_size_alone": by_list_size(task, learnt, dataset.labels[rows], dataset.column(schema.QUERY_ID)[rows])}


def score_rows(
    scorer: "Scorer | IndexScorer | None",
    run: Path,
    dataset: Dataset,
    rows: Int64,
    engine: str,
    stages: Stages,
    index: Path | None = None,
) -> tuple[Prediction, str, dict[str, Any]]:
    """Score pairs, by which engine; an ensemble or stack is also compared with its members, under ``ensemble``.

    ``index`` is of a stack; one of a split model is in its scorer.
    """
    if scorer is not None:
        progress = counted(stages, "score", len(rows))
        if not isinstance(scorer, Scorer):
            return scorer.predict_judged(dataset, rows, progress=progress), scorer.engine_name, {}
        pairs = open_pairs(dataset, scorer.featurizer, scorer.max_length, stages)
        return scorer.predict(pairs, rows, progress=progress), scorer.engine_name, {}
    config: EnsembleConfig | StackConfig = StackConfig.load(run) if is_stack(run) else EnsembleConfig.load(run)
    members = list(zip(config.members, config.locate(run), strict=True))
    answers = ask_members(members, dataset, rows, engine, stages=stages)
    predictions = [answer.prediction for answer in answers]
    if isinstance(config, StackConfig):
        prediction = load_stage(run, config, index).of_dataset(dataset, rows, predictions, config.folds)
    else:
        prediction = average(predictions, [entry.weight for entry in config.members])
    judgements = Judgements(dataset.labels[rows], dataset.column(schema.QUERY_ID)[rows])
    if not answers:
        return prediction, TREES, {}
    engines = ", ".join(dict.fromkeys(answer.engine for answer in answers))
    return prediction, engines, {"ensemble": beside_members(answers, prediction, judgements)}


def beside_raters(prediction: Prediction, dataset: Dataset, rows: Int64, rated: RatedPairs) -> dict[str, Any]:
    """Measure a model on pairs that two rated against the raters' majority, beside the raters and the ceiling."""
    texts = [dataset.column(name)[rows] for name in (schema.QUERY, schema.LOCALE, schema.PRODUCT_ID)]
    places, rated = rated.shared().among([(fold_query(query), *of) for query, *of in zip(*texts, strict=True)])
    if not len(places) or prediction.task.name == "substitute":
        what = (
            "no pair that is evaluated was rated by two" if not len(places) else "the model does not rank by relevance"
        )
        remedy = "Check --split, and that both name queries, products and locales alike; or leave --ratings out."
        raise UserError(f"{what}, so there is nothing to hold beside the raters.", file=dataset.folder, remedy=remedy)
    probabilities = prediction.probabilities
    judged = Judged(
        rated.ratings.query_P,
        majority(rated.ratings.counts_PK),
        scores=prediction.score[places].astype(np.float64),
        predictions=None if probabilities is None else probabilities[places].argmax(axis=1),
    )
    metrics = [each for each in HUMAN_METRICS if each.reads == "scores" or probabilities is not None]
    levels = zip(rated.raters, human_level(rated.ratings), strict=True)
    return {
        "pairs": len(places),
        "queries": len(judged.queries),
        "model": to_json(intervals(measurable(metrics, judged), judged)),
        "raters": {name: to_json(of_rater) for name, of_rater in levels},
        "ceiling": to_json(ceiling(rated.ratings)),
    }


def _ranks(scorer: "Scorer | IndexScorer | None", run: Path) -> bool:
    """Return whether a model is for task 1; of an ensemble, whether a regressor is in it."""
    if scorer is None:
        return is_ensemble(run) and any(entry.task == "gain" for entry in EnsembleConfig.load(run).members)
    recipe = run / "recipe.json"
    chosen_by = read_json(recipe, {"train": dict})["train"].get("metric") if recipe.is_file() else None
    return chosen_by == "ndcg" or scorer.task.name == "gain"


def trained_pairs(place: Path, dataset: Dataset) -> Bools | None:
    """Return which pairs of a dataset a run was trained on, or what lies in its folder; ``None`` if not known."""
    in_training_E: Bools = dataset.column(schema.SPLIT) == schema.TRAIN
    if has_members(place):
        kind: type[EnsembleConfig | StackConfig] = StackConfig if is_stack(place) else EnsembleConfig
        members = kind.load(place).locate(place)
        known = [seen_E for path in members if (seen_E := trained_pairs(path, dataset)) is not None]
        if known and is_stack(place):  # whose trees learn from all folds
            return in_training_E
        return np.logical_or.reduce(known) if known else None
    run = next((folder for folder in (place, place.parent) if (folder / "recipe.json").is_file()), None)
    try:
        if run is None:
            return None
        require_trained_on(run, dataset.folder)
    except UserError:  # of another dataset, or nothing says of which
        return None
    return in_training_E & ~dataset.held_out(held_out_by(run))


def rows_of(dataset: Dataset, split: str) -> Int64:
    """Find the judged pairs of a split, or of all; of further judgements, those that were let into test."""
    splits = dataset.column(schema.SPLIT)
    known = sorted({*splits.tolist(), "all"})
    if split not in known:
        raise UserError(f"there is no split {split!r}.", file=dataset.folder, remedy=suggest(split, known))
    origins = dataset.column(schema.ORIGIN)
    judged = (origins == schema.JUDGED) | ((origins == schema.ADDED) & (splits == schema.TEST))
    return np.flatnonzero(judged if split == "all" else judged & (splits == split))
