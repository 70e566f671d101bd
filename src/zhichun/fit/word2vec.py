"""Word2vec of the catalogue's trigrams: where the semantic unit's vectors start.

Skip-gram with negative sampling (Mikolov et al., 2013, "Distributed Representations of Words and Phrases and their
Compositionality"), done by gensim. A field of a product is a sentence, its known trigrams are the words: exactly the
dataset's trigram vocabulary. One that only a training query holds keeps its random start, which is short.

One worker gives the same bytes each time. Nothing is kept of a run that was interrupted: it starts again.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zhichun.core.errors import UserError
from zhichun.core.files import in_use
from zhichun.core.schema import CATALOGUE, ORIGIN, PRODUCTS_FILE, TEXT_COLUMNS
from zhichun.core.settings import require_range
from zhichun.data.dataset import REMEDY, Dataset, Progress, no_progress, of_catalogue, read_parquet
from zhichun.text.clean import clean_text
from zhichun.text.trigrams import TrigramVectors, TrigramVocabulary, vectors_path

# gensim's learning rates, first and last; linear in between.
ALPHA: Final = (0.025, 0.0001)
# A thousand products are 2 to 3 million characters, and cutting them needs 60 bytes for each.
BATCH_ROWS: Final = 1024
# What gensim reads of a sentence; it would leave out the rest by itself, and count it all the same.
LONGEST: Final = 10_000


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
        require_range(self, "size", "epochs", "window", "negative", "products", least=1)
        require_range(self, "sample", least=0)
        require_range(self, "seed", least=0, most=2**32 - 1)


def train_trigram_vectors(
    folder: Path, settings: Word2VecSettings, *, workers: int = 1, progress: Progress = no_progress
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
        When the folder is no dataset or has no trigrams.
    """
    if workers < 1:
        raise UserError(f"workers={workers} cannot be.", remedy="Give a whole number from 1.")
    dataset = Dataset.open(folder)
    vocabulary = TrigramVocabulary.load(folder / "vocabulary" / "trigrams.parquet")
    if len(vocabulary) == 1:
        raise UserError("the dataset has no trigrams.", file=folder, remedy="Prepare a catalogue that has texts.")
    model = _new_model(settings, vocabulary, workers)
    sentences = TrigramSentences(dataset, vocabulary, settings.products)
    sentences.report = lambda done: progress("word2vec", done, settings.epochs * sentences.products)
    first, last = ALPHA
    path = vectors_path(folder / "vocabulary", settings.size)
    with in_use(path.parent):
        model.train(sentences, total_examples=len(sentences), epochs=settings.epochs, start_alpha=first, end_alpha=last)
        if sentences.failure is not None:
            raise sentences.failure
        made_by = {"method": "word2vec skip-gram", **dataclasses.asdict(settings), "workers": workers}
        TrigramVectors(model.wv.vectors, vocabulary, made_by).save(path)
    return path


def _new_model(settings: Word2VecSettings, vocabulary: TrigramVocabulary, workers: int) -> Any:
    """Make gensim's model, whose words are the trigrams' ids in their order."""
    from gensim.models import Word2Vec  # of the extra `word2vec`

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


class TrigramSentences:
    """Lists of trigram ids, one for each field of each product, an empty one included; the catalogue is streamed.

    Products that a step of `prepare` made of others are left out, and of the rest ``most`` are drawn evenly. gensim
    reads in a thread of its own and would wait for ever if that thread failed; so a failure ends the sentences early,
    and is then in `failure`.
    """

    def __init__(self, dataset: Dataset, vocabulary: TrigramVocabulary, most: int | None = None) -> None:
        self._path, self._vocabulary = dataset.folder / PRODUCTS_FILE, vocabulary
        origins = read_parquet(self._path, REMEDY, columns=[ORIGIN])
        self._catalogue: int = pc.sum(pc.equal(origins[ORIGIN], CATALOGUE)).as_py() or 0
        self.products = self._catalogue if most is None else min(most, self._catalogue)
        self.report: Callable[[int], None] = lambda done: None
        self._read = 0
        self.failure: Exception | None = None

    def __len__(self) -> int:
        return self.products * len(TEXT_COLUMNS)

    def __iter__(self) -> Iterator[list[int]]:
        try:
            for products in self._drawn():
                yield from self._sentences(products)
                self._read += products.num_rows
                self.report(self._read)
        except Exception as error:
            self.failure = error

    def _drawn(self) -> Iterator[Any]:
        """Read the products in small parts: of ``n`` rows, the ``k`` where ``row * k / n`` reaches the next integer."""
        first = 0
        with pq.ParquetFile(self._path) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=[*TEXT_COLUMNS, ORIGIN]):
                part = of_catalogue(batch)
                rows = np.arange(first, first + part.num_rows + 1)
                yield part.take(np.flatnonzero(np.diff(rows * self.products // max(1, self._catalogue))))
                first += part.num_rows

    def _sentences(self, products: Any) -> Iterator[list[int]]:
        fields = [products.column(name).to_pylist() for name in TEXT_COLUMNS]
        texts = [clean_text(text) if text else "" for row in zip(*fields, strict=True) for text in row]
        ids_N, offsets = self._vocabulary.ids(texts)
        for begin, end in itertools.pairwise(offsets):
            yield ids_N[begin : min(end, begin + LONGEST)].tolist()
