"""The second stage: trees over a whole list's predictions and texts, and a stack, which scores with it like a run.

Each fold's models predict, the trees read each fold's features, and what they give is averaged. They need LightGBM and
neither torch nor what trained them.

Equation   trees: score ``s = Σ_k (Σ_c gain_c p_kc + σ(a r_k + b)) / 2K`` with the classes' ``p`` and the ranker's
           output ``r`` of fold ``k``; ``a`` and ``b`` bring this output to the scale of gains. With a similarity also
           ``l = softmax(x W)`` of the encoder's vectors of query and product, ``x = [u·v_t, u·v, u∘v_t, u∘v, |u - v_t|,
           u, v, 1]``, and ``0.6 s + 0.4 Σ_c gain_c l_c``. With models beside, ``(1 - w) s + w Σ_m s_m / M``. So are the
           probabilities
Reference  Ke et al., 2017, *LightGBM*; Burges, 2010, for LambdaMART; the contest's first three teams, for the features

Legend: ``P`` pairs, ``K`` folds, ``M`` probabilities of all models of a fold, ``F`` features, ``C`` classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from zhichun.core import schema
from zhichun.core import settings as codec
from zhichun.core.arrays import Doubles, Int64
from zhichun.core.errors import UserError
from zhichun.core.files import check_hashes, write_hashes, write_text
from zhichun.core.tasks import TASKS, Floats, Prediction, Task, gain_vector, softmax
from zhichun.data.dataset import Dataset
from zhichun.score.engine import AUTO, Progress
from zhichun.score.ensemble import Members, average
from zhichun.score.folders import STACK_FILE, MemberEntry, locate
from zhichun.score.index.vectors import with_index
from zhichun.score.list_features import Candidates, Corpus
from zhichun.score.scorer import Scorer
from zhichun.score.similarity import NAME as SIMILARITY
from zhichun.score.similarity import Similarity
from zhichun.text.pairs import Pairs, PairTexts, TextReader
from zhichun.text.tokenizer import PairTokenizer
from zhichun.text.vocabulary import read_counted, write_counted

if TYPE_CHECKING:
    from lightgbm import Booster

FORMAT: Final = 4
CLASSES_FILE, RANKING_FILE, TERMS_FILE = "classes.txt", "ranking.txt", "terms.parquet"
LINEAR_FILE: Final = "linear.npy"
REMEDY: Final = "Make it again with: zhichun stack RUN… --data DIR --out STACK --overwrite"
# Of the linear model beside the trees; screened on Chorus and the extract (experiments/LOG.md, 2026-11-27).
LINEAR_SHARE: Final = 0.4
TREES: Final = "trees"  # the engine where there is no model
_FEW_ROWS: Final = 10_000  # threads cost more than they gain


@dataclass(frozen=True, eq=False)
class SecondStage:
    """Trees that predict a candidate beside its list.

    Parameters
    ----------
    corpus
        Of the catalogue.
    own
        The user's numeric columns.
    classes, ranking
        The models, as LightGBM's text.
    slope, offset
        Of the ranker's output as a gain.
    similarity
        Of query and product, where the trees read it.
    linear
        Of the classes, over the similarity's vectors (`PairVectors.linear_logits`), where there is one.
    beside, share
        How many models the trees do not read, and the share of these in the mean with the trees.
    """

    corpus: Corpus
    own: tuple[str, ...]
    classes: str
    ranking: str
    slope: float = 1.0
    offset: float = 0.0
    similarity: Similarity | None = None
    linear: Floats | None = None
    beside: int = 0
    share: float = 0.0

    @cached_property
    def boosters(self) -> "tuple[Booster, Booster]":
        """The classes and the ranker."""
        from lightgbm import Booster

        return Booster(model_str=self.classes), Booster(model_str=self.ranking)

    def read(self, texts: PairTexts) -> Candidates:
        """Read the texts of P pairs; see `Candidates.read`."""
        return Candidates.read(self.corpus, texts, self.own, self.similarity)

    def predict(self, candidates: Candidates, probabilities: Sequence[npt.NDArray[np.floating]]) -> Prediction:
        """Predict pairs with their lists.

        Parameters
        ----------
        candidates
            The pairs' texts; all of a list, so that it is whole.
        probabilities
            Of the models of each fold, ``[P, M]``: four of each, in the order in which they were trained with.
        """
        features = candidates.features(*probabilities)
        shape = (len(probabilities), len(candidates.place_P))
        if not features.size:
            return TASKS["esci"].of_probabilities(np.zeros((0, len(schema.LABELS))))
        threads = 1 if len(features) < _FEW_ROWS else 0
        classes_X, ranking_X = (model.predict(features, num_threads=threads) for model in self.boosters)
        mean_PC = np.asarray(classes_X).reshape(*shape, -1).mean(axis=0)
        rank_P = as_gain(np.asarray(ranking_X), self.slope, self.offset).reshape(shape).mean(axis=0)
        made = TASKS["esci"].of_probabilities(mean_PC)
        trees = replace(made, score=((mean_PC @ gain_vector() + rank_P) / 2).astype(np.float32))
        if self.linear is None or candidates.vectors is None:
            return trees
        said_UC = softmax(candidates.vectors.linear_logits(self.linear))
        linear = TASKS["esci"].of_probabilities(said_UC[candidates.place_P])
        return average([trees, linear], [1 - LINEAR_SHARE, LINEAR_SHARE])

    def combine(self, candidates: Candidates, predictions: Sequence[Prediction], folds: int) -> Prediction:
        """Predict pairs from what the models said: fold by fold those that the trees read, then those beside them."""
        read, beside = predictions[: len(predictions) - self.beside], predictions[len(predictions) - self.beside :]
        given = [made.probabilities for made in read if made.probabilities is not None]
        none_P0, each = np.zeros((len(candidates.place_P), 0), np.float32), len(given) // folds
        of_folds = [np.concatenate([none_P0, *given[fold * each : (fold + 1) * each]], axis=1) for fold in range(folds)]
        trees = self.predict(candidates, of_folds)
        if not beside:
            return trees
        return average([trees, *beside], [1 - self.share, *[self.share / len(beside)] * len(beside)])

    def of_dataset(self, dataset: Dataset, rows: Int64, predictions: Sequence[Prediction], folds: int) -> Prediction:
        """Predict pairs of a dataset from what the models said of them."""
        return self.combine(self.read(dataset.texts(rows, *self.own)), predictions, folds)


def as_gain(output_P: Doubles, slope: float, offset: float) -> Doubles:
    """Bring a ranker's output to the scale of gains."""
    gain_P: Doubles = 1 / (1 + np.exp(-np.clip(slope * output_P + offset, -500, 500)))
    return gain_P


