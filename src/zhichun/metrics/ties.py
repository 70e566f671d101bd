"""A ranking as groups of equal score: all that a ranking metric needs, whatever the order of the rows.

Documents with equal scores have no order among themselves, so a metric that reads one off the order of a file depends
on that order. Here a ranking is a list of *tied groups*, each with the number of its documents per label; a metric is
the expected value over all orders of the documents within each group. An untied document is a group of one.

Shapes: ``N`` pairs, ``G`` groups, ``Q`` queries, ``C`` classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
        """Group pairs by query and score.

        Parameters
        ----------
        query
            Index of each pair's query. Shape [N].
        labels
            Index of each pair's label, -1 where it was not judged. Shape [N].
        scores
            Higher ranks first; NaN leaves the document out. Infinite scores rank first or last. Shape [N].
        classes
            Number of labels.
        """
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
        """Add up the values of each query's groups; 0 for a query without any.

        Parameters
        ----------
        values_G
            One value per group. Shape [G].
        queries
            Number of queries, Q.

        Returns
        -------
        NDArray[np.float64]
            Shape [Q].
        """
        # Without a single group, bincount forgets the type of its weights.
        return np.bincount(self.query, weights=values_G, minlength=queries).astype(np.float64)
