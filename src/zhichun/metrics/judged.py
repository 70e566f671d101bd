"""The input of a metric: judgements and a model's predictions.

A ranking is a list of *tied groups*: documents with equal scores have no order among themselves, so a metric that reads
one off the order of a file depends on that order. A metric is the expected value over all orders of the documents
within each group; an untied document is a group of one.

Shapes: ``N`` pairs, ``G`` groups, ``Q`` queries, ``C`` classes.
"""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zhichun.core.errors import UserError, suggest
from zhichun.core.schema import LABELS


@dataclass(frozen=True, eq=False)
class TiedGroups:
    """The documents that were returned, grouped by query and score; within a query the best group comes first.

    Parameters
    ----------
    query
        Index of the group's query, ascending. Shape [G].
    before
        How many documents of the query rank before the group. Shape [G].
    size
        Number of documents, including those without a judgement. Shape [G].
    counts
        Number of documents per label. Shape [G, C].
    """

    query: NDArray[np.intp]
    before: NDArray[np.intp]
    size: NDArray[np.intp]
    counts: NDArray[np.intp]

    @classmethod
    def of(
        cls, query: NDArray[np.intp], labels: NDArray[np.intp], scores: NDArray[np.float64], classes: int
    ) -> "TiedGroups":
        """Group pairs by query and score."""
        returned = np.flatnonzero(~np.isnan(scores))
        query, labels, scores = query[returned], labels[returned], scores[returned]
        order = np.lexsort((-scores, query))
        query, labels, scores = query[order], labels[order], scores[order]

        opens_query = np.ones(len(query), dtype=bool)
        opens_query[1:] = query[1:] != query[:-1]
        opens_group = opens_query.copy()
        # Compared, not subtracted: two infinite scores are a tie.
        opens_group[1:] |= scores[1:] != scores[:-1]
        start = np.flatnonzero(opens_group)
        query_start = np.maximum.accumulate(np.where(opens_query[start], start, 0))

        # One spare column in front takes the documents without a judgement (label -1).
        cell = (np.cumsum(opens_group) - 1) * (classes + 1) + labels + 1
        counts = np.bincount(cell, minlength=len(start) * (classes + 1)).reshape(-1, classes + 1)
        return cls(query[start], start - query_start, np.diff(start, append=len(query)), counts[:, 1:])

    def sum_per_query(self, values_G: NDArray[np.floating | np.integer], queries: int) -> NDArray[np.float64]:
        """Add up the values of each query's groups; 0 for a query without any."""
        # Without a single group, bincount forgets the type of its weights.
        return np.bincount(self.query, weights=values_G, minlength=queries).astype(np.float64)


# The label of a document that was returned but never judged: it takes a place in the ranking and gains nothing.
UNJUDGED = -1


