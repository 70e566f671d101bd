"""Texts of like length together, so that little is padded."""

from collections.abc import Iterator, Sequence
from typing import Final

BATCH_PIECES: Final = 4096


def batches_by_length(lengths: Sequence[int], most: int = BATCH_PIECES) -> Iterator[list[int]]:
    """Put texts of like length together.

    Parameters
    ----------
    lengths
        Pieces of each text; texts without any are left out.
    most
        Pieces of a batch, padding included.

    Yields
    ------
    list[int]
        The rows of one batch, longest first.
    """
    rows: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if not lengths[row]:
            break
        if rows and lengths[rows[0]] * (len(rows) + 1) > most:
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows
