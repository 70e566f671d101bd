"""The vocabularies of a dataset folder: its brands, its colors and its trigrams.

They are counted in the folder's own tables, whose texts are clean as :class:`zhichun.text.features.Featurizer` cleans
them, as in the model's look-up. Synthetic products are not counted.
Files are read in batches: 1.8 million products fit in bounded memory.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zhichun.core import schema
from zhichun.core.arrays import Int64
from zhichun.data.dataset.dataset import Progress
from zhichun.text.trigrams import BITS, Keys, TrigramCounter, TrigramVocabulary, merged, strip_keys
from zhichun.text.vocabulary import Vocabulary
from zhichun.text.words import SPACE, blank_code_points

FOLDER: Final = "vocabulary"
# Two thousand products are 2 to 5 million characters, and counting the rare letters needs 60 bytes for each.
BATCH_ROWS: Final = 2048
# A brand or color gets a vector when it is seen at least this often, as in the paper.
MIN_COUNT: Final = 2


def write_vocabularies(folder: Path, min_count_trigram: int, progress: Progress) -> dict[str, int]:
    """Write ``brands.parquet``, ``colors.parquet`` and ``trigrams.parquet``, and count the entries of each.

    Trigrams are counted over all fields of the catalogue and over the distinct queries of the training split. Queries
    of other splits are not looked at.
    """
    examples = pq.read_table(folder / schema.EXAMPLES_FILE, columns=[schema.QUERY, schema.SPLIT])
    in_training = pc.equal(examples.column(schema.SPLIT), schema.TRAIN)
    # Distinct ones: a query that was judged against more products does not count for more.
    queries = pc.unique(examples.column(schema.QUERY).filter(in_training)).cast(pa.large_string())
    trigrams = CatalogueTrigrams()
    trigrams.update(queries)
    values: dict[str, list[pa.Array]] = {schema.BRAND: [], schema.COLOR: []}
    with pq.ParquetFile(folder / schema.PRODUCTS_FILE) as file:
        done, total = 0, file.metadata.num_rows
        for batch in file.iter_batches(BATCH_ROWS, columns=[*schema.TEXT_COLUMNS, schema.ORIGIN]):
            products = batch.filter(pc.equal(batch.column(schema.ORIGIN), schema.CATALOGUE))
            for name in schema.TEXT_COLUMNS:
                trigrams.update(products.column(name))
            for name, chunks in values.items():
                chunks.append(products.column(name))
            done += batch.num_rows
            progress("vocabularies", done, total)
    brands, colors = (Vocabulary.build(pa.chunked_array(chunks, pa.string()), MIN_COUNT) for chunks in values.values())
    vocabularies: dict[str, Vocabulary | TrigramVocabulary] = {
        "brands": brands,
        "colors": colors,
        "trigrams": TrigramVocabulary.build(*trigrams.counts(), min_count_trigram, queries.to_pylist()),
    }
    for name, vocabulary in vocabularies.items():
        vocabulary.save(folder / FOLDER / f"{name}.parquet")
    return {name: len(vocabulary) - 1 for name, vocabulary in vocabularies.items()}


Codes = npt.NDArray[np.uint8]

LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789áéíóúüñçàèìòùâêîôûäöëïãõå"
# One byte a character: a blank, a letter, any other character, the border between two texts.
_BLANK: Final = 0
_OTHER: Final = 62
_BORDER: Final = 63
_CODES: Final = 64
_BORDER_SIGN: Final = "\n"
_JAPANESE: Final = r"[\x{3041}-\x{9fff}]"


class CatalogueTrigrams:
    """Counts the trigrams of cleaned texts; memory grows only with the number of distinct trigrams.

    Those of `LETTERS` and blanks alone, which most are, are cells of a table; `TrigramCounter` counts the rest.
    """

    def __init__(self) -> None:
        self._cells = np.zeros(_CODES**3, np.int64)
        self._pairs = np.zeros(_CODES**2, np.int64)
        self._rest = TrigramCounter()

    def update(self, texts: Any) -> None:
        """Count the trigrams of a batch of texts."""
        texts, others = _parted(texts.drop_null().cast(pa.large_string()), pc.string_is_ascii)
        joined = _BORDER_SIGN.join(texts.to_pylist()).encode("ascii")
        self._count(_code_points().take(np.frombuffer(joined, np.uint8)))
        # There is no need to look at each character of a Japanese text to know that it goes to the rest.
        strange, others = _parted(others, lambda texts: pc.match_substring_regex(texts, _JAPANESE))
        self._rest.update(strange.to_pylist())
        if len(others):
            codes_L, strange_B = _unicode_codes(others)
            self._count(codes_L)
            self._rest.update(others.filter(pa.array(strange_B)).to_pylist())

    def counts(self) -> tuple[Keys, Int64]:
        """Return what was counted so far."""
        known = len(LETTERS) + 1
        cube = self._cells.reshape(_CODES, _CODES, _CODES)
        threes = np.nonzero(cube[:known, :known, :known])
        # A text of one character is a window between borders; one of two has no window of its own.
        ones = cube[_BORDER, :known, _BORDER]
        (one,) = np.nonzero(ones)
        square = self._pairs.reshape(_CODES, _CODES)
        twos = np.nonzero(square)
        return merged(
            [
                (strip_keys(_keys(*threes)), cube[threes]),
                (_keys(*twos), square[twos]),
                (_keys(one), ones[one]),
                self._rest.counts(),
            ]
        )

    def _count(self, codes_L: Codes) -> None:
        """Count windows of three. Texts are separated by borders."""
        codes_L = _fold_blanks(np.pad(codes_L, 1, constant_values=_BORDER)).astype(np.int32)
        windows = codes_L[:-2] << 12 | codes_L[1:-1] << 6 | codes_L[2:]
        self._cells += np.bincount(windows, minlength=_CODES**3)
        border = codes_L == _BORDER
        twos = np.flatnonzero(border[:-3] & border[3:] & ~border[1:-2] & ~border[2:-1])
        self._pairs += np.bincount(codes_L[twos + 1] << 6 | codes_L[twos + 2], minlength=_CODES**2)


def _parted(texts: Any, test: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Split texts into those that pass a test and the others."""
    passed = test(texts)
    return texts.filter(passed), texts.filter(pc.invert(passed))


