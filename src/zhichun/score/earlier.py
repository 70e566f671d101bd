"""Scores of an earlier job, found by a hash of what they depend on: the model, the query and the product's texts.

In models that read lists a score depends on the whole list, and so does its key. Of each pair 24 bytes are held.

Legend: ``P`` pairs, ``K`` pairs of the earlier job.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from zhichun.core.arrays import Int64
from zhichun.core.errors import UserError, readable
from zhichun.core.storage import Folder
from zhichun.score.job_folder import MANIFEST, SUCCESS
from zhichun.text.document import PairTexts

KEY: Final = "pair_key"
KEY_BYTES: Final = 16
_PARTS_HELD: Final = 8
REMEDY: Final = "Run the earlier job again, which makes the part anew, or leave --since out."
Keys = npt.NDArray[np.uint64]


def pair_keys(model: str, texts: PairTexts, lists: Sequence[Any] | None) -> Keys:
    """Hash what each pair's score depends on, ``[P, 2]``.

    Parameters
    ----------
    model
        The model with its engine.
    texts
        Of the pairs, as they are scored.
    lists
        List of each pair, for models that read lists.
    """
    names = sorted(texts.products)
    columns = zip(texts.queries, texts.locales, *(texts.products[name] for name in names), strict=True)
    start = hashlib.blake2b(repr((model, names)).encode(), digest_size=KEY_BYTES)
    keys = [_hashed(start, "".join(f"{len(text or '')}:{text or ''}" for text in each)) for each in columns]
    if lists is not None:
        of_list: dict[Any, set[bytes]] = {}
        for name, key in zip(lists, keys, strict=True):
            of_list.setdefault(name, set()).add(key)
        whole = {name: b"".join(sorted(found)) for name, found in of_list.items()}
        keys = [
            hashlib.blake2b(key + whole[name], digest_size=KEY_BYTES).digest()
            for name, key in zip(lists, keys, strict=True)
        ]
    return np.frombuffer(b"".join(keys), np.uint64).reshape(-1, 2)


def _hashed(start: Any, text: str) -> bytes:
    digest = start.copy()
    digest.update(text.encode("utf-8", "surrogatepass"))
    return bytes(digest.digest())


def key_column(keys_P2: Keys) -> pa.Array:
    """Return keys as a column."""
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(KEY_BYTES), len(keys_P2), [None, pa.py_buffer(np.ascontiguousarray(keys_P2))]
    )


class Earlier:
    """The parts of a finished job.

    Parameters
    ----------
    folder
        Where it is.

    Raises
    ------
    UserError
        When no finished job is there.
    """

    def __init__(self, folder: Folder) -> None:
        names = folder.names()
        if MANIFEST not in names or SUCCESS not in names:
            problem = "is not finished." if MANIFEST in names else "holds no scored parts."
            raise UserError(problem, file=str(folder), remedy="Give the folder of a finished zhichun score.")
        self._folder = folder
        with folder.open(MANIFEST) as first, folder.open(SUCCESS) as second:
            self.fingerprint = hashlib.sha256(first.read() + second.read()).hexdigest()[:16]
        self._parts = [name for name in names if name.startswith("part-") and name.endswith(".parquet")]
        keys = [self._keys(part) for part in range(len(self._parts))]
        first_K = np.concatenate([np.zeros(0, np.uint64), *(of[:, 0] for of in keys)])
        part_K = np.repeat(np.arange(len(keys), dtype=np.int32), [len(of) for of in keys])
        row_K = np.concatenate([np.zeros(0, np.int32), *(np.arange(len(of), dtype=np.int32) for of in keys)])
        order_K = np.argsort(first_K, kind="stable")
        self._first_K, self._part_K, self._row_K = first_K[order_K], part_K[order_K], row_K[order_K]
        self._scores = lru_cache(_PARTS_HELD)(self._read)

    def find(self, keys_P2: Keys, columns: pa.Table) -> tuple[npt.NDArray[np.bool_], pa.Table]:
        """Find pairs: which are known, ``[P]``, and the scores of these.

        Parameters
        ----------
        keys_P2
            Of `pair_keys`.
        columns
            The columns that scores have.
        """
        place_P = np.searchsorted(self._first_K, keys_P2[:, 0])
        known_P = place_P < len(self._first_K)
        known_P[known_P] = self._first_K[place_P[known_P]] == keys_P2[known_P, 0]
        found, places = [columns.slice(0, 0)], [np.zeros(0, np.int64)]
        for part in np.unique(self._part_K[place_P[known_P]]).tolist():
            scores, of_part_R2 = self._scores(part, tuple(columns.column_names))
            at = np.flatnonzero(known_P)
            at = at[self._part_K[place_P[at]] == part]
            row = self._row_K[place_P[at]]
            same = of_part_R2[row, 1] == keys_P2[at, 1]
            known_P[at[~same]] = False
            found.append(scores.take(pa.array(row[same])).cast(columns.schema))
            places.append(at[same])
        order: Int64 = np.argsort(np.concatenate(places))
        return known_P, pa.concat_tables(found).take(pa.array(order))

    @contextmanager
    def _opened(self, part: int) -> Iterator[pq.ParquetFile]:
        name = self._parts[part]
        with (
            readable(f"{self._folder}/{name}", REMEDY, pa.ArrowException, StopIteration),
            self._folder.open(name) as file,
        ):
            yield pq.ParquetFile(file)

    def _keys(self, part: int) -> Keys:
        with self._opened(part) as found:
            name = next(name for name in reversed(found.schema_arrow.names) if name.endswith(KEY))
            column = found.read([name]).column(0).combine_chunks()
            return np.frombuffer(b"".join(column.to_pylist()), np.uint64).reshape(-1, 2)

    def _read(self, part: int, columns: tuple[str, ...]) -> tuple[pa.Table, Keys]:
        with self._opened(part) as found:
            prefix = found.schema_arrow.names[-1].removesuffix(KEY)
            scores = found.read([prefix + name for name in columns])
        return scores.rename_columns(list(columns)), self._keys(part)
