"""Counting the trigrams of a whole catalogue, to choose those that get a vector.

Legend: ``V`` distinct trigrams.
"""

from typing import Final

import numpy as np

from zhichun.text.trigrams.bags import Int64, Keys, Texts, TrigramVocabulary, trigram_keys

# Keys gathered before they are counted: 32 MB.
PENDING_KEYS: Final = 1 << 22


class TrigramCounter:
    """Counts the trigrams of a corpus of any size, given in batches.

    Memory grows with the number of distinct trigrams, not with the text; the order and size of batches change nothing.
    """

    def __init__(self) -> None:
        self._pending: list[Keys] = []
        self._pending_keys = 0
        # Distinct keys in ascending order with their counts; each part is at least twice as long as the next.
        self._parts: list[tuple[Keys, Int64]] = []

    def update(self, texts: Texts) -> None:
        """Count the trigrams of a batch of texts."""
        keys_N, _ = trigram_keys(texts)
        self._pending.append(keys_N)
        self._pending_keys += len(keys_N)
        if self._pending_keys >= PENDING_KEYS:
            self._settle()

    def counts(self) -> tuple[Keys, Int64]:
        """Return what was counted so far.

        Returns
        -------
        keys_V : NDArray[uint64]
            The distinct trigrams in ascending order.
        counts_V : NDArray[int64]
            How often each was seen.
        """
        self._settle()
        while len(self._parts) > 1:
            self._parts.append(_merge(self._parts.pop(), self._parts.pop()))
        return self._parts[0]

    def finish(self, min_count: int = 15, keep: Keys | None = None) -> TrigramVocabulary:
        """Choose the trigrams that get a vector.

        Parameters
        ----------
        min_count
            A trigram must be seen so often; 15 as in the paper's Word2vec.
        keep
            Trigrams that get one however rarely they were counted: those of the training queries.
        """
        keys_V, counts_V = self.counts()
        known = counts_V >= min_count
        if keep is not None:
            known |= np.isin(keys_V, keep)
        return TrigramVocabulary.build(keys_V[known], counts_V[known])

    def _settle(self) -> None:
        part = np.unique(np.concatenate([np.zeros(0, np.uint64), *self._pending]), return_counts=True)
        self._pending.clear()
        self._pending_keys = 0
        # Only parts of like length are merged, so that each key is moved a logarithmic number of times.
        while self._parts and len(self._parts[-1][0]) < 2 * len(part[0]):
            part = _merge(self._parts.pop(), part)
        self._parts.append(part)


def _merge(one: tuple[Keys, Int64], other: tuple[Keys, Int64]) -> tuple[Keys, Int64]:
    keys = np.concatenate([one[0], other[0]])
    if not len(keys):
        return one
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    firsts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    return keys[firsts], np.add.reduceat(np.concatenate([one[1], other[1]])[order], firsts)