def _unicode_codes(texts: Any) -> tuple[Codes, npt.NDArray[np.bool_]]:
    """Encode texts in lower case, and tell which have other letters; these are left empty."""
    # The border is no letter, so that lowering all at once is lowering each (the final sigma looks at its neighbours).
    lowered = _BORDER_SIGN.join(texts.to_pylist()).lower()
    codes_L = _code_points().take(np.frombuffer(lowered.encode("utf-32-le"), "<u4"))
    borders = np.flatnonzero(codes_L == _BORDER)
    strange_B = np.zeros(len(borders) + 1, np.bool_)
    strange_B[np.searchsorted(borders, np.flatnonzero(codes_L == _OTHER))] = True
    codes_L[np.repeat(strange_B, np.diff(borders, prepend=-1, append=len(codes_L) - 1))] = _BORDER
    return codes_L, strange_B


def _fold_blanks(codes_L: Codes) -> Codes:
    """Fold runs of blanks, and remove blanks at borders."""
    blank = codes_L == _BLANK
    codes_L = codes_L[~(blank & np.append(False, blank[:-1]))]
    border = codes_L == _BORDER
    beside = np.append(False, border[:-1]) | np.append(border[1:], False)
    folded_L: Codes = codes_L[~((codes_L == _BLANK) & beside)]
    return folded_L


@cache
def _code_points() -> Codes:
    """Return the code of every code point; capital ASCII letters have that of the small ones."""
    codes = np.where(blank_code_points(), _BLANK, _OTHER).astype(np.uint8)
    for code, letter in enumerate(LETTERS, start=1):
        codes[ord(letter)] = code
        if letter.isascii():
            codes[ord(letter.upper())] = code
    codes[ord(_BORDER_SIGN)] = _BORDER
    return codes


def _keys(*codes: npt.NDArray[np.intp]) -> Keys:
    """Return the keys of trigrams by the codes of their characters, of which there may be fewer than three."""
    code_points = np.array([SPACE, *map(ord, LETTERS)], np.uint64)
    keys = np.zeros(len(codes[0]), np.uint64)
    for place in range(3):
        keys = keys << BITS | (code_points[codes[place]] if place < len(codes) else np.uint64(0))
    return keys
