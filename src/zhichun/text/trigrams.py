"""Character trigrams: the input of the multi-granular semantic unit, the same in training, scoring and serving.

A text is lower-cased, what only separates words (punctuation, symbols, spaces, control characters) becomes one space,
and outer spaces go. Its trigrams are all windows of three code points, stripped of outer spaces; a text of three or
fewer is one trigram, an empty one has none (docs/method.md). The authors' loop dropped the last window; here it
counts.

A trigram is stored as a *key*: its code points, 21 bits each, the first highest, zeros after a short one. Keys sort
like the trigrams they stand for, and a batch of texts becomes keys without a loop over characters.

Legend: ``B`` texts, ``B1`` one more, ``M`` code points, ``L`` code points after folding, ``N`` trigrams of all texts
together, ``V`` known trigrams, ``G`` size of a trigram's vector.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, AnyStr, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from zhichun.core.arrays import Bools, Int32, Int64, Ragged, write_parquet
from zhichun.core.errors import UserError, readable
from zhichun.text.vocabulary import CODE_POINTS, REMEDY, SPACE, blank_code_points, read_counted, write_counted

Texts = Sequence[str | None]
Keys = npt.NDArray[np.uint64]
Codes = npt.NDArray[np.uint32]
Vectors = npt.NDArray[np.float32]

COLUMN: Final = "trigram"
VECTOR: Final = "vector"
METADATA: Final = b"zhichun"
BITS: Final = np.uint64(21)
LOW: Final = np.uint64((1 << 21) - 1)
# As a base of numbers.
POINTS: Final = np.uint64(1 << 21)


def trigram_keys(texts: Texts) -> tuple[Keys, Int64]:
    """Cut texts into trigrams.

    Needs about 60 bytes of memory per code point while it runs, so pass a large corpus in batches.

    Parameters
    ----------
    texts
        Cleaned of markup; ``None`` counts as empty.

    Returns
    -------
    keys_N : NDArray[uint64]
        The trigrams of all texts in order, each as often as it occurs.
    offsets_B1 : NDArray[int64]
        Text ``b`` has ``keys_N[offsets_B1[b] : offsets_B1[b + 1]]``.
    """
    codes_L = _fold(texts)
    windows_L, whole_L = _windows(codes_L, POINTS)
    offsets_B1 = np.searchsorted(np.flatnonzero(whole_L), np.flatnonzero(codes_L == 0)[::2])
    return strip_keys(windows_L[whole_L]), offsets_B1


def trigram_windows(texts: Texts) -> Keys:
    """Cut texts into trigrams with their outer spaces, for those who count them and strip the distinct ones alone."""
    windows_L, whole_L = _windows(_fold(texts), POINTS)
    return windows_L[whole_L]


def western_windows(texts: Sequence[bytes]) -> npt.NDArray[np.int32]:
    """Cut texts in cp1252 into such trigrams, each a number of three digits to the base `len(western()[1])`."""
    ranks, letters = western()
    joined = _join(texts, b"\n", b" ").translate(ranks)
    windows_L, whole_L = _windows(_fold_blanks(np.frombuffer(joined, np.uint8), 1), np.int32(len(letters)))
    return windows_L[whole_L]


@cache
def western() -> tuple[bytes, Keys]:
    """Return which of the characters in trigrams each byte of cp1252 is, and these: a border, a space, the letters."""
    lowered = map(str.lower, bytes(range(256)).decode("cp1252", "replace"))
    letters, ranks = np.unique(_folded_code_points()[[*map(ord, lowered)]], return_inverse=True)
    return ranks.astype(np.uint8).tobytes(), letters.astype(np.uint64)


def _windows(codes_L: npt.NDArray[Any], base: Any) -> tuple[npt.NDArray[Any], Bools]:
    """Return all windows of three, and which do not reach out of their text but for that of a text of one or two."""
    wide_L = codes_L.astype(base.dtype)
    windows_L = wide_L[1:-2] * base
    windows_L += wide_L[2:-1]
    windows_L *= base
    windows_L += wide_L[3:]
    return windows_L, (codes_L[1:-2] != 0) & ((codes_L[3:] != 0) | (codes_L[:-3] == 0))


def strip_keys(keys_N: Keys) -> Keys:
    """Strip trigrams of outer spaces, in place: a trailing one is masked out, a leading one shifted out at the top."""
    keys_N[(keys_N & LOW) == SPACE] &= ~LOW
    keys_N[keys_N >> (BITS + BITS) == SPACE] <<= BITS
    return keys_N


def _fold(texts: Texts) -> Codes:
    """Lower-case texts and fold their blanks; two zeros stand before each text and after the last."""
    # One text at a time: lower case depends on what follows (the Greek final sigma).
    joined = _join([text.lower() if text else "" for text in texts], "\n", " ")
    codes_M = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    return _fold_blanks(_folded_code_points().take(codes_M), SPACE)


def _join(texts: Sequence[AnyStr], line_feed: AnyStr, space: AnyStr) -> AnyStr:
    border = line_feed + line_feed
    joined = border + border.join(texts) + border if texts else border
    if joined.count(line_feed) > 2 * len(texts) + 2:
        return _join([text.replace(line_feed, space) for text in texts], line_feed, space)
    return joined


def _fold_blanks(codes_M: npt.NDArray[Any], blank: int) -> npt.NDArray[Any]:
    """Keep one blank of several, and none at the ends of a text; zero is the border of texts."""
    kept_M = codes_M != blank
    kept_M[1:] |= codes_M[:-1] > blank  # the first blank after a letter
    codes_L = codes_M[kept_M]
    kept_L = codes_L != blank
    kept_L[:-1] |= codes_L[1:] != 0  # but not at the end of a text
    return codes_L[kept_L]


@cache
def _folded_code_points() -> Codes:
    """Return what each code point is in a trigram: a space for all that only separate, zero for the border of texts."""
    codes = np.arange(CODE_POINTS, dtype=np.uint32)
    codes[blank_code_points()] = SPACE
    codes[ord("\n")] = 0
    codes.flags.writeable = False
    return codes


def key_to_text(keys_N: Keys) -> list[str]:
    """Convert keys to trigrams."""
    codes_N3 = np.stack([keys_N >> (BITS + BITS), keys_N >> BITS & LOW, keys_N & LOW], axis=1).astype(np.uint32)
    trigrams: list[str] = codes_N3.view("U3").ravel().tolist()
    return trigrams


def text_to_key(trigrams: Sequence[str]) -> Keys:
    """Convert trigrams to keys; the inverse of :func:`key_to_text`."""
    for trigram in trigrams:
        if not 1 <= len(trigram) <= 3:
            raise ValueError(f"{trigram!r} has {len(trigram)} characters; a trigram has 1 to 3.")
    codes_N3 = np.array(trigrams, "U3").view(np.uint32).reshape(-1, 3).astype(np.uint64)
    return codes_N3[:, 0] << (BITS + BITS) | codes_N3[:, 1] << BITS | codes_N3[:, 2]


@dataclass(frozen=True, eq=False)
class TrigramVocabulary:
    """The trigrams with an embedding. Id 0 is padding; unknown trigrams are left out of the bag.

    Parameters
    ----------
    keys_V, counts_V
        Known trigrams, distinct, and how often each was seen; the first has id 1.
    """

    keys_V: Keys
    counts_V: Int64

    @classmethod
    def build(
        cls, keys_V: Keys, counts_V: Int64, min_count: int = 15, keep: Texts | None = None
    ) -> "TrigramVocabulary":
        """Choose the trigrams that get an embedding; ids are by count descending, then by key.

        Parameters
        ----------
        keys_V, counts_V
            Trigrams, distinct, and how often each was seen.
        min_count
            A trigram must be seen at least this often; 15 as in the paper's Word2vec.
        keep
            Texts whose trigrams get one with any count: the training queries.
        """
        known_V = counts_V >= min_count
        if keep is not None:
            known_V |= np.isin(keys_V, trigram_keys(keep)[0])
        keys_V, counts_V = keys_V[known_V], counts_V[known_V]
        order = np.lexsort((keys_V, -counts_V))
        return cls(keys_V[order], counts_V[order])

    def __len__(self) -> int:
        """Rows of the embedding table: the known trigrams and the padding."""
        return len(self.keys_V) + 1

    @cached_property
    def _sorted(self) -> tuple[Keys, Int32]:
        """Keys in ascending order and their ids, closed by a key above all others without an id."""
        order = np.argsort(self.keys_V)
        keys = np.append(self.keys_V[order], np.iinfo(np.uint64).max)
        return keys, np.append(order + 1, 0).astype(np.int32)

    def ids(self, texts: Texts) -> tuple[Int32, Int64]:
        """Look up the trigrams of texts.

        Returns
        -------
        ids_N : NDArray[int32]
            Ids of the known trigrams of all texts in order, each as often as it occurs.
        offsets_B1 : NDArray[int64]
            Where each text begins, as in :func:`trigram_keys`.
        """
        keys_N, offsets_B1 = trigram_keys(texts)
        sorted_keys, sorted_ids = self._sorted
        place = np.searchsorted(sorted_keys, keys_N)
        known_N = sorted_keys[place] == keys_N
        return sorted_ids[place[known_N]], np.searchsorted(np.flatnonzero(known_N), offsets_B1)

    def bags(self, fields: Sequence[Texts]) -> Ragged:
        """Look up the trigrams of several fields as one bag per row; no trigram spans two fields."""
        ids_N, offsets = self.ids([text for row in zip(*fields, strict=True) for text in row])
        return Ragged.from_flat(ids_N, offsets[:: len(fields)])

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that determines a text's ids."""
        return hashlib.sha256(self.keys_V.astype("<u8").tobytes()).hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write the Parquet columns ``trigram`` and ``count``, in the order of the ids from 1.

        Raises
        ------
        UserError
            When the file cannot be written.
        """
        write_counted(path, COLUMN, key_to_text(self.keys_V), self.counts_V)

    @classmethod
    def load(cls, path: Path) -> "TrigramVocabulary":
        """Read what :meth:`save` wrote.

        Raises
        ------
        UserError
            When the file is missing, damaged or not such a vocabulary.
        """
        trigrams, counts_V = read_counted(path, COLUMN)
        try:
            return cls(text_to_key(trigrams), counts_V)
        except ValueError as error:
            raise UserError(str(error), file=path, remedy=REMEDY) from error


def vectors_path(vocabulary: Path, size: int) -> Path:
    """Name the file of the vectors of one size in a dataset's ``vocabulary/``."""
    return vocabulary / f"trigram_vectors-{size}.parquet"


