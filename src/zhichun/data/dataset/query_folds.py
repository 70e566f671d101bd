"""Folds and the test split, from a hash of the query.

The hash of a query selects one of 20 buckets; four buckets are a fold of five, and bucket 0 is the one twentieth on
which the final models validate (docs/method.md: 10 buckets, two a fold; these are halves of them). Queries that
differ in case, white space or Unicode form are one query here, in every locale, so that no test query is
in training.

The hash is BLAKE2b: the same on every machine and in every version of Python, unlike ``hash``.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from zhichun.core.errors import UserError
from zhichun.text.fold import fold_query

BUCKETS: Final = 20
# The validation set of a model that is trained on all five folds.
VALIDATION_BUCKET: Final = 0
_MAX_FOLDS: Final = 127  # folds are stored as int8

# One hash for folds and another for the split: with the same, the test set would be taken from some folds only.
_FOLD_SALT: Final = b"fold"
_SPLIT_SALT: Final = b"split"


def query_bucket(query: str, buckets: int = BUCKETS) -> int:
    """Return the bucket of a query."""
    return _hash(query, _FOLD_SALT) % buckets


def query_fold(query: str, folds: int = 5) -> int:
    """Return the fold of a query."""
    if BUCKETS % folds == 0:
        return query_bucket(query) * folds // BUCKETS
    return query_bucket(query, folds)


def buckets_of(queries: Sequence[str], buckets: int = BUCKETS) -> NDArray[np.int64]:
    """Return the buckets of many queries; see `query_bucket`."""
    return np.fromiter((query_bucket(query, buckets) for query in queries), np.int64, len(queries))


def in_test(query: str, test_share: float) -> bool:
    """Return whether a query is in the test split, by a hash that is independent of its fold."""
    return _hash(query, _SPLIT_SALT) < test_share * 2**64


def least_share(query: str) -> float:
    """Return the smallest test share that includes a query."""
    return _hash(query, _SPLIT_SALT) / 2**64


def check_folds(folds: int) -> None:
    """Refuse an invalid number of folds."""
    if not 2 <= folds <= _MAX_FOLDS:
        raise UserError(f"folds={folds} cannot be", remedy=f"Give a whole number from 2 to {_MAX_FOLDS}; 5 is usual.")


def _hash(query: str, salt: bytes) -> int:
    # A lone surrogate cannot be encoded, yet must not crash.
    key = fold_query(query).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(key, digest_size=8, person=salt).digest(), "big")
