"""How many words a text has, in any script: a length in the size of tokens that needs no tokenizer.

A run of letters, digits and marks is one word; each Chinese or Japanese character is one, since these scripts put no
spaces between words. Punctuation, symbols and spaces only separate. Legend: ``B`` texts, ``L`` characters of all.
"""

import functools
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from zhichun.text.blanks import blank_code_points

_BLANK: Final = 0
_LETTER: Final = 1
_ALONE: Final = 2
# Han, then all that is written without spaces: Hiragana and Katakana too. With their extensions, compatibility and
# half-width forms; first and last code points.
HAN_RANGES: Final = ((0x3005, 0x3007), (0x3400, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
UNSPACED_RANGES: Final = (*HAN_RANGES, (0x3041, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F))


def word_counts(texts: Sequence[str | None]) -> npt.NDArray[np.int64]:
    """Count the words of each text.

    Parameters
    ----------
    texts
        Texts; None has none.

    Returns
    -------
    NDArray[int64]
        ``[B]``.
    """
    written = [text or "" for text in texts]
    # The line feed after each text ends its last word.
    codes_L = np.frombuffer("".join(f"{text}\n" for text in written).encode("utf-32-le"), np.uint32)
    kind_L = _kinds()[codes_L]
    is_letter_L = kind_L == _LETTER
    starts_L = is_letter_L.copy()
    starts_L[1:] &= ~is_letter_L[:-1]
    starts_L |= kind_L == _ALONE
    borders_B1 = np.cumsum([0, *(len(text) + 1 for text in written)])
    return np.diff(np.searchsorted(np.flatnonzero(starts_L), borders_B1))


@functools.cache
def _kinds() -> npt.NDArray[np.uint8]:
    """Tell for every code point whether it separates, is part of a word, or is one by itself."""
    blank = blank_code_points()
    kinds = np.full(len(blank), _LETTER, np.uint8)
    for first, last in UNSPACED_RANGES:
        kinds[first : last + 1] = _ALONE
    kinds[blank] = _BLANK
    kinds.flags.writeable = False
    return kinds
