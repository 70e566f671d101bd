"""An index of a stack's sentence encoder: the two vectors of each product, kept where a split model's states are.

Found by a hash of what is read of a product's texts, rounded as the index says. What is not in it is computed, and
rounded alike, so that a product has one score.

Legend: ``R`` products, ``P`` those that are looked for, ``D`` size of a vector.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.tasks import Floats
from zhichun.score.index.store import Encoded, IndexConfig, Precision, Shard, States, content_hashes
from zhichun.score.list_features import product_read
from zhichun.score.similarity import BATCH, Similarity
from zhichun.text.features import HASH_BYTES
from zhichun.text.pairs import Columns

EACH: Final = 2  # vectors of a product


@dataclass(frozen=True)
class VectorMaker:
    """Computes what an index keeps of products; see `SplitNetwork`."""

    similarity: Similarity

    @classmethod
    def load(cls, stack: Path) -> "VectorMaker":
        """Load the sentence encoder of a stack's folder.

        Raises
        ------
        UserError
            When it has none.
        """
        similarity = Similarity.of_stack(stack)
        if similarity is None:
            remedy = "Make it again with: zhichun stack … --similarity ENCODER --overwrite"
            problem = "the stack reads no similarity, so no product has vectors of its own."
            raise UserError(problem, file=stack, remedy=remedy)
        return cls(similarity)

    @property
    def states(self) -> str:
        """Hash of the encoder whose vectors it makes."""
        return self.similarity.fingerprint

    @cached_property
    def size(self) -> int:
        """Size of a vector."""
        (vectors_2D,) = self.similarity.of_products([("",) * len(schema.TEXT_COLUMNS)]).values()
        return vectors_2D.shape[1]

    def read(self, columns: Columns) -> Columns:
        """Keep what is read of texts: products of which it is the same have the same vectors."""
        read = map(product_read, zip(*(columns[name] for name in schema.TEXT_COLUMNS), strict=True))
        return dict(zip(schema.TEXT_COLUMNS, map(list, zip(*read, strict=True)), strict=True))

    def shard_of(self, columns: Columns, precision: Precision, progress: Callable[[int], None] | None = None) -> Shard:
        """Compute the vectors of some products that were read."""
        products = list(zip(*(columns[name] for name in schema.TEXT_COLUMNS), strict=True))
        made = np.zeros((len(products), EACH, self.size), np.float32)
        for start in range(0, len(products), BATCH):
            some = products[start : start + BATCH]
            vectors = self.similarity.of_products({*some})
            made[start : start + BATCH] = [vectors[product] for product in some]
            if progress:
                progress(len(some))
        kept, none_R0 = Encoded.of(made.reshape(-1, self.size), precision), np.zeros((len(products), 0), np.float32)
        return Shard(kept, made.mean(axis=1), none_R0, content_hashes(columns), np.full(len(products), EACH))


@dataclass(frozen=True)
class KeptVectors:
    """The vectors of an index's products."""

    kept: States
    precision: Precision

    def find(self, hashes: Sequence[bytes]) -> list[Floats | None]:
        """Look products up by the hash of what is read of them, ``[2, D]`` each; ``None`` where there is none."""
        shard_P, row_P = self.kept.find(np.frombuffer(b"".join(hashes), np.uint64).reshape(-1, HASH_BYTES // 8))
        places = zip(shard_P.tolist(), row_P.tolist(), strict=True)
        found = (None if shard < 0 else self.kept.shards[shard].encoded_of(row).decoded for shard, row in places)
        # Removed while it was open: it is zeros.
        return [vectors if vectors is not None and vectors.any(axis=1).all() else None for vectors in found]

    def rounded(self, vectors_2D: Floats) -> Floats:
        """Round vectors as the index's are."""
        return Encoded.of(vectors_2D, self.precision).decoded


def with_index(stack: Path, index: Path) -> Similarity:
    """Load the sentence encoder of a stack's folder, which takes from an index what is in it.

    Raises
    ------
    UserError
        When the index is not finished or of another encoder, or the stack has none.
    """
    config, maker = IndexConfig.of_finished(index), VectorMaker.load(stack)
    kept = KeptVectors(config.open_states(index, maker.states, stack), config.precision)
    return replace(maker.similarity, kept=kept)
