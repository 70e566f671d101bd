"""Make a stack: out-of-fold predictions of runs, the second stage trained on them, and the folds' models under it.

The features of a training pair come from the model that left out its fold. What a stack is measured by on training
queries, the ablation, is nested: when fold ``k`` is predicted, all features, of the training pairs too, come from
models that left out ``k`` and the pair's own fold (`zhichun train --folds K --nested`).

Legend: ``P`` pairs, ``M`` probabilities of all runs.

Its report says what the trees read, and what each group of features is worth.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import lightgbm
import numpy as np

from zhichun.core import schema
from zhichun.core.arrays import Doubles
from zhichun.core.console import Stages, say_aside
from zhichun.core.errors import UserError
from zhichun.core.files import new_folder, read_json
from zhichun.core.tasks import CALIBRATION_FILE, TASKS, Prediction
from zhichun.data.dataset import Dataset
from zhichun.data.predictions import OutOfFold, fold_count, fold_path, nested_path, read_nested, read_out_of_fold
from zhichun.fit.run_folder import refuse_leaks
from zhichun.fit.second_stage import VECTORS, JudgedCandidates, StackSettings, fit_second_stage
from zhichun.measure.evaluate import rows_of
from zhichun.measure.page import write_page
from zhichun.score.ensemble_weights import Judgements, difference, figures
from zhichun.score.folders import go_together, is_stack
from zhichun.score.list_features import SIMILARITY_FEATURES, Candidates, Corpus, number_of
from zhichun.score.make_ensemble import Candidate
from zhichun.score.similarity import Similarity
from zhichun.score.stacked import LINEAR_SHARE, SecondStage, save_stack
from zhichun.text.pairs import PairTexts

MOST_FEATURES: Final = 20


def write_stack_page(path: Path, title: str, made: dict[str, Any]) -> Path:
    """Write ``report.html`` of a stack, from what `zhichun.fit.stack.stack` gives."""
    importance = made["importance"]
    features = sorted(importance["classes"], key=lambda name: -sum(of[name] for of in importance.values()))
    groups = {
        group: {model: sum(of[name] for name in names) for model, of in importance.items()}
        for group, names in made["features"].items()
    }
    shown = {name: {model: of[name] for model, of in importance.items()} for name in features[:MOST_FEATURES]}
    return write_page(path, "stack.html", title=title, made=made, groups=groups, features=shown)


FEWEST_QUERIES: Final = 10
# Of models beside the trees; screened on Chorus (experiments/LOG.md, 2026-11-27).
SHARE: Final = 0.3
# What LightGBM takes: rows of a list, and characters of a feature's name, which it writes with "_" for a space.
LONGEST_LIST: Final = 10_000
NOT_IN_A_NAME: Final = frozenset('",:[]{}\t\n\r')
Nested = Mapping[tuple[int, int], Doubles]


def stack(
    runs: Sequence[Path],
    data: Path,
    out: Path,
    *,
    own: Sequence[str] = (),
    similarity: str | None = None,
    beside: Sequence[Path] = (),
    share: float = SHARE,
    settings: StackSettings | None = None,
    overwrite: bool = False,
    shown: bool = True,
) -> dict[str, Any]:
    """Train a second stage over the runs of all folds, and make a folder that scores like a run.

    Parameters
    ----------
    runs
        Folders of the runs of all folds (``zhichun train --folds K``), of the task `esci`; none where the trees read
        texts and the similarity alone.
    data
        The dataset that they were trained on.
    out
        Stack folder to make.
    own
        Numeric columns of the catalogue that are features too.
    similarity
        Name or folder of a sentence encoder: its cosines of query and product are features too, and a linear model
        reads its vectors.
    beside, share
        Runs, exports or folders of the runs of all folds that the trees do not read: scores and probabilities are the
        mean of theirs, with this share, and the trees'.
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
        For runs that are not finished, of another dataset, or saw what they predict; for columns that are no feature
        or have the name of another; and for a folder that is there.
    """
    if not runs and similarity is None:
        remedy = "Give runs, or --similarity ENCODER."
        raise UserError("there is neither a run nor a similarity to read.", remedy=remedy)
    if len(set(map(Path.resolve, runs))) < len(runs):
        raise UserError("the same runs are named twice.", remedy="Name each folder once.")
    encoder = None if similarity is None else Similarity.load(similarity)
    _check_own(own, len(runs))
    if not 0 < share < 1:
        raise UserError(f"a share of {share:g} is not between 0 and 1.", remedy=f"Give --share {SHARE:g}.")
    others = [Candidate.open(place) for place in beside]
    for one in others:
        if not go_together({"esci", one.task.name}):
            problem = f"predicts the task {one.task.name!r}, which has no mean with four classes."
            raise UserError(problem, file=one.place, remedy="Name a run of the task esci or gain.")
    dataset, settings = Dataset.open(data), settings or StackSettings()
    stages = Stages("pairs", shown=shown)
    with new_folder(out, overwrite=overwrite, replaceable=is_stack) as folder:
        judged, corpus = read_judged(dataset, runs, own, stages, encoder)
        stage = fit_second_stage(corpus, judged, settings, own=own, similarity=encoder)
        learnt, lists = judged.weights_P > 0, judged.candidates.list_P
        groups = judged.candidates.groups(len(runs))
        names = [name for group in groups.values() for name in group]
        made: dict[str, Any] = {
            "runs": list(map(str, runs)),
            "similarity": similarity,
            "linear": 0.0 if stage.linear is None else LINEAR_SHARE,
            "beside": list(map(str, beside)),
            "share": share if beside else 0.0,
            "settings": asdict(settings),
            "pairs": int(learnt.sum()),
            "queries": len(np.unique(lists[learnt])),
            "features": groups,
            "importance": {"classes": _importance(stage.classes, names), "ranking": _importance(stage.ranking, names)},
            **_ablation(judged, _nested(dataset, runs), stage, settings, stages),
        }
        stages.stop()
        folds = fold_count(dataset) if runs else 1
        of_folds = [Candidate.open(fold_path(run, fold)) for fold in range(folds) for run in runs]
        read, known = (
            [entry for one in models for entry in one.entries(part / len(models), out)]
            for models, part in ((of_folds, 1 - made["share"]), (others, made["share"]))
        )
        if known:
            stage = replace(stage, beside=len(known), share=share)
        save_stack(stage, [*read, *known], folds, made, folder)
        write_stack_page(folder / "report.html", f"Report of {out.resolve().name}", made)
    return made


def read_judged(
    dataset: Dataset, runs: Sequence[Path], own: Sequence[str], stages: Stages, similarity: Similarity | None = None
) -> tuple[JudgedCandidates, Corpus]:
    """Read the judged training pairs with their out-of-fold predictions, if any, and the catalogue's terms."""
    found = [_checked(dataset, run) for run in runs]
    rows_P = found[0].rows_P if found else rows_of(dataset, schema.TRAIN)
    texts = dataset.texts(rows_P, *own)
    for name in own:
        given = [value for value in texts.products[name] if value]
        odd = [value for value in given if np.isnan(number_of(value))]
        if odd and len(odd) == len(given):
            remedy = "Write it as numbers, such as 12.99, and prepare again."
            raise UserError(
                f"the column {name!r} has texts alone, such as {odd[0]!r}.", file=dataset.folder, remedy=remedy
            )
        if odd:
            shown = (
                f"{len(odd):,} of {len(given):,} judged pairs have no number in {name!r}, but texts such as {odd[0]!r}"
            )
            say_aside(f"{shown}: it counts as missing.")
    corpus = Corpus.of(_documents(dataset, stages))
    candidates = Candidates.read(corpus, texts, own, similarity)
    none_P0 = np.zeros((len(rows_P), 0))
    probabilities_PM = np.concatenate([none_P0, *(predicted.probabilities_PC for predicted in found)], axis=1)
    columns = (dataset.column(name)[rows_P] for name in (schema.FOLD, schema.WEIGHT))
    judged = JudgedCandidates(candidates, probabilities_PM, dataset.labels[rows_P], *columns)
    learnt = judged.weights_P > 0
    if len(np.unique(candidates.list_P[learnt])) < FEWEST_QUERIES or len(np.unique(judged.labels_P[learnt])) < 2:
        problem = f"there are fewer than {FEWEST_QUERIES} training queries, or all pairs have one label."
        raise UserError(problem, file=dataset.folder, remedy="Prepare more judgements.")
    sizes_L = np.bincount(candidates.list_P[learnt])
    if sizes_L.max() > LONGEST_LIST:
        query = texts.queries[int(np.flatnonzero(candidates.list_P == sizes_L.argmax())[0])]
        problem = f"the query {query!r} has {sizes_L.max():,} judged pairs; trees rank {LONGEST_LIST:,} at most."
        raise UserError(problem, file=dataset.folder, remedy="Prepare fewer judgements of it.")
    return judged, corpus


