"""What the queries of the sample shop ask for, and which products each is judged with: a graded list."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from zhichun.core.schema import LABELS, LOCALES
from zhichun.data.sample_shop.catalogue import TYPE_WEIGHTS, Catalogue, apportion
from zhichun.data.sample_shop.departments import TYPES_PER_DEPARTMENT, TYPES_PER_FAMILY
from zhichun.data.sample_shop.rule import ABSENT, ATTRIBUTES, BRAND, TYPE, Attributes

Counts = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int32]

# Shares of us, es and jp among the queries.
QUERY_LOCALES: Final = (0.70, 0.14, 0.16)
# E, S, C, I: of the harder queries, which make the small version, and of the others. Together 67, 20.5, 3 and 9.5 %, of
# which the usual share of mistakes makes about ESCI's 65, 22, 3 and 10 %.
HARD_SHARE: Final = 0.40
HARD_LABELS: Final = (0.455, 0.342, 0.047, 0.156)
EASY_LABELS: Final = (0.813, 0.114, 0.017, 0.056)
# How many attributes a query asks for besides the type: none, one, two, three.
HARD_ASKED: Final = (0.10, 0.45, 0.33, 0.12)
EASY_ASKED: Final = (0.45, 0.43, 0.12, 0.0)
# How readily each attribute is asked for: brand, color, material, feature, size, audience.
ASKED_WEIGHTS: Final = (0.25, 0.25, 0.15, 0.25, 0.12, 0.20)
# Of the substitutes, those of the asked type that lack something; the others are of the other type of the family.
SAME_TYPE_SUBSTITUTES: Final = 0.5
# Of the irrelevant ones, those of the next department.
NEIGHBOURS: Final = 0.5


@dataclass(frozen=True)
class Queries:
    """What the queries ask for.

    Attributes
    ----------
    locales
        Shape ``(queries,)``: places in :data:`zhichun.core.schema.LOCALES`.
    asked
        Shape ``(queries, 7)``, columns as in :data:`.rule.ATTRIBUTES`.
    hard
        Shape ``(queries,)``: whether the query is in the small version.
    """

    locales: npt.NDArray[np.int8]
    asked: Attributes
    hard: npt.NDArray[np.bool_]


def _wanted_labels(hard: npt.NDArray[np.bool_], candidates: float, rng: np.random.Generator) -> Counts:
    """Draw how many E, S, C and I each query gets, shape ``(queries, 4)``; the totals keep the shares to a pair."""
    sizes = np.rint(candidates * rng.gamma(4.0, 0.25, size=len(hard))).astype(np.int64)
    sizes = sizes.clip(max(2, round(candidates / 3)), round(candidates * 3))
    wanted = np.zeros((len(hard), len(LABELS)), dtype=np.int64)
    for group, shares in ((hard, HARD_LABELS), (~hard, EASY_LABELS)):
        owners = np.repeat(np.flatnonzero(group), sizes[group])
        labels = rng.permutation(np.repeat(np.arange(len(LABELS)), apportion(len(owners), shares)))
        np.add.at(wanted, (owners, labels), 1)
    return wanted


class _Chooser:
    """Chooses what one query asks for and its candidates; looks only at the products of the types concerned."""

    def __init__(self, catalogue: Catalogue, rng: np.random.Generator) -> None:
        self._catalogue, self._rng = catalogue, rng
        self._offered = np.asfortranarray(catalogue.attributes[catalogue.by_type])

    def ask(self, locale: int, kind: int, count: int, exact: int) -> tuple[Attributes, npt.NDArray[np.bool_]]:
        """Ask for up to ``count`` attributes of a random product, as long as ``exact`` products have them all.

        Returns
        -------
        asked : numpy.ndarray
            Shape ``(7,)``.
        matches : numpy.ndarray
            For each product of the type, whether it has all that is asked for.
        """
        offered = self._offered[self._catalogue.section(locale, kind)]
        asked = np.full(len(ATTRIBUTES), ABSENT, dtype=np.int16)
        asked[TYPE] = kind
        matches = np.ones(len(offered), dtype=np.bool_)
        if not len(offered):
            return asked, matches
        model = offered[self._rng.integers(len(offered))]
        # Exponential races: each comes first as often as its weight says.
        order = np.argsort(self._rng.exponential(size=len(ASKED_WEIGHTS)) / np.array(ASKED_WEIGHTS)) + BRAND
        for column in order[model[order] != ABSENT]:
            fewer = matches & (offered[:, column] == model[column])
            if count and np.count_nonzero(fewer) >= exact:
                asked[column], matches = model[column], fewer
                count -= 1
        return asked, matches

    def choose(self, locale: int, kind: int, matches: npt.NDArray[np.bool_], wanted: list[int]) -> Rows:
        """Choose a query's candidates, rows of the catalogue; fewer where the shop has not enough of them."""
        exact, substitutes, complements, irrelevant = wanted
        rows = self._catalogue.by_type[self._catalogue.section(locale, kind)]
        chosen = [self._some(rows[matches], exact)]
        if len(chosen[0]) < exact:  # a shorter list of the same mixture
            share = len(chosen[0]) / exact
            substitutes, complements, irrelevant = (int(n * share + self._rng.random()) for n in wanted[1:])
        lacking = self._some(rows[~matches], int(self._rng.binomial(substitutes, SAME_TYPE_SUBSTITUTES)))
        chosen += [lacking, self._any_of(locale, kind ^ 1, substitutes - len(lacking))]
        other_family = (kind // TYPES_PER_FAMILY ^ 1) * TYPES_PER_FAMILY
        for _ in range(complements):
            chosen.append(self._any_of(locale, other_family + int(self._rng.integers(TYPES_PER_FAMILY)), 1))
        for _ in range(irrelevant):
            chosen.append(self._any_of(locale, self._elsewhere(kind), 1))
        return self._rng.permutation(np.unique(np.concatenate(chosen)))

    def _elsewhere(self, kind: int) -> int:
        """Draw a type of another department, often of the next one."""
        departments = self._catalogue.types // TYPES_PER_DEPARTMENT
        step = 1 if self._rng.random() < NEIGHBOURS else int(self._rng.integers(1, departments))
        department = (kind // TYPES_PER_DEPARTMENT + step) % departments
        return department * TYPES_PER_DEPARTMENT + int(self._rng.integers(TYPES_PER_DEPARTMENT))

    def _any_of(self, locale: int, kind: int, count: int) -> Rows:
        return self._some(self._catalogue.by_type[self._catalogue.section(locale, kind)], count)

    def _some(self, rows: Rows, count: int) -> Rows:
        return rows[self._rng.choice(len(rows), size=min(count, len(rows)), replace=False)]


def make_queries(
    catalogue: Catalogue, queries: int, candidates: float, rng: np.random.Generator
) -> tuple[Queries, Rows, Counts]:
    """Draw what the queries ask for, and the products they are judged with.

    Parameters
    ----------
    catalogue
        The products.
    queries
        How many queries.
    candidates
        How many products per query on average; a small shop may not have so many that suit.
    rng
        Source of all chance.

    Returns
    -------
    queries : Queries
    products : numpy.ndarray
        Shape ``(pairs,)``: rows of the catalogue, query after query.
    sizes : numpy.ndarray
        Shape ``(queries,)``: how many of them each query has.
    """
    locales = rng.permutation(np.repeat(np.arange(len(LOCALES), dtype=np.int8), apportion(queries, QUERY_LOCALES)))
    weights = np.tile(TYPE_WEIGHTS, catalogue.types // TYPES_PER_DEPARTMENT)
    kinds = rng.permutation(np.repeat(np.arange(catalogue.types), apportion(queries, weights)))
    hard = np.zeros(queries, dtype=np.bool_)
    for locale in range(len(LOCALES)):
        rows = rng.permutation(np.flatnonzero(locales == locale))
        hard[rows[: round(HARD_SHARE * len(rows))]] = True
    wanted = _wanted_labels(hard, candidates, rng)
    counts = np.where(hard, rng.choice(4, size=queries, p=HARD_ASKED), rng.choice(4, size=queries, p=EASY_ASKED))

    chooser = _Chooser(catalogue, rng)
    asked = np.empty((queries, len(ATTRIBUTES)), dtype=np.int16)
    chosen: list[Rows] = []
    for query, (locale, kind, count, labels) in enumerate(
        zip(locales.tolist(), kinds.tolist(), counts.tolist(), wanted.tolist(), strict=True)
    ):
        asked[query], matches = chooser.ask(locale, kind, count, labels[0])
        chosen.append(chooser.choose(locale, kind, matches, labels))
    sizes = np.array([len(rows) for rows in chosen], dtype=np.int64)
    return Queries(locales, asked, hard), np.concatenate(chosen), sizes