@dataclass(frozen=True, eq=False)
class Judged:
    """Query-document pairs with judgements and predictions. One row per pair, in any order.

    Arrays are not copied if their type allows, and must not be changed afterwards. Pass only what
    the metrics need: ``scores`` to rank, ``predictions`` to classify, ``probabilities`` for calibration.

    Parameters
    ----------
    query_ids
        Integers or strings. Shape [N].
    labels
        The judgements, as indices into `classes` (see `label_codes`); -1 is a document that was returned but not
        judged, which ranking metrics treat as trec_eval does: it takes a rank and has gain 0. Shape [N].
    scores
        Higher ranks first. NaN means that the document was not returned: it is not in the ranking, but its gain counts
        in the ideal one, and a query with only NaN has the value 0. Infinite scores are legal. Equal scores are
        a tie; see each metric. Shape [N].
    predictions
        Predicted labels, as indices into `classes`. Shape [N].
    probabilities
        Of every class; rows add up to 1. Shape [N, C].
    classes
        What the indices mean.

    Raises
    ------
    UserError
        If there is no pair at all.
    ValueError
        If lengths differ, or an array has the wrong type or values out of range.

    Examples
    --------
    >>> judged = Judged([1, 1, 2], label_codes(["E", "I", "S"]), scores=[0.2, 0.9, 0.5])
    >>> nDCG()(judged)
    0.8154648767857288
    """

    query_ids: NDArray[Any]
    labels: NDArray[np.intp]
    scores: NDArray[np.float64] | None = None
    predictions: NDArray[np.intp] | None = None
    probabilities: NDArray[np.float64] | None = None
    classes: tuple[str, ...] = LABELS

    def __post_init__(self) -> None:
        ids = np.asarray(self.query_ids)
        if ids.ndim == 1 and not len(ids):
            raise UserError("There are no judged pairs to measure.", remedy="Check the split and the filters in use.")
        if ids.ndim != 1 or ids.dtype.kind not in "iuUSOT":
            raise ValueError(f"query_ids must be a list of integers or strings, not {ids.dtype} of shape {ids.shape}")
        pairs, classes = len(ids), len(self.classes)
        checked: dict[str, Any] = {
            "query_ids": ids,
            "labels": _indices("labels", self.labels, pairs, UNJUDGED, classes),
            "classes": tuple(self.classes),
        }
        if self.scores is not None:
            checked["scores"] = _floats("scores", self.scores, (pairs,))
        if self.predictions is not None:
            checked["predictions"] = _indices("predictions", self.predictions, pairs, 0, classes)
        if self.probabilities is not None:
            checked["probabilities"] = _distributions(self.probabilities, (pairs, classes))
        for name, array in checked.items():
            object.__setattr__(self, name, array)  # a frozen dataclass has no other way to convert its fields

    @property
    def queries(self) -> NDArray[Any]:
        """The distinct query ids, ascending: the order of every array per query. Shape [Q]."""
        return self._grouping[0]

    @property
    def query_index(self) -> NDArray[np.intp]:
        """Where each pair's query stands in `queries`. Shape [N]."""
        return self._grouping[1]

    @property
    def ranks(self) -> bool:
        """Whether a query has several documents, or one that was not returned: a single one has no order."""
        partly = self.scores is not None and bool(np.isnan(self.scores).any())
        return partly or len(self.queries) < len(self.labels)

    @cached_property
    def _grouping(self) -> tuple[NDArray[Any], NDArray[np.intp]]:
        try:
            queries, index = np.unique(self.query_ids, return_inverse=True)
        except TypeError as error:  # objects that cannot be compared, such as None beside strings
            raise UserError("Query ids are of mixed types, or some are missing.") from error
        return queries, index.astype(np.intp, copy=False)

    @cached_property
    def tied_groups(self) -> TiedGroups:
        """The ranking by the scores.

        Raises
        ------
        ValueError
            If there are no scores.
        """
        if self.scores is None:
            raise ValueError("a ranking metric needs scores")
        return TiedGroups.of(self.query_index, self.labels, self.scores, len(self.classes))

    @cached_property
    def label_counts(self) -> NDArray[np.intp]:
        """How many pairs of each label a query has, returned or not. Shape [Q, C]."""
        width = len(self.classes) + 1  # the first column takes the documents without a judgement
        counts = np.bincount(self.query_index * width + self.labels + 1, minlength=len(self.queries) * width)
        return counts.reshape(-1, width)[:, 1:]

    def sum_by_query(self, values_NX: NDArray[Any]) -> NDArray[np.float64]:
        """Add up values of pairs over each query. Shape [N, X] to [Q, X]."""
        sums = [np.bincount(self.query_index, weights=column, minlength=len(self.queries)) for column in values_NX.T]
        return np.stack(sums, axis=1)

    @property
    def truth(self) -> NDArray[np.intp]:
        """The labels, for metrics that need every pair judged. Shape [N].

        Raises
        ------
        ValueError
            If some are not judged.
        """
        if (self.labels == UNJUDGED).any():
            raise ValueError("classification and calibration need a judgement for every pair")
        return self.labels

    def index_of(self, label: str) -> int:
        """Return the index of a label in `classes`.

        Raises
        ------
        UserError
            If there is no such label.
        """
        if label not in self.classes:
            raise UserError(f"There is no label {label!r} here.", remedy=suggest(label, self.classes))
        return self.classes.index(label)

    def select(self, rows: NDArray[Any]) -> "Judged":
        """Take some of the pairs, such as those of one locale, by a mask or by indices."""
        arrays = ("query_ids", "labels", "scores", "predictions", "probabilities")
        given = {name: getattr(self, name) for name in arrays if getattr(self, name) is not None}
        return dataclasses.replace(self, **{name: array[rows] for name, array in given.items()})

    def in_random_order(self) -> "Judged":
        """Set all scores equal: each ranking metric is then its exact expected value over all random orders."""
        return dataclasses.replace(self, scores=np.zeros(len(self.labels)))

    def always(self, label: str) -> "Judged":
        """Predict one label for all pairs: the simplest baseline."""
        return dataclasses.replace(self, predictions=np.full(len(self.labels), self.index_of(label)))


def label_codes(labels: ArrayLike, classes: tuple[str, ...] = LABELS) -> NDArray[np.intp]:
    """Turn labels into indices.

    Parameters
    ----------
    labels
        Strings. Shape [N].
    classes
        The labels that exist.

    Returns
    -------
    NDArray[np.intp]
        Indices into `classes`. Shape [N].

    Raises
    ------
    UserError
        If a label is unknown; names the first such row, counted from 1.
    """
    given = np.asarray(labels)
    codes = np.full(given.shape, -1, dtype=np.intp)
    for code, label in enumerate(classes):
        codes[given == label] = code
    unknown = np.flatnonzero(codes < 0)
    if len(unknown):
        label = str(given[unknown[0]])
        raise UserError(f"Unknown label {label!r} in row {unknown[0] + 1}.", remedy=suggest(label, classes))
    return codes


def _indices(name: str, given: ArrayLike, pairs: int, low: int, classes: int) -> NDArray[np.intp]:
    array = np.asarray(given)
    if array.shape != (pairs,):
        raise ValueError(f"{name} has shape {array.shape}, but there are {pairs} pairs")
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be indices into the classes, not {array.dtype}: see label_codes")
    if array.min() < low or array.max() >= classes:
        raise ValueError(f"{name} must lie in {low}..{classes - 1}, not {array.min()}..{array.max()}")
    return array.astype(np.intp, copy=False)


def _floats(name: str, given: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    array = np.asarray(given)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, but {shape} is needed")
    return array.astype(np.float64, copy=False)


def _distributions(given: ArrayLike, shape: tuple[int, int]) -> NDArray[np.float64]:
    array = _floats("probabilities", given, shape)
    # Written so that NaN fails too. The tolerance is that of probabilities stored in half precision.
    if not ((array >= 0).all() and (np.abs(array.sum(axis=1) - 1) <= 1e-3).all()):
        raise ValueError("probabilities must not be negative, and each row must add up to 1")
    return array
