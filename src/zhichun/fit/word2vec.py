"""Word2vec of the catalogue's trigrams: where the semantic unit's vectors may start.

Skip-gram with negative sampling (Mikolov et al., 2013, "Distributed Representations of Words and Phrases and their
Compositionality"), done by gensim. The words are exactly the dataset's trigram vocabulary: what the catalogue holds
often enough, and what a training query holds. Of the latter, one that the catalogue lacks keeps its random start, which
is short.

One worker gives the same bytes each time. Where it is killed, it goes on after the last whole epoch, to the same bytes.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from zhichun.core.errors import UserError
from zhichun.data.dataset.dataset import Dataset
from zhichun.fit.trigram_sentences import TrigramSentences
from zhichun.fit.word2vec_state import EpochState
from zhichun.text.trigrams.bags import TrigramVocabulary
from zhichun.text.trigrams.vectors import TrigramVectors, vectors_path

Progress = Callable[[str, int, int], None]

# gensim's learning rates, first and last; linear in between.
ALPHA: Final = (0.025, 0.0001)


@dataclass(frozen=True, kw_only=True)
class Word2VecSettings:
    """How the vectors are made; the defaults are the paper's.

    Parameters
    ----------
    size
        Size of a vector.
    epochs
        Passes over the catalogue.
    window
        Trigrams to either side that are context.
    negative
        Negative samples for each context.
    sample
        Share of the corpus above which a trigram is read less often.
    products
        Products to read at most, drawn evenly; None is all.
    seed
        Seed of the start and of all draws.
    """

    size: int = 64
    epochs: int = 3
    window: int = 15
    negative: int = 20
    sample: float = 6e-5
    products: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("size", "epochs", "window", "negative", "products"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"{name}={value} cannot be.", remedy="Give a whole number from 1.")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed={self.seed} cannot be.", remedy="Give a whole number from 0 to 4294967295.")


def train_trigram_vectors(
    folder: Path, settings: Word2VecSettings, *, workers: int = 1, progress: Progress | None = None
) -> Path:
    """Train the vectors of a dataset's trigrams and write them into its ``vocabulary/``.

    Parameters
    ----------
    folder
        Dataset folder of `zhichun prepare`.
    settings
        How.
    workers
        Threads; with more than one the vectors differ from one time to the next.
    progress
        Called with (what, products read over all epochs, how many there will be).

    Returns
    -------
    Path
        The file, for `TrigramVectors.load`.

    Raises
    ------
    UserError
        When gensim is not installed, or the folder is no dataset or has no trigrams.
    """
    if workers < 1:
        raise UserError(f"workers={workers} cannot be.", remedy="Give a whole number from 1.")
    dataset = Dataset.open(folder)
    vocabulary = TrigramVocabulary.load(folder / "vocabulary" / "trigrams.parquet")
    if len(vocabulary) == 1:
        raise UserError("the dataset has no trigrams.", file=folder, remedy="Prepare a catalogue that has texts.")
    model = _new_model(settings, vocabulary, workers)
    path = vectors_path(folder / "vocabulary", settings.size)
    made_by = {"method": "word2vec skip-gram", **dataclasses.asdict(settings), "workers": workers}
    state = EpochState(path.with_name(f"unfinished-{path.stem}.npz"), f"{vocabulary.fingerprint} {made_by}")
    rates = np.linspace(*ALPHA, settings.epochs + 1).tolist()
    for epoch in range(state.restore(model), settings.epochs):
        sentences = _sentences(dataset, vocabulary, settings, epoch, progress)
        model.train(
            sentences,
            total_examples=len(sentences),
            epochs=1,
            start_alpha=rates[epoch],
            end_alpha=rates[epoch + 1],
        )
        sentences.raise_failure()
        if epoch + 1 < settings.epochs:
            state.save(model, epoch + 1)
    TrigramVectors(model.wv.vectors, vocabulary, made_by).save(path)
    state.forget()
    return path


def _new_model(settings: Word2VecSettings, vocabulary: TrigramVocabulary, workers: int) -> Any:
    """Make gensim's model, whose words are the trigrams' ids in their order."""
    try:
        from gensim.models import Word2Vec
    except ImportError as error:
        raise UserError(
            "Word2vec needs gensim, which is not installed.", remedy="Install it with: pip install 'zhichun[word2vec]'"
        ) from error
    model = Word2Vec(
        sg=1,
        vector_size=settings.size,
        window=settings.window,
        negative=settings.negative,
        sample=settings.sample,
        seed=settings.seed,
        workers=workers,
        min_count=0,  # prepare has chosen what is seen often enough
        sorted_vocab=0,
    )
    model.build_vocab_from_freq(dict(enumerate(np.maximum(vocabulary.counts_V, 1).tolist(), start=1)))
    return model


def _sentences(
    dataset: Dataset, vocabulary: TrigramVocabulary, settings: Word2VecSettings, epoch: int, progress: Progress | None
) -> TrigramSentences:
    """Read the catalogue for one epoch; progress counts the products of all epochs."""

    def report(done: int) -> None:
        if progress:
            progress("word2vec", epoch * sentences.products + done, settings.epochs * sentences.products)

    sentences = TrigramSentences(dataset, vocabulary, settings.products, report)
    return sentences
