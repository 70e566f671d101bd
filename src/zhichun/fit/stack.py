"""Make a stack: out-of-fold predictions of runs, the second stage trained on them, and the folds' models under it.

The features of a training pair come from the model that left out its fold. What a stack is measured by on training
queries, the ablation, is nested: when fold ``k`` is predicted, all features, of the training pairs too, come from
models that left out ``k`` and the pair's own fold (`zhichun train --folds K --nested`).

Legend: ``P`` pairs, ``M`` probabilities of all runs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import lightgbm
import numpy as np

from zhichun.core import schema
from zhichun.core.console import Stages
from zhichun.core.errors import UserError
from zhichun.core.files import new_folder, read_json
from zhichun.core.tasks import TASKS, Prediction
from zhichun.data.dataset.dataset import Dataset
from zhichun.data.dataset.predictions import (
    Doubles,
    OutOfFold,
    fold_count,
    fold_path,
    nested_path,
    read_nested,
    read_out_of_fold,
)
from zhichun.fit.folds import refuse_leaks
from zhichun.fit.second_stage import JudgedCandidates, StackSettings, fit_second_stage
from zhichun.measure.report.stack_page import write_stack_page
from zhichun.score.ensemble_weights import Judgements, difference, figures
from zhichun.score.folders import MemberEntry, fingerprint, is_stack, model_folder
from zhichun.score.list_features import Candidates, Corpus
from zhichun.score.make_ensemble import relative
from zhichun.score.stacked import SecondStage, save_stack, texts_of

FEWEST_QUERIES: Final = 10
Nested = Mapping[tuple[int, int], Doubles]


def stack(
    runs: Sequence[Path],
    data: Path,
    out: Path,
    *,
    own: Sequence[str] = (),
    settings: StackSettings | None = None,
    overwrite: bool = False,
    shown: bool = True,
) -> dict[str, Any]:
    """Train a second stage over the runs of all folds, and make a folder that scores like a run.

    Parameters
    ----------
    runs
        Folders of the runs of all folds (``zhichun train --folds K``), of the task `esci`.
    data
        The dataset that they were trained on.
    out
        Stack folder to make.
    own
        Numeric columns of the catalogue that are features too.
    settings
        Of the trees.
    overwrite
        Replace a stack that is there.
    shown
        Whether to show progress.

    Returns
    -------
    dict
        What was trained and measured: importance of the features and, of nested runs, figures and ablation.

    Raises
    ------
    UserError
        For runs that are not finished, of another dataset, or saw what they predict; and for a folder that is there.
    """
    dataset, settings = Dataset.open(data), settings or StackSettings()
    stages = Stages("pairs", shown=shown)
    with new_folder(out, overwrite=overwrite, replaceable=is_stack) as folder:
        judged, corpus = read_judged(dataset, runs, own, stages)
        stage = fit_second_stage(corpus, judged, settings, own=own)
        learnt, lists = judged.weights_P > 0, judged.candidates.list_P
        made: dict[str, Any] = {
            "runs": list(map(str, runs)),
            "settings": asdict(settings),
            "pairs": int(learnt.sum()),
            "queries": len(np.unique(lists[learnt])),
            "features": judged.candidates.groups(len(runs)),
            "importance": {"classes": _importance(stage.classes), "ranking": _importance(stage.ranking)},
            **_ablation(judged, _nested(dataset, runs), stage, settings, stages),
        }
        stages.stop()
        save_stack(stage, _members(runs, fold_count(dataset), out), fold_count(dataset), made, folder)
        write_stack_page(folder / "report.html", f"Report of {out.resolve().name}", made)
    return made


def read_judged(
    dataset: Dataset, runs: Sequence[Path], own: Sequence[str], stages: Stages
) -> tuple[JudgedCandidates, Corpus]:
    """Read the judged training pairs with their out-of-fold predictions, and the catalogue's terms."""
    found = [_checked(dataset, run) for run in runs]
    rows_P = found[0].rows_P
    queries, products, locales = texts_of(dataset, rows_P, own)
    corpus = Corpus.of(_documents(dataset, stages))
    candidates = Candidates.read(corpus, queries, products, locales, own)
    probabilities_PM = np.concatenate([predicted.probabilities_PC for predicted in found], axis=1)
    columns = (dataset.column(name)[rows_P] for name in (schema.FOLD, schema.WEIGHT))
    judged = JudgedCandidates(candidates, probabilities_PM, dataset.labels[rows_P], *columns)
    learnt = judged.weights_P > 0
    if len(np.unique(candidates.list_P[learnt])) < FEWEST_QUERIES or len(np.unique(judged.labels_P[learnt])) < 2:
        raise UserError(
            f"there are fewer than {FEWEST_QUERIES} training queries, or all pairs have one label.",
            file=dataset.folder,
            remedy="Prepare more judgements.",
        )
    return judged, corpus