def _check_own(own: Sequence[str], models: int) -> None:
    """Refuse columns that tell products apart instead of describing them, and names that LightGBM does not take."""
    groups = Candidates.read(Corpus.of([]), PairTexts([], {}, []), own).groups(models)  # of no pair: the names alone
    groups |= {group: list(names) for group, names in SIMILARITY_FEATURES.items()}  # read or not
    names = [name.replace(" ", "_") for group in groups.values() for name in group]
    for name in own:
        if name in (*schema.PRODUCT_COLUMNS, schema.ORIGIN):
            problem = f"the column {name!r} of the catalogue is no number that describes a product."
        elif NOT_IN_A_NAME & set(name):
            problem = f"the name {name!r} has one of the characters {' '.join(sorted(NOT_IN_A_NAME)).split()}."
        elif any(names.count(made.replace(" ", "_")) > 1 for made in (name, f"{name}_share")):
            problem = f"there are two features named {name!r} or {name + '_share'!r}."
        else:
            continue
        raise UserError(problem, remedy="Give other columns, or rename it in the catalogue and prepare it with --keep.")


def _checked(dataset: Dataset, run: Path) -> OutOfFold:
    """Read what a recipe's runs say of the folds that they left out, and refuse those that know them."""
    found = read_out_of_fold(dataset, run)
    for place in (fold_path(run, fold) for fold in range(fold_count(dataset))):
        refuse_leaks(read_json(place / "recipe.json"), place)
        if (calibration := place / "model" / CALIBRATION_FILE).is_file():
            remedy = f"Delete {calibration}: the trees need no calibration."
            raise UserError("its probabilities are calibrated on the fold that it predicts.", file=place, remedy=remedy)
    return found


