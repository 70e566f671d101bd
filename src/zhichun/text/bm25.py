"""The first stage: BM25 over the texts of one locale, computed by bm25s (Lù, 2024, arXiv:2407.03618).

Scores are those of Lucene: over the query's terms, the sum of
``ln(1 + (N - n + 0.5) / (n + 0.5)) · f / (f + k₁ (1 - b + b · length / mean length))`` with k₁ 1.5 and b 0.75, where
n of N documents have the term, this one f times.

Legend: ``N`` documents, ``T`` terms of all of them, ``H`` hits.
"""

from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import bm25s
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zhichun.core import schema
from zhichun.text.vocabulary import terms, terms_of_all

Progress = Callable[[int, int], None]
Report = Callable[[str, int, int], None]
# What the first stage reads. Descriptions are long, and say little that the others do not.
SEARCHED: Final = (schema.TITLE, schema.BRAND, schema.COLOR, schema.BULLETS)
# How often bm25s goes through the documents: for their lengths, their terms and their scores.
PASSES: Final = 3
_BATCH: Final = 8192


class Documents:
    """Term ids of all documents, concatenated in one array for bm25s."""

    def __init__(self) -> None:
        self.vocabulary: dict[str, int] = {}
        self.progress: Progress = lambda done, total: None
        self._terms_T = array("i")
        self._ends_N = array("q")
        self._read = 0

    def add(self, texts: Sequence[str]) -> None:
        """Add documents."""
        for found in terms_of_all(texts):
            number = self.vocabulary.setdefault
            self._terms_T.extend([number(term, len(self.vocabulary)) for term in found])
            self._ends_N.append(len(self._terms_T))

    def __len__(self) -> int:
        return len(self._ends_N)

    def __iter__(self) -> Iterator[list[int]]:
        start = 0
        for place, end in enumerate(self._ends_N):
            if place % _BATCH == 0:
                self.progress(min(self._read, PASSES * len(self)), PASSES * len(self))
            yield self._terms_T[start:end].tolist()
            start = end
            self._read += 1


class FirstStage:
    """An index of documents.

    Parameters
    ----------
    documents
        What is searched.
    progress
        Called with (done, total) while indexing.
    """

    def __init__(self, documents: Documents, progress: Progress = lambda done, total: None) -> None:
        self._bm25 = bm25s.BM25(method="lucene")
        self._vocabulary, self._documents = documents.vocabulary, len(documents)
        if self._vocabulary:  # bm25s divides by the mean length
            documents.progress = progress
            numbers = range(len(self._vocabulary))
            self._bm25.scores = self._bm25.build_index_from_ids(numbers, documents, show_progress=False)

    def search(self, query: str, top: int) -> list[tuple[int, float]]:
        """Find the documents with a term of the query."""
        score_N = self.scores(query)
        place_H = np.flatnonzero(score_N)
        if len(place_H) > top > 0:  # only what can be among the best is sorted
            place_H = place_H[score_N[place_H] >= np.partition(score_N[place_H], -top)[-top]]
        best_H = place_H[np.argsort(-score_N[place_H], kind="stable")[:top]]
        return [(int(place), float(score_N[place])) for place in best_H]

    def scores(self, query: str) -> npt.NDArray[np.float32]:
        """Return the score of every document, ``[N]``; 0 without a term of the query."""
        known = [self._vocabulary[term] for term in terms(query) if term in self._vocabulary]
        score_N: npt.NDArray[np.float32] = (
            self._bm25.get_scores_from_ids(known) if known else np.zeros(self._documents, np.float32)
        )
        return score_N


def read_documents(table: pa.Table, report: Report) -> tuple[dict[str, "array[int]"], dict[str, Documents]]:
    """Return the rows of each locale's products in a catalogue, and their terms."""
    rows: dict[str, array[int]] = {}
    documents: dict[str, Documents] = {}
    start = 0
    for batch in table.select([*SEARCHED, schema.LOCALE]).to_batches(max_chunksize=_BATCH):
        report("reading products", start, table.num_rows)
        columns: dict[str, list[Any]] = batch.to_pydict()
        texts = [" ".join(filter(None, parts)) for parts in zip(*(columns[name] for name in SEARCHED), strict=True)]
        locales = columns[schema.LOCALE]
        for locale in dict.fromkeys(locales):
            chosen = [place for place, each in enumerate(locales) if each == locale]
            rows.setdefault(locale, array("q")).extend([start + place for place in chosen])
            documents.setdefault(locale, Documents()).add([texts[place] for place in chosen])
        start += batch.num_rows
    return rows, documents
