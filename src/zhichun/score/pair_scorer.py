"""What scores pairs: a run or an export of one (`Scorer`), or several of them together (`Ensemble`).

Legend: ``P`` pairs, ``C`` classes.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from zhichun.core.arrays import Int64
from zhichun.core.tasks import Prediction, Task
from zhichun.data.dataset.dataset import Dataset
from zhichun.score.given import Columns, Products
from zhichun.score.token_batches import Rows
from zhichun.text.tokenizer import PairTokenizer

Progress = Callable[[int], None]
Stage = Callable[[str, int, int], None]


class Reading(Protocol):
    """Texts that were read, as a function that scores them."""

    def __call__(self, progress: Progress | None = None) -> Prediction:
        """Score them."""


class PairScorer(Protocol):
    """The one contract of everything that scores; what there is to choose from is opened by `load_scorer`."""

    @property
    def task(self) -> Task:
        """What is predicted."""

    @property
    def engine_name(self) -> str:
        """What computes, for users."""

    @property
    def max_length(self) -> int:
        """Tokens that a pair is cut to; of an ensemble, by the member that reads most."""

    @property
    def tokenizer(self) -> PairTokenizer:
        """What cuts texts into tokens; of an ensemble, that of its first member."""

    @property
    def lookahead(self) -> int:
        """Chunks of a file whose texts are worth reading while one is scored; see `Engine.lookahead`."""

    def remembering(self) -> "PairScorer":
        """Give a scorer that reads a product once and remembers it, in bounded memory."""

    def score(self, query: str, products: Products, locale: str | None = None) -> Prediction:
        """Score products for one query; see `Scorer.score`."""

    def score_pairs(
        self, queries: Sequence[str], products: Columns, locales: Sequence[str], *, progress: Progress | None = None
    ) -> Prediction:
        """Score P pairs of texts; see `Scorer.score_pairs`."""

    def reading(self, queries: Sequence[str], products: Columns, locales: Sequence[str]) -> Reading:
        """Read the texts of P pairs now, and give what scores them when it is called: `score_pairs` in two halves."""

    def score_counted(
        self, queries: Sequence[str], products: Columns, locales: Sequence[str]
    ) -> tuple[Prediction, Int64]:
        """Score P pairs, and count the tokens that are read of each, ``[P]``; of an ensemble, by its first member."""

    def score_examples(self, dataset: Dataset, rows: Rows, *, stages: Stage | None = None) -> Prediction:
        """Score pairs of a dataset folder.

        Parameters
        ----------
        dataset
            The dataset, which keeps what was read of its texts.
        rows
            Which of its examples, ``[P]``.
        stages
            Called with (what, done, total) while texts are read and pairs are scored.
        """


def counted(stages: Stage | None, what: str, total: int) -> Progress | None:
    """Turn steps into the progress of one stage."""
    if stages is None:
        return None
    done = 0

    def progress(more: int) -> None:
        nonlocal done
        done += more
        stages(what, done, total)

    return progress
