"""Our second stage over the outcomes of `quality_lists.py`: of a fold, from the models of its inner folds.

The same for both sides: `zhichun.fit.second_stage` on what each model says of the inner fold that it left out, and its
answers averaged over what these models say of the fold itself, beside the similarity of the encoder as it comes. Costs
no training. Not a script.

Legend: ``P`` pairs, ``M`` probabilities.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zhichun.core import schema
from zhichun.core.tasks import Prediction
from zhichun.data.dataset import Dataset
from zhichun.fit.second_stage import JudgedCandidates, StackSettings, fit_second_stage
from zhichun.score.list_features import Candidates, Corpus
from zhichun.score.similarity import Similarity

Rows = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


@lru_cache(5)  # of each fold
def corpus_of(folder: Path) -> Corpus:
    """Read the terms of a dataset's catalogue."""
    batches = Dataset.open(folder).product_batches()
    columns = ([batch.column(name).to_pylist() for name in schema.TEXT_COLUMNS] for batch in batches)
    return Corpus.of(["\n".join(filter(None, texts)) for texts in zip(*each, strict=True)] for each in columns)


similarity_of = lru_cache(1)(Similarity.load)


@lru_cache(5)  # of each fold
def candidates_of(folder: Path, encoder: str) -> Candidates:
    """Read all pairs of a dataset."""
    dataset = Dataset.open(folder)
    texts = dataset.texts(np.arange(len(dataset.labels)))
    return Candidates.read(corpus_of(folder), texts, similarity=similarity_of(encoder))


def stacked(
    folder: Path,
    encoder: str,
    learnt: list[tuple[Rows, Doubles]],
    asked: Rows,
    said: list[Doubles],
    left_out: Sequence[str] = (),
    seed: int = 0,
) -> Prediction:
    """Train the second stage and ask it.

    Parameters
    ----------
    folder
        The dataset.
    encoder
        Whose similarity of query and product is read too.
    learnt
        Of each inner fold its rows, and the probabilities by the model that left it out, ``[P, M]``.
    asked
        Rows that are predicted.
    said
        What the model of each inner fold says of them, ``[P, M]``.
    left_out
        Groups of features that the trees do not read.
    seed
        Of the trees.
    """
    dataset, candidates = Dataset.open(folder), candidates_of(folder, encoder)
    rows = np.concatenate([rows for rows, _ in learnt])
    folds_P = np.repeat(np.arange(len(learnt)), [len(rows) for rows, _ in learnt])
    probabilities_PM = np.concatenate([probabilities for _, probabilities in learnt])
    weights_P = dataset.column(schema.WEIGHT)[rows]
    judged = JudgedCandidates(candidates.select(rows), probabilities_PM, dataset.labels[rows], folds_P, weights_P)
    stage = fit_second_stage(corpus_of(folder), judged, StackSettings(seed=seed), left_out=left_out)
    return stage.predict(candidates.select(asked), said)
