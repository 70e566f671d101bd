"""Several models that score as one: by the mean of their predictions.

Equation   probabilities ``p = Σ_k w_k p_k / Σ_k w_k`` over the classifiers ``k``; score ``s = Σ_m w_m s_m / Σ_m w_m``
           over all members ``m``, where a classifier's ``s_m`` is its expected gain and a regressor's its gain
Reference  the paper, 4.1: for task 1 it adds the mean expected gain of three classifiers and the mean of three
           regressors, which is twice this score; half of it is a gain again, and ranks alike

Legend: ``P`` pairs, ``C`` classes, ``M`` members.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from zhichun.core.arrays import Int64
from zhichun.core.tasks import TASKS, Prediction, Task
from zhichun.data.dataset.dataset import Dataset
from zhichun.data.dataset.feature_store import open_pairs
from zhichun.score.engines.engine import AUTO, Progress, Stage, counted
from zhichun.score.ensemble.ensemble_folder import EnsembleConfig
from zhichun.score.export.export_folder import ExportConfig, is_export
from zhichun.score.given import Columns
from zhichun.score.scorer import Scorer, ScoresProducts
from zhichun.text.pairs import Pairs
from zhichun.text.tokenizer import PairTokenizer


@dataclass(frozen=True)
class Member:
    """One model of an ensemble, which is loaded when it is first needed.

    Parameters
    ----------
    name
        For people.
    folder
        Its model or export folder.
    task
        What it predicts.
    weight
        Its share.
    device, engine
        As for `Scorer.load`.
    remembers
        Whether it reads a product once and remembers it.
    """

    name: str
    folder: Path
    task: Task
    weight: float
    device: str | None = None
    engine: str = AUTO
    remembers: bool = False

    def load(self) -> Scorer:
        """Load it anew; it is gone with the last that holds it."""
        scorer = Scorer.load(self.folder, self.device, self.engine)
        return scorer.remembering() if self.remembers else scorer

    @cached_property
    def scorer(self) -> Scorer:
        """The model, loaded when first needed and kept."""
        return self.load()

    @property
    def engine_name(self) -> str:
        """Name of its engine; known without loading it, except for an export whose engines are measured."""
        if self.engine != AUTO:
            return self.engine
        if is_export(self.folder):
            from zhichun.score.export.exported import choose

            return choose(ExportConfig.load(self.folder), self.folder)
        from zhichun.score.engines.torch_engine import chosen_by_auto

        return chosen_by_auto(self.device)


@dataclass(frozen=True)
class Ensemble(ScoresProducts):
    """Scores pairs by the members' mean; has what a `Scorer` has.

    Parameters
    ----------
    members
        In the order in which they predict.
    """

    members: tuple[Member, ...]

    @classmethod
    def load(cls, folder: Path, device: str | None = None, engine: str = AUTO) -> Self:
        """Open an ensemble folder; a model is loaded when it is first needed.

        Parameters
        ----------
        folder
            Of `zhichun ensemble`.
        device, engine
            Of every member, as for `Scorer.load`.

        Raises
        ------
        UserError
            When it is damaged, or a member is missing or has changed.
        """
        config = EnsembleConfig.load(folder)
        places = zip(config.members, config.locate(folder), strict=True)
        return cls(
            tuple(Member(entry.name, path, TASKS[entry.task], entry.weight, device, engine) for entry, path in places)
        )

    @property
    def task(self) -> Task:
        """That of the classifiers, where there are any; the gain otherwise."""
        return next((member.task for member in self.members if member.task.classes), self.members[0].task)

    @property
    def engine_name(self) -> str:
        """Names of the members' engines."""
        return ", ".join(dict.fromkeys(member.engine_name for member in self.members))

    @property
    def max_length(self) -> int:
        """Of the member that reads most."""
        return max(member.scorer.max_length for member in self.members)

    @property
    def lookahead(self) -> int:
        """Of the member that gains most by it."""
        return max(member.scorer.lookahead for member in self.members)

    @property
    def tokenizer(self) -> PairTokenizer:
        """That of the first member."""
        return self.members[0].scorer.tokenizer

    def remembering(self) -> Self:
        """Return an ensemble each of whose members reads a product once."""
        return replace(self, members=tuple(replace(member, remembers=True) for member in self.members))

    def read(self, queries: Sequence[str], products: Columns, locales: Sequence[str]) -> tuple[Pairs, ...]:
        """Read the texts of P pairs for each member, once for all that read alike; see `Scorer.read`."""
        read: dict[tuple[str, int], Pairs] = {}
        keys = [(member.scorer.featurizer.fingerprint, member.scorer.max_length) for member in self.members]
        for member, key in zip(self.members, keys, strict=True):
            if key not in read:
                read[key] = member.scorer.read(queries, products, locales)
        return tuple(read[key] for key in keys)

    def predict(
        self, pairs: tuple[Pairs, ...], rows: Int64 | None = None, *, progress: Progress | None = None
    ) -> Prediction:
        """Predict pairs that were read by all members; see `Scorer.predict`."""
        shown = _WholePairs(progress, len(self.members))
        read = zip(self.members, pairs, strict=True)
        return self.combine([member.scorer.predict(of, rows, progress=shown) for member, of in read])

    def combine(self, predictions: Sequence[Prediction]) -> Prediction:
        """Average the members' predictions, which are in their order."""
        return average(predictions, [member.weight for member in self.members])


