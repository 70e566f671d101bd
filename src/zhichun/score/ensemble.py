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
from pathlib import Path
from typing import Self

import numpy as np

from zhichun.core.arrays import Int64
from zhichun.core.tasks import TASKS, Floats, Prediction, Task
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import open_pairs
from zhichun.score.engine import AUTO, Progress, Stage, counted
from zhichun.score.folders import EnsembleConfig, MemberEntry
from zhichun.score.scorer import Scorer, ScoresProducts
from zhichun.text.pairs import Pairs, PairTexts
from zhichun.text.tokenizer import PairLayout, PairTokenizer


@dataclass(frozen=True)
class Members(ScoresProducts):
    """Models that score together; the base of an ensemble and of a stack.

    Parameters
    ----------
    members
        In the order in which they predict.
    weights
        Share of each.
    """

    members: tuple[Scorer, ...]
    weights: tuple[float, ...]

    @property
    def task(self) -> Task:
        """That of the classifiers, where there are any, as an average is not calibrated; the gain otherwise."""
        return TASKS[next((each.task for each in self.members if each.task.classes), self.members[0].task).name]

    @property
    def engine_name(self) -> str:
        """Names of the members' engines."""
        return ", ".join(dict.fromkeys(member.engine_name for member in self.members))

    @property
    def max_length(self) -> int:
        """Of the member that reads most."""
        return max(member.max_length for member in self.members)

    @property
    def lookahead(self) -> int:
        """Of the member that gains most by it."""
        return max((member.lookahead for member in self.members), default=0)

    @property
    def tokenizer(self) -> PairTokenizer:
        """That of the first member."""
        return self.members[0].tokenizer

    @property
    def reads_lists(self) -> bool:
        """Whether any member's scores depend on the other products of a query."""
        return any(member.reads_lists for member in self.members)

    def remembering(self) -> Self:
        """Return the same, each of whose members reads a product once."""
        return replace(self, members=tuple(member.remembering() for member in self.members))

    def read_each(self, texts: PairTexts) -> tuple[Pairs, ...]:
        """Read the texts of P pairs for each member, once for all that read alike; see `Scorer.read`."""
        read: dict[tuple[str, PairLayout, int, bool], Pairs] = {}
        keys = [
            (one.featurizer.fingerprint, one.tokenizer.layout, one.max_length, one.reads_lists) for one in self.members
        ]
        for member, key in zip(self.members, keys, strict=True):
            if key not in read:
                read[key] = member.read(texts)
        return tuple(read[key] for key in keys)

    def ask(self, pairs: tuple[Pairs, ...], rows: Int64 | None, progress: Progress | None) -> list[Prediction]:
        """Let each member predict the pairs that it read."""
        shown = progress and whole_pairs(progress, len(self.members))
        return [member.predict(of, rows, progress=shown) for member, of in zip(self.members, pairs, strict=True)]


@dataclass(frozen=True)
class Ensemble(Members):
    """Scores pairs by the members' mean; has what a `Scorer` has."""

    @classmethod
    def load(cls, folder: Path, device: str | None = None, engine: str = AUTO) -> Self:
        """Load the members of an ensemble folder.

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
        members = tuple(Scorer.load(path, device, engine) for path in config.locate(folder))
        return cls(members, tuple(entry.weight for entry in config.members))

    read = Members.read_each

    def predict(
        self, pairs: tuple[Pairs, ...], rows: Int64 | None = None, *, progress: Progress | None = None
    ) -> Prediction:
        """Predict pairs that were read by all members; see `Scorer.predict`."""
        return average(self.ask(pairs, rows, progress), self.weights)


def whole_pairs(progress: Progress, members: int) -> Progress:
    """Turn the progress of each of several members into that of whole pairs."""
    done = 0

    def shared(more: int) -> None:
        nonlocal done
        before, done = done // members, done + more
        if done // members > before:
            progress(done // members - before)

    return shared


@dataclass(frozen=True)
class Answer:
    """One member's prediction of some pairs, by which engine, and how long it took, in seconds."""

    entry: MemberEntry
    prediction: Prediction
    engine: str
    seconds: float


def ask_members(
    members: Sequence[tuple[MemberEntry, Path]],
    dataset: Dataset,
    rows: Int64,
    engine: str = AUTO,
    *,
    stages: Stage | None = None,
) -> list[Answer]:
    """Let each member, with its folder, predict pairs of a dataset, with one model in memory at a time."""
    answers = []
    for number, (entry, path) in enumerate(members, start=1):
        scorer = Scorer.load(path, engine=engine)
        pairs = open_pairs(dataset, scorer.featurizer, scorer.max_length, stages)
        progress = counted(stages, f"member {number} of {len(members)}", len(rows))
        began = time.perf_counter()
        prediction = scorer.predict(pairs, rows, progress=progress)
        answers.append(Answer(entry, prediction, scorer.engine_name, time.perf_counter() - began))
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
    score_P = _mean([made.score for made in predictions], weights)
    classifiers = [
        (made.task, made.probabilities, weight)
        for made, weight in zip(predictions, weights, strict=True)
        if made.probabilities is not None
    ]
    if not classifiers:
        return Prediction(predictions[0].task, None, score_P)
    tasks, probabilities, shares = zip(*classifiers, strict=True)
    return Prediction(TASKS[tasks[0].name], _mean(probabilities, shares), score_P)


def _mean(parts: Sequence[Floats], weights: Sequence[float]) -> Floats:
    total = sum(weight * part.astype(np.float64) for part, weight in zip(parts, weights, strict=True))
    return np.asarray(total / sum(weights), np.float32)