@dataclass(frozen=True, kw_only=True)
class StackConfig:
    """The content of ``stack.json``.

    Parameters
    ----------
    members
        The models that the trees read, fold by fold, and within a fold in the order of the runs; then those beside.
    folds
        How many there are.
    own
        The user's numeric columns.
    slope, offset
        Of the ranker's output as a gain.
    documents, mean_length
        Of the catalogue, for BM25.
    made
        What was trained and measured, for the report.
    beside, share
        As of `SecondStage`.
    """

    members: tuple[MemberEntry, ...]
    folds: int
    own: tuple[str, ...]
    slope: float
    offset: float
    documents: int
    mean_length: float
    made: dict[str, Any]
    beside: int
    share: float

    @classmethod
    def load(cls, folder: Path) -> "StackConfig":
        """Read ``stack.json``, and check that every file is as it was written.

        Raises
        ------
        UserError
            When it is of another version, or a file is missing or has changed.
        """
        config = codec.read_settings(cls, folder / STACK_FILE, format=FORMAT, remedy=REMEDY)
        check_hashes(folder, REMEDY, always=True)
        read = len(config.members) - config.beside
        alone = not read and not (folder / SIMILARITY).is_dir()
        if config.folds < 1 or alone or read < 0 or read % config.folds:
            raise UserError("has no models, or not as many in each fold.", file=folder / STACK_FILE, remedy=REMEDY)
        return config

    def locate(self, folder: Path) -> list[Path]:
        """Find the models' folders, and check that each is the one that was meant."""
        return locate(self.members, folder, REMEDY)