class _WholePairs:
    """Turns the progress of each of several members into that of whole pairs."""

    def __init__(self, progress: Progress | None, members: int) -> None:
        self.progress, self.members = progress, members
        self._done = self._reported = 0

    def __call__(self, done: int) -> None:
        self._done += done
        pairs = self._done // self.members
        if self.progress and pairs > self._reported:
            self.progress(pairs - self._reported)
            self._reported = pairs


@dataclass(frozen=True)
class Answer:
    """One member's prediction of some pairs, and how long it took, in seconds."""

    prediction: Prediction
    seconds: float


def ask_members(ensemble: Ensemble, dataset: Dataset, rows: Int64, *, stages: Stage | None = None) -> list[Answer]:
    """Let each member predict pairs of a dataset folder, with one model in memory at a time; gives M answers."""
    answers = []
    for number, member in enumerate(ensemble.members, start=1):
        scorer = member.load()
        pairs = open_pairs(dataset, scorer.featurizer, scorer.max_length, stages)
        progress = counted(stages, f"member {number} of {len(ensemble.members)}", len(rows))
        began = time.perf_counter()
        prediction = scorer.predict(pairs, rows, progress=progress)
        answers.append(Answer(prediction, time.perf_counter() - began))
        del scorer, pairs  # or it would stand in memory beside the next
    return answers


def average(predictions: Sequence[Prediction], weights: Sequence[float]) -> Prediction:
    """Average predictions of the same pairs.

    Parameters
    ----------
    predictions
        Of each member: classifiers and regressors of the gain may be mixed, or all are of the substitute task.
    weights
        Of each member, above 0.

    Returns
    -------
    Prediction
        With the probabilities of the classifiers, where there are any. The sum goes through the members in order.
    """
    score_P = np.zeros(len(predictions[0].score))
    weighted = list(zip(predictions, weights, strict=True))
    for made, weight in weighted:
        score_P += weight * made.score.astype(np.float64)
    score_P /= sum(weights)
    classifiers = [(made, weight) for made, weight in weighted if made.probabilities is not None]
    if not classifiers:
        return Prediction(predictions[0].task, None, score_P.astype(np.float32))
    total_PC = np.zeros((len(score_P), classifiers[0][0].task.outputs))
    for made, weight in classifiers:
        assert made.probabilities is not None
        total_PC += weight * made.probabilities.astype(np.float64)
    probabilities_PC = (total_PC / sum(weight for _, weight in classifiers)).astype(np.float32)
    return Prediction(classifiers[0][0].task, probabilities_PC, score_P.astype(np.float32))
