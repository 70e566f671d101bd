"""The members of an ensemble, and what they share: progress, and what was read."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from zhichun.core.tasks import Prediction, Task
from zhichun.score.engines.engine import AUTO
from zhichun.score.export.export_folder import ExportConfig, is_export
from zhichun.score.given import Columns
from zhichun.score.pair_scorer import Progress
from zhichun.score.scorer import Scorer
from zhichun.text.pairs import Pairs


@dataclass(frozen=True)
class Member:
    """One model of an ensemble.

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

    @property
    def engine_name(self) -> str:
        """What computes it; known without loading it, but for an export whose engines are measured."""
        if self.engine != AUTO:
            return self.engine
        if is_export(self.folder):
            from zhichun.score.export.exported import choose

            return choose(ExportConfig.load(self.folder), self.folder)
        from zhichun.score.engines.torch_engine import chosen_by_auto

        return chosen_by_auto(self.device)

    @cached_property
    def scorer(self) -> Scorer:
        """The model, loaded when first asked for and kept."""
        return self.load()


@dataclass(frozen=True)
class Answer:
    """What one member says of pairs, and how long it took, in seconds."""

    prediction: Prediction
    seconds: float


class SharedProgress:
    """Turns what each of several members does into whole pairs.

    Parameters
    ----------
    progress
        Told of whole pairs; may be missing.
    members
        How many there are.
    """

    def __init__(self, progress: Progress | None, members: int) -> None:
        self.progress, self.members = progress, members
        self._done = self._told = 0

    def __call__(self, done: int) -> None:
        """Report pairs that one member has done with."""
        self._done += done
        pairs = self._done // self.members
        if self.progress and pairs > self._told:
            self.progress(pairs - self._told)
            self._told = pairs


class SharedReader:
    """Reads texts once for all members that read them alike.

    Parameters
    ----------
    queries, products, locales
        As for `Scorer.read`.
    """

    def __init__(self, queries: Sequence[str], products: Columns, locales: Sequence[str]) -> None:
        self._texts = (queries, products, locales)
        self._read: dict[tuple[str, int], Pairs] = {}

    def by(self, scorer: Scorer) -> Pairs:
        """Give them as a member reads them."""
        key = (scorer.featurizer.fingerprint, scorer.max_length)
        if key not in self._read:
            self._read[key] = scorer.read(*self._texts)
        return self._read[key]
