"""The base class of metrics: objects called on judged pairs, whose `repr` recreates them.

A subclass of `Metric` that `zhichun.metrics` imports is registered; it defines which of its values are
reported, and their display names.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from zhichun.core.errors import UserError
from zhichun.metrics.judged import Judged


class Metric(ABC):
    """Anything that computes one number from judged pairs, as a function of sums over queries."""

    reads: ClassVar[Literal["predictions", "probabilities", "scores"]]
    """The fields of `Judged` that it needs, and so the tasks it is measured for."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The metric's key in ``metrics.json``."""

    @property
    def title(self) -> str:
        """Display name."""
        return self.name

    @classmethod
    def reported(cls, classes: tuple[str, ...]) -> tuple["Metric", ...]:
        """Return the variants that ``metrics.json`` reports for a task with these classes: itself, by default."""
        return (cls(),)

    @abstractmethod
    def sums(self, judged: Judged) -> NDArray[np.float64]:
        """Return what is added up over queries, so that a bootstrap can draw queries. Shape [Q, X]."""

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute the metric from sums over queries, by default the first over the last. Shape [..., X] to [...]."""
        return np.asarray(sums[..., 0] / sums[..., -1])

    def __call__(self, judged: Judged, /) -> float:
        """Measure."""
        return float(self.value(self.sums(judged).sum(axis=0)))


@dataclass(frozen=True, repr=False)
class RankingMetric(Metric):
    """A metric of the order of each query's documents, averaged over queries.

    Ties: the value is the exact expectation over all orders of the documents that share a score, so the order of the
    rows never changes a result, not even in its last bit.

    Parameters
    ----------
    k
        Only the first k ranks count; ``None`` is the whole list. ``metric @ k`` sets it.

    Raises
    ------
    UserError
        If k is not a whole number from 1.
    """

    reads: ClassVar[Literal["scores"]] = "scores"

    _: KW_ONLY
    k: int | None = None

    def __post_init__(self) -> None:
        if self.k is not None and (not isinstance(self.k, int) or self.k < 1):
            raise UserError(f"A metric cannot be cut at rank {self.k!r}.", remedy="Give a whole number from 1.")

    def __matmul__(self, k: int) -> Self:
        return dataclasses.replace(self, k=k)

    def __repr__(self) -> str:
        settings = (f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self)[1:])
        return f"{type(self).__name__}({', '.join(settings)})" + ("" if self.k is None else f" @ {self.k}")

    @property
    def name(self) -> str:
        """The metric's key in ``metrics.json``, such as ``ndcg@10``."""
        return self._short_name + ("" if self.k is None else f"@{self.k}")

    @property
    @abstractmethod
    def _short_name(self) -> str:
        """The name without its cut."""

    @abstractmethod
    def _values(self, judged: Judged) -> NDArray[np.float64]:
        """Return the value of each query. Shape [Q]."""

    def per_query(self, judged: Judged) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Measure each query by itself.

        Parameters
        ----------
        judged
            Pairs with scores.

        Returns
        -------
        query_ids
            Ascending. Shape [Q].
        values
            In the same order; 0 for a query of which nothing was returned. Shape [Q].
        """
        return judged.queries, self._values(judged)

    def sums(self, judged: Judged) -> NDArray[np.float64]:
        """Return each query's value, and 1. Shape [Q, 2]."""
        values = self._values(judged)
        return np.stack([values, np.ones_like(values)], axis=1)


UNRANKED: Final = "every query has one product, so nothing is ranked: there is no ranking figure"


def measurable(metrics: Iterable[Metric], *judged: Judged) -> list[Metric]:
    """Leave out the ranking metrics where nothing is ranked."""
    ranks = any(of.ranks for of in judged)
    return [metric for metric in metrics if ranks or not isinstance(metric, RankingMetric)]


@dataclass(frozen=True, repr=False)
class BinaryRankingMetric(RankingMetric):
    """A ranking metric with binary relevance.

    Parameters
    ----------
    relevant
        The labels that count as relevant.
    k
        Only the first k ranks count; ``None`` is the whole list.

    Raises
    ------
    UserError
        If `relevant` is empty or a string, or (when called) names a label that the judged pairs do not have.
    """

    relevant: tuple[str, ...] = ("E",)

    def __post_init__(self) -> None:
        super().__post_init__()
        given: object = self.relevant
        if isinstance(given, str) or not given:  # a string would pass for a tuple of its letters
            raise UserError(f"{self.relevant!r} is not a tuple of labels.", remedy="Give one, such as ('E',).")
        object.__setattr__(self, "relevant", tuple(self.relevant))

    def _suffix(self) -> str:
        return "" if self.relevant == ("E",) else "." + "".join(self.relevant)

    def _relevant_per_group(self, judged: Judged) -> NDArray[np.intp]:
        """Count the relevant documents of each tied group. Shape [G]."""
        columns = sorted({judged.index_of(label) for label in self.relevant})
        counts: NDArray[np.intp] = judged.tied_groups.counts[:, columns].sum(axis=1)
        return counts
