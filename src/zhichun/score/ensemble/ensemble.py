"""Several models that answer as one: by the mean of what they say (`average`).

Legend: ``P`` pairs, ``C`` classes, ``M`` members.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from zhichun.core.arrays import Int64
from zhichun.core.tasks import TASKS, Prediction, Task
from zhichun.data.dataset.dataset import Dataset
from zhichun.score.engines.engine import AUTO
from zhichun.score.ensemble.average import average
from zhichun.score.ensemble.ensemble_folder import EnsembleConfig
from zhichun.score.ensemble.members import Answer, Member, SharedProgress, SharedReader
from zhichun.score.given import Columns, Products, columns_of, query_of
from zhichun.score.pair_scorer import Progress, Reading, Stage, counted
from zhichun.score.token_batches import Rows
from zhichun.text.tokenizer import PairTokenizer


@dataclass(frozen=True)
class Ensemble:
    """Scores pairs by the members' mean.

    Parameters
    ----------
    members
        In the order in which they are asked.
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
    def weights(self) -> list[float]:
        """Of the members."""
        return [member.weight for member in self.members]

    @property
    def engine_name(self) -> str:
        """What computes the members."""
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
        """Give an ensemble each of whose members reads a product once."""
        return replace(self, members=tuple(replace(member, remembers=True) for member in self.members))

    def score(self, query: str, products: Products, locale: str | None = None) -> Prediction:
        """Score products for one query; see `Scorer.score`."""
        columns, locales = columns_of(products, locale)
        return self.score_pairs([query_of(query)] * len(locales), columns, locales)

    def score_pairs(
        self, queries: Sequence[str], products: Columns, locales: Sequence[str], *, progress: Progress | None = None
    ) -> Prediction:
        """Score P pairs by all members; see `Scorer.score_pairs`."""
        return self.reading(queries, products, locales)(progress)

    def reading(self, queries: Sequence[str], products: Columns, locales: Sequence[str]) -> Reading:
        """Read the texts for all members now, and give what scores them; see `PairScorer.reading`."""
        read = SharedReader(queries, products, locales)
        for member in self.members:
            read.by(member.scorer)
        members = len(self.members)
        return lambda progress=None: self._score(read, len(queries), SharedProgress(progress, members))

    def score_counted(
        self, queries: Sequence[str], products: Columns, locales: Sequence[str]
    ) -> tuple[Prediction, Int64]:
        """Score P pairs by all members, and count the tokens that the first reads of each, ``[P]``."""
        read = SharedReader(queries, products, locales)
        return self._score(read, len(queries)), read.by(self.members[0].scorer).lengths

    def _score(self, read: SharedReader, pairs: int, shown: SharedProgress | None = None) -> Prediction:
        rows = np.arange(pairs)
        return self.combine(
            [member.scorer.predict(read.by(member.scorer), rows, progress=shown) for member in self.members]
        )

    def score_examples(self, dataset: Dataset, rows: Rows, *, stages: Stage | None = None) -> Prediction:
        """Score pairs of a dataset folder by all members; see `PairScorer.score_examples`."""
        return self.combine([answer.prediction for answer in self.ask_all(dataset, rows, stages=stages)])

    def ask_all(self, dataset: Dataset, rows: Rows, *, stages: Stage | None = None) -> list[Answer]:
        """Ask each member about pairs of a dataset folder, with one model in memory at a time; gives M answers."""
        answers = []
        for number, member in enumerate(self.members, start=1):
            scorer = member.load()
            pairs = scorer.read_examples(dataset, stages)
            began = time.perf_counter()
            progress = counted(stages, f"member {number} of {len(self.members)}", len(rows))
            prediction = scorer.predict(pairs, rows, progress=progress)
            answers.append(Answer(prediction, time.perf_counter() - began))
            del scorer, pairs  # or it would stand in memory beside the next
        return answers

    def combine(self, predictions: Sequence[Prediction]) -> Prediction:
        """Average the members' predictions, which are in their order."""
        return average(predictions, self.weights)