@dataclass(frozen=True, eq=False)
class TrigramVectors:
    """A vector for every trigram of a vocabulary.

    Parameters
    ----------
    vectors_VG
        Float32; row ``v`` belongs to id ``v + 1``.
    vocabulary
        The trigrams.
    made_by
        How the vectors were made: names to JSON values.
    """

    vectors_VG: Vectors
    vocabulary: TrigramVocabulary
    made_by: Mapping[str, Any]

    def table(self) -> Vectors:
        """Return the vectors as an embedding table, ``[V + 1, G]``; row 0, padding, is zeros."""
        return np.concatenate([np.zeros((1, self.vectors_VG.shape[1]), np.float32), self.vectors_VG])

    def save(self, path: Path) -> None:
        """Write the file; it appears under its name only when it is complete."""
        flat = pa.array(self.vectors_VG.ravel(), pa.float32())
        columns = {
            COLUMN: pa.array(key_to_text(self.vocabulary.keys_V), pa.string()),
            VECTOR: pa.FixedSizeListArray.from_arrays(flat, self.vectors_VG.shape[1]),
        }
        described = {"vocabulary": self.vocabulary.fingerprint, "made_by": dict(self.made_by)}
        table = pa.table(columns).replace_schema_metadata({METADATA: json.dumps(described, sort_keys=True)})
        write_parquet(path, table)

    @classmethod
    def load(cls, folder: Path, vocabulary: TrigramVocabulary, size: int) -> "TrigramVectors":
        """Read the vectors of a vocabulary.

        Parameters
        ----------
        folder
            The ``vocabulary/`` of a dataset.
        vocabulary
            Its trigrams.
        size
            Size of a vector, ``G``.

        Raises
        ------
        UserError
            When there are none of that size, they belong to another vocabulary, or the file is damaged.
        """
        path = vectors_path(folder, size)
        remedy = f"Make them with: zhichun word2vec {folder.parent} --size {size}"
        if not path.is_file():
            raise UserError(f"there are no trigram vectors of size {size}.", file=path, remedy=remedy)
        with readable(path, remedy, KeyError, TypeError, AttributeError, pa.ArrowException):
            table = pq.ParquetFile(path).read()
            described = json.loads(table.schema.metadata[METADATA])
            flat = table.column(VECTOR).combine_chunks().values.to_numpy()
        if described.get("vocabulary") != vocabulary.fingerprint or table.num_rows != len(vocabulary.keys_V):
            raise UserError("the vectors belong to another vocabulary of trigrams.", file=path, remedy=remedy)
        if flat.dtype != np.float32 or len(flat) != table.num_rows * size:
            raise UserError(f"the vectors are not {size} float32 each.", file=path, remedy=remedy)
        return cls(flat.reshape(-1, size), vocabulary, described["made_by"])
