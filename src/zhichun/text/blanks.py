"""Which characters only separate words: punctuation, symbols, separators and control characters."""

import functools
import unicodedata
from typing import Final

import numpy as np
import numpy.typing as npt

CODE_POINTS: Final = 0x110000
SPACE: Final = 0x20
# First letters of the Unicode general categories: punctuation, symbol, separator, other (control, format, unassigned).
CATEGORIES: Final = b"PSZC"
# These two only choose how the symbol before them is drawn, so they go where it goes; an emoji would leave them behind.
PRESENTATION_SELECTORS: Final = (0xFE0E, 0xFE0F)


@functools.cache
def blank_code_points() -> npt.NDArray[np.bool_]:
    """Tell for every code point whether it only separates words.

    Returns
    -------
    NDArray[bool]
        ``[0x110000]``, read-only, built once per process in about a tenth of a second.
    """
    categories = "".join(map(unicodedata.category, map(chr, range(CODE_POINTS)))).encode("ascii")
    blank = np.isin(np.frombuffer(categories, np.uint8)[::2], list(CATEGORIES))
    blank[list(PRESENTATION_SELECTORS)] = True
    blank.flags.writeable = False
    return blank
