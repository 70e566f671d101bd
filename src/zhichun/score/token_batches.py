"""Batches of like length under a token budget.

Legend: ``P`` pairs, ``B`` pairs of a batch.
"""

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


def length_sorted(rows: Rows, lengths: Rows, budget: int, most: int | None = None) -> list[Rows]:
    """Sort pairs by length and cut them so that no batch, once padded, holds more than ``budget`` tokens.

    Parameters
    ----------
    rows
        Which pairs, ``[P]``.
    lengths
        Tokens of each of these pairs, ``[P]``.
    budget
        Tokens a padded batch holds at most; a longer single pair is a batch by itself.
    most
        Pairs a batch holds at most; ``None`` sets no bound.

    Returns
    -------
    list
        Rows of each batch, from the longest pairs to the shortest, so that memory runs out at once or never.
    """
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        size = max(1, budget // max(1, int(lengths[order[start]])))
        size = size if most is None else min(size, most)
        batches.append(rows[order[start : start + size]])
        start += size
    return batches
