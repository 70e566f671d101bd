"""Normalised discounted cumulative gain.

    DCG = Σ_r gain(r) / log2(r + 1),   nDCG = DCG / DCG of the ideal order

The gain is linear (Järvelin and Kekäläinen, 2002, with the discount of Burges et al., 2005), as trec_eval's ``ndcg``
and scikit-learn's ``ndcg_score`` have it, and the list is whole unless it is cut.

* **Gains**: the contest's are the preset ``esci`` (E 1, S 0.1, C 0.01, I 0). The dataset's published script swaps S
  and C: ``official-script``. A figure is comparable only with figures of the same preset.
* **Ties**: expected value over all orders of the tied documents, each of which gets the mean discount of the ranks
  that they share (McSherry and Najork, 2008); scikit-learn does the same, trec_eval orders ties by document id.
  Constant scores (`Judged.in_random_order`) therefore give the exact expected nDCG of a random order.
* **No gain**: a query whose documents all have gain 0 has the value 0, as in trec_eval and scikit-learn.
* **Not returned**: a document that a run left out (NaN) counts in the ideal order, and a query that it left out has the
  value 0.

Shapes: ``G`` tied groups, ``Q`` queries, ``C`` classes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from zhichun.core.errors import UserError, suggest
from zhichun.core.schema import GAINS
from zhichun.metrics.judged import Judged
from zhichun.metrics.metric import Metric, RankingMetric


@dataclass(frozen=True, repr=False)
class nDCG(RankingMetric):
    """Normalised discounted cumulative gain, the mean over queries; in 0..1.

    Parameters
    ----------
    gains
        A preset of `zhichun.core.schema.GAINS`, or the gain of each label: finite, not negative.
    k
        Only the first k ranks count, also in the ideal order; ``None`` is the whole list.

    Raises
    ------
    UserError
        If there is no such preset, a gain is negative or not finite, or (when called) a label has no gain.

    Examples
    --------
    >>> nDCG(gains="esci") @ 10
    nDCG(gains='esci') @ 10
    """

    # A mapping cannot be hashed; two metrics that differ in it alone share a hash, which is legal.
    gains: str | Mapping[str, float] = field(default="esci", hash=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.gains, str):
            if self.gains not in GAINS:
                raise UserError(f"There are no gains named {self.gains!r}.", remedy=suggest(self.gains, GAINS))
            return
        # Our own copy of plain numbers, whose repr round-trips.
        object.__setattr__(self, "gains", {label: float(gain) for label, gain in self.gains.items()})
        for label, gain in self.gains.items():
            if not (math.isfinite(gain) and gain >= 0):
                raise UserError(f"The gain of {label!r} is {gain}.", remedy="Gains must be finite and not negative.")

    @property
    def _short_name(self) -> str:
        if self.gains == "esci":
            return "ndcg"
        if isinstance(self.gains, str):
            return f"ndcg.{self.gains}"
        return "ndcg." + "-".join(f"{label}{gain:g}" for label, gain in self.gains.items())

    @property
    def title(self) -> str:
        """Display name, with gains other than the contest's."""
        gains = self.gains.replace("-", " ") if isinstance(self.gains, str) else self._short_name.removeprefix("ndcg.")
        cut = "" if self.k is None else f"@{self.k}"
        return f"nDCG{cut}" + ("" if self.gains == "esci" else f", gains of the {gains}")

    @classmethod
    def reported(cls, classes: tuple[str, ...]) -> tuple[Metric, ...]:
        """With both presets of gains, and at rank 10."""
        return cls(), cls(gains="official-script"), cls() @ 10

    def _gains_of(self, classes: tuple[str, ...]) -> NDArray[np.float64]:
        gains = GAINS[self.gains] if isinstance(self.gains, str) else self.gains
        for label in classes:
            if label not in gains:
                raise UserError(f"{self!r} has no gain for the label {label!r}.", remedy="Give one to every label.")
        return np.array([gains[label] for label in classes], dtype=np.float64)

    def _values(self, judged: Judged) -> NDArray[np.float64]:
        gains, groups = self._gains_of(judged.classes), judged.tied_groups
        longest = int(np.bincount(judged.query_index).max())
        # Entry r is the sum of the first r discounts; it stops growing where the list is cut.
        summed_discounts = np.zeros(longest + 1)
        np.cumsum(1 / np.log2(np.arange(2, longest + 2)), out=summed_discounts[1:])
        summed_discounts[self.k or longest :] = summed_discounts[min(self.k or longest, longest)]

        # Tied documents share out the discounts of their ranks equally.
        shared = summed_discounts[groups.before + groups.size] - summed_discounts[groups.before]
        dcg = groups.sum_per_query(groups.counts @ gains * shared / groups.size, len(judged.queries))

        # The best order is all documents of the label that gains most, then the next: no sorting needed.
        best_first = np.argsort(-gains, kind="stable")
        ranks = np.cumsum(judged.label_counts[:, best_first], axis=1)
        best = np.diff(summed_discounts[ranks], axis=1, prepend=0) @ gains[best_first]

        values = np.divide(dcg, best, out=np.zeros_like(dcg), where=best > 0)
        return np.minimum(values, 1)  # rounding can exceed it by a last bit
