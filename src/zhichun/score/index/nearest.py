"""A first stage from the same index: products whose mean state is nearest to that of the query.

What       the query is read as a product with nothing but a title, so both sides are of one space; vectors are compared
           by one matrix product over the whole catalogue, exactly
Equation   ``cos(m(q) - c, m(p) - c)``: ``m`` is the mean of the states of all tokens, ``c`` the mean of these over the
           catalogue, which is most of each
Reference  Mu and Viswanath, 2018, *All-but-the-Top*, for the common mean that is taken away
Our number recall of the catalogue's best ten in ``benchmarks/results/score_catalogue.json``
Cost       a product of ``N`` by ``S`` numbers for each query, and ``4 N S`` bytes
Traps      nothing trains it: it finds what the lower layers hold to be alike

Legend: ``N`` products, ``S`` size of a state.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from zhichun.core import schema
from zhichun.core.arrays import Int64
from zhichun.core.tasks import Floats
from zhichun.score.index.store import content_hashes
from zhichun.text.document import Columns

if TYPE_CHECKING:
    from zhichun.score.index.scorer import IndexScorer


@dataclass(frozen=True)
class Nearest:
    """Finds candidates among some products of an index.

    Parameters
    ----------
    scorer
        The index.
    centre_S
        Mean over the products.
    vectors_NS
        Of each product, of length 1; zeros where the index has it not.
    """

    scorer: "IndexScorer"
    centre_S: Floats
    vectors_NS: Floats

    @classmethod
    def of(cls, scorer: "IndexScorer", texts: Columns) -> Self:
        """Look up the products of a catalogue by their texts."""
        means_NS = scorer.kept.means(content_hashes(texts))
        known_N1 = means_NS.any(axis=1, keepdims=True)
        centre_S: Floats = means_NS.sum(axis=0) / np.float32(max(1, int(known_N1.sum())))
        return cls(scorer, centre_S, _unit(means_NS - centre_S) * known_N1)

    def search(self, query: str, top: int) -> Int64:
        """Find the places of the ``top`` nearest products, nearest first; equal ones in the catalogue's order."""
        as_product = {name: [query if name == schema.TITLE else ""] for name in schema.TEXT_COLUMNS}
        score_N = self.vectors_NS @ _unit(self.scorer.computed(as_product).means_RS - self.centre_S)[0]
        return np.argsort(-score_N, kind="stable")[:top]


def _unit(vectors_NS: Floats) -> Floats:
    lengths_N1: Any = np.sqrt(np.square(vectors_NS).sum(axis=1, keepdims=True))
    made_NS: Floats = vectors_NS / np.maximum(lengths_N1, np.float32(1e-12))
    return made_NS
