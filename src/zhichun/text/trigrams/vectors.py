"""Pre-trained vectors of the semantic unit's trigrams, in one file next to their vocabulary.

A Parquet file with a row per trigram, in the order of the ids from 1: ``trigram`` and ``vector``. Its metadata record
how the vectors were made and for which vocabulary, so that vectors of another vocabulary are never used.

Legend: ``V`` known trigrams, ``G`` size of a trigram's vector.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from zhichun.core.errors import UserError
from zhichun.core.files import new_file
from zhichun.text.trigrams.bags import COLUMN, TrigramVocabulary, key_to_text

Vectors = npt.NDArray[np.float32]

VECTOR: Final = "vector"
METADATA: Final = b"zhichun"


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
        with new_file(path) as partial:
            pq.write_table(table, partial)

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
        try:
            table = pq.ParquetFile(path).read()
            described = json.loads(table.schema.metadata[METADATA])
            vectors = table.column(VECTOR).combine_chunks()
            flat = vectors.values.to_numpy()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
            raise UserError(f"cannot be read as trigram vectors ({error}).", file=path, remedy=remedy) from error
        if described.get("vocabulary") != vocabulary.fingerprint or table.num_rows != len(vocabulary.keys_V):
            raise UserError("the vectors belong to another vocabulary of trigrams.", file=path, remedy=remedy)
        if flat.dtype != np.float32 or len(flat) != table.num_rows * size:
            raise UserError(f"the vectors are not {size} float32 each.", file=path, remedy=remedy)
        return cls(flat.reshape(-1, size), vocabulary, described["made_by"])