def _checked(dataset: Dataset, run: Path) -> OutOfFold:
    """Read what a recipe's runs say of the folds that they left out, and refuse those that know them."""
    found = read_out_of_fold(dataset, run)
    for fold in range(fold_count(dataset)):
        refuse_leaks(read_json(fold_path(run, fold) / "recipe.json"), fold_path(run, fold))
    return found


def _documents(dataset: Dataset, stages: Stages) -> Iterator[list[str]]:
    """Read the texts of the catalogue; products that a step made for training are in no shop."""
    done, total = 0, dataset.product_count
    for batch in dataset.product_batches(schema.ORIGIN):
        columns = (batch.column(name).to_pylist() for name in schema.TEXT_COLUMNS)
        origins = batch.column(schema.ORIGIN).to_pylist()
        texts = zip(origins, *columns, strict=True)
        yield ["\n".join(filter(None, row)) for origin, *row in texts if origin == schema.CATALOGUE]
        done += batch.num_rows
        stages("terms of the catalogue", done, total)


def _nested(dataset: Dataset, runs: Sequence[Path]) -> Nested:
    """Read the runs that left out two folds, where every recipe has them."""
    found = [read_nested(dataset, run) for run in runs]
    if not all(found):
        return {}
    for run in runs:
        for folds in found[0]:
            refuse_leaks(read_json(nested_path(run, *folds) / "recipe.json"), nested_path(run, *folds))
    return {folds: np.concatenate([each[folds] for each in found], axis=1) for folds in found[0]}


def _ablation(
    judged: JudgedCandidates, nested: Nested, whole: SecondStage, settings: StackSettings, stages: Stages
) -> dict[str, Any]:
    """Measure the stack, the mean of its models, and the stack without each group of features, all nested."""
    if not nested:
        return {}
    groups = judged.candidates.groups(judged.probabilities_PM.shape[1] // len(schema.LABELS))
    folds, made = np.unique(judged.folds_P).tolist(), dict[str, Prediction]()
    alone_PC = np.zeros((len(judged.labels_P), len(schema.LABELS)))
    for number, left_out in enumerate(((), *((group,) for group in groups))):
        probabilities_PC, score_P = np.zeros_like(alone_PC, np.float32), np.zeros(len(alone_PC), np.float32)
        for fold in folds:
            others = [other for other in folds if other != fold]
            given = [nested[min(fold, other), max(fold, other)] for other in others]
            learnt, own = np.flatnonzero(judged.folds_P != fold), np.flatnonzero(judged.folds_P == fold)
            of_own_PM = np.empty_like(judged.probabilities_PM)
            for other, given_PM in zip(others, given, strict=True):
                of_own_PM[judged.folds_P == other] = given_PM[judged.folds_P == other]
            scale = whole.slope, whole.offset
            learner = judged.select(learnt, of_own_PM)
            stage = fit_second_stage(whole.corpus, learner, settings, own=whole.own, left_out=left_out, scale=scale)
            predicted = stage.predict(judged.candidates.select(own), [given_PM[own] for given_PM in given])
            assert predicted.probabilities is not None
            probabilities_PC[own], score_P[own] = predicted.probabilities, predicted.score
            alone_PC[own] = np.mean(given, axis=0)[own].reshape(len(own), -1, len(schema.LABELS)).mean(axis=1)
        made["".join(left_out)] = Prediction(TASKS["esci"], probabilities_PC, score_P)
        stages("ablation", number + 1, len(groups) + 1)
    judgements = Judgements(judged.labels_P, judged.candidates.list_P)
    stacked, alone = made.pop(""), TASKS["esci"].of_probabilities(alone_PC)
    return {
        "figures": {"stack": figures(stacked, judgements), "models": figures(alone, judgements)},
        "against_models": difference(stacked, alone, judgements),
        "ablation": {group: difference(without, stacked, judgements) for group, without in made.items()},
    }


def _importance(model: str) -> dict[str, float]:
    """Return each feature's share of what all splits gained."""
    booster = lightgbm.Booster(model_str=model)
    gained_F = booster.feature_importance("gain")
    shares_F = gained_F / max(float(gained_F.sum()), np.finfo(np.float64).tiny)
    return dict(zip(booster.feature_name(), shares_F.tolist(), strict=True))


def _members(runs: Sequence[Path], folds: int, out: Path) -> list[MemberEntry]:
    """List the folds' models, fold by fold."""
    places = [fold_path(run, fold) for fold in range(folds) for run in runs]
    models = [(place, model_folder(place)) for place in places]
    return [
        MemberEntry(
            name=str(place),
            path=relative(model, out),
            task="esci",
            weight=1 / len(places),
            fingerprint=fingerprint(model),
        )
        for place, model in models
    ]