def save_stack(stage: SecondStage, members: Sequence[MemberEntry], folds: int, made: Any, folder: Path) -> None:
    """Write a stack's files into a folder."""
    config = StackConfig(
        members=tuple(members),
        folds=folds,
        own=stage.own,
        slope=stage.slope,
        offset=stage.offset,
        documents=stage.corpus.documents,
        mean_length=stage.corpus.mean_length,
        made=made,
        beside=stage.beside,
        share=stage.share,
    )
    codec.write_settings(config, folder / STACK_FILE, format=FORMAT, kind="zhichun stack")
    write_text(folder / CLASSES_FILE, stage.classes)
    write_text(folder / RANKING_FILE, stage.ranking)
    counts = stage.corpus.counts
    write_counted(folder / TERMS_FILE, "term", list(counts), np.fromiter(counts.values(), np.int64, len(counts)))
    if stage.linear is not None:
        np.save(folder / LINEAR_FILE, stage.linear)
    if stage.similarity is not None:
        stage.similarity.save(folder / SIMILARITY)
    write_hashes(folder)


def load_stage(folder: Path, config: StackConfig, index: Path | None = None) -> SecondStage:
    """Read the second stage of a stack's folder; with an index of it, what that keeps of products is not computed."""
    known, counts = read_counted(folder / TERMS_FILE, "term")
    corpus = Corpus(config.documents, config.mean_length, dict(zip(known, counts.tolist(), strict=True)))
    classes, ranking = ((folder / name).read_text("utf-8") for name in (CLASSES_FILE, RANKING_FILE))
    similarity = Similarity.of_stack(folder) if index is None else with_index(folder, index)
    linear = np.load(folder / LINEAR_FILE) if (folder / LINEAR_FILE).is_file() else None
    scale, beside = (config.slope, config.offset), (config.beside, config.share)
    return SecondStage(corpus, config.own, classes, ranking, *scale, similarity, linear, *beside)


@dataclass(frozen=True)
class ListedPairs:
    """Pairs that were read by the members and by the second stage."""

    pairs: tuple[Pairs, ...]
    candidates: Candidates

    def __len__(self) -> int:
        return len(self.candidates.place_P)

    @property
    def lengths(self) -> Int64:
        """Tokens of each pair, by the first member; where there is none, the words."""
        return self.pairs[0].lengths if self.pairs else self.candidates.words_P


@dataclass(frozen=True)
class Stack(Members):
    """Scores pairs by a second stage over models; has what a `Scorer` has, and reads lists.

    Parameters
    ----------
    members, weights
        The models, as in `StackConfig`.
    stage
        The trees.
    folds
        How many there are.
    """

    stage: SecondStage
    folds: int

    @classmethod
    def load(cls, folder: Path, device: str | None = None, engine: str = AUTO, *, index: Path | None = None) -> "Stack":
        """Load the models and the trees of a folder of `zhichun stack`, see `Ensemble.load`; and its index, if any."""
        config = StackConfig.load(folder)
        members = tuple(Scorer.load(path, device, engine) for path in config.locate(folder))
        stage, weights = load_stage(folder, config, index), tuple(entry.weight for entry in config.members)
        return cls(members, weights, stage, config.folds)

    @property
    def task(self) -> Task:
        """The four classes."""
        return TASKS["esci"]

    @property
    def _reader(self) -> TextReader:
        """What the similarity reads by, in a stack without models."""
        assert self.stage.similarity is not None
        return self.stage.similarity.reader

    @property
    def engine_name(self) -> str:
        """As the models'."""
        return super().engine_name or TREES

    @property
    def max_length(self) -> int:
        """As the models'."""
        return super().max_length if self.members else self._reader.max_length

    @property
    def tokenizer(self) -> PairTokenizer:
        """As the models'."""
        return super().tokenizer if self.members else self._reader.tokenizer

    @property
    def own(self) -> Sequence[str]:
        """As the trees'."""
        return self.stage.own

    @property
    def reads_lists(self) -> bool:
        """It does."""
        return True

    def read(self, texts: PairTexts) -> ListedPairs:
        """Read the texts of P pairs; see `Scorer.read`."""
        return ListedPairs(self.read_each(texts), self.stage.read(texts))

    def predict(self, pairs: ListedPairs, rows: Int64 | None = None, *, progress: Progress | None = None) -> Prediction:
        """Predict pairs that were read, each beside all of its list; see `Scorer.predict`."""
        made = self.stage.combine(pairs.candidates, self.ask(pairs.pairs, None, progress), self.folds)
        return made if rows is None else made.select(rows)