def _documents(dataset: Dataset, stages: Stages) -> Iterator[list[str]]:
    """Read the texts of the catalogue; products that a step made for training are in no shop."""
    done, total = 0, dataset.product_count
    for batch in dataset.product_batches(schema.ORIGIN):
        columns = (batch.column(name).to_pylist() for name in schema.TEXT_COLUMNS)
        texts = zip(batch.column(schema.ORIGIN).to_pylist(), *columns, strict=True)
        yield ["\n".join(filter(None, row)) for origin, *row in texts if origin == schema.CATALOGUE]
        done += batch.num_rows
        stages("terms of the catalogue", done, total)


def _nested(dataset: Dataset, runs: Sequence[Path]) -> Nested:
    """Read the runs that left out two folds, where every recipe has them."""
    found = [read_nested(dataset, run) for run in runs]
    if not found or not all(found):
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
    made, known = {}, dict[int, SecondStage]()
    parts = (None, *groups, *([] if whole.linear is None else [VECTORS]))
    for number, left_out in enumerate(parts):
        made[left_out] = _predicted(judged, nested, whole, settings, [left_out] if left_out else [], known)
        stages("ablation", number + 1, len(parts))
    said_PM = np.nanmean(list(nested.values()), axis=0)  # each run says NaN of what it was trained on
    alone = TASKS["esci"].of_probabilities(said_PM.reshape(len(said_PM), -1, len(schema.LABELS)).mean(axis=1))
    judgements, stacked = Judgements(judged.labels_P, judged.candidates.list_P), made.pop(None)
    return {
        "figures": {"stack": figures(stacked, judgements), "models": figures(alone, judgements)},
        "against_models": difference(stacked, alone, judgements),
        "ablation": {group: difference(without, stacked, judgements) for group, without in made.items()},
    }


def _predicted(
    judged: JudgedCandidates,
    nested: Nested,
    whole: SecondStage,
    settings: StackSettings,
    left_out: Sequence[str],
    known: dict[int, SecondStage],
) -> Prediction:
    """Predict every fold by a second stage of the others, from models that left out both.

    The first call keeps that of each fold in ``known``, for what does not depend on the features left out.
    """
    folds_P = judged.folds_P
    probabilities_PC = np.zeros((len(folds_P), len(schema.LABELS)), np.float32)
    score_P = np.zeros(len(folds_P), np.float32)
    for fold in np.unique(folds_P).tolist():
        given = {other: nested[min(fold, other), max(fold, other)] for other in set(folds_P.tolist()) - {fold}}
        learnt, own = np.flatnonzero(folds_P != fold), np.flatnonzero(folds_P == fold)
        said_PM = np.zeros_like(judged.probabilities_PM)
        for other, given_PM in given.items():
            said_PM[folds_P == other] = given_PM[folds_P == other]
        learner = judged.select(learnt, said_PM)
        like = known.get(fold)
        stage = fit_second_stage(whole.corpus, learner, settings, own=whole.own, left_out=left_out, like=like)
        known.setdefault(fold, stage)
        predicted = stage.predict(judged.candidates.select(own), [given[other][own] for other in sorted(given)])
        assert predicted.probabilities is not None
        probabilities_PC[own], score_P[own] = predicted.probabilities, predicted.score
    return Prediction(TASKS["esci"], probabilities_PC, score_P)


def _importance(model: str, names: Sequence[str]) -> dict[str, float]:
    """Return each feature's share of what all splits gained."""
    gained_F = lightgbm.Booster(model_str=model).feature_importance("gain")
    shares_F = gained_F / max(float(gained_F.sum()), np.finfo(np.float64).tiny)
    return dict(zip(names, shares_F.tolist(), strict=True))
