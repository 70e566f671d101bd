"""What the queries of the sample shop ask for, the products each is judged with, and the labels of these pairs.

The rule of the true labels: a query asks for a type and for some of the other attributes; a product offers a value of
each. Then

* **E** (Exact): the product is of the asked type and has all that is asked for;
* **S** (Substitute): it is of that type and lacks something, or of the other type of the same family;
* **C** (Complement): it is an accessory of the asked type, or a main product that the asked accessory goes with;
* **I** (Irrelevant): it is of another department.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from zhichun.core.arrays import Bools, Int32, Int64
from zhichun.core.schema import LABELS, LOCALES
from zhichun.data.sample_shop import catalogue as shop

Labels = npt.NDArray[np.int8]

TEST_SHARE: Final = 0.2


@dataclass(frozen=True)
class JudgedPairs:
    """All judgements, query after query.

    Attributes
    ----------
    locales
        Shape ``(queries,)``: places in `zhichun.core.schema.LOCALES`.
    asked
        What the queries ask for, shape ``(queries, 7)``, columns as in
        `zhichun.data.sample_shop.catalogue.ATTRIBUTES`.
    hard, in_test
        Shape ``(queries,)``: whether a query is in the small version, and in the test split.
    query_ids, products
        Shape ``(pairs,)``: rows of the queries and of the catalogue.
    truth, labels
        Shape ``(pairs,)``: places in `zhichun.core.schema.LABELS`, true and as judged.
    """

    locales: npt.NDArray[np.int8]
    asked: shop.Attributes
    hard: Bools
    in_test: Bools
    query_ids: Int64
    products: Int32
    truth: Labels
    labels: Labels


def judge(
    catalogue: shop.Catalogue, queries: int, candidates: float, wrong_labels: float, rng: np.random.Generator
) -> JudgedPairs:
    """Draw the queries, choose their candidates and judge them.

    Parameters
    ----------
    catalogue
        The products.
    queries
        How many queries.
    candidates
        How many products per query on average.
    wrong_labels
        Share of the train split's judgements that are wrong; the test split has no wrong ones.
    rng
        Source of all chance.
    """
    locales = shop.deal(queries, shop.SHARES["locales_of_queries"], rng).astype(np.int8)
    departments = catalogue.types // shop.TYPES_PER_DEPARTMENT
    kinds = shop.deal(queries, np.tile(shop.SHARES["types_of_a_department"], departments), rng)
    hard = np.zeros(queries, dtype=np.bool_)
    for locale in range(len(LOCALES)):
        rows = rng.permutation(np.flatnonzero(locales == locale))
        hard[rows[: round(shop.SHARES["hard_queries"] * len(rows))]] = True
    wanted = _wanted_labels(hard, candidates, rng)
    of_hard, of_easy = (rng.choice(4, size=queries, p=shares) for shares in shop.SHARES["attributes_asked"].values())
    counts = np.where(hard, of_hard, of_easy)

    chooser = _Chooser(catalogue, rng)
    asked = np.empty((queries, len(shop.ATTRIBUTES)), dtype=np.int16)
    chosen: list[Int32] = []
    for query, (locale, kind, count, labels) in enumerate(
        zip(locales.tolist(), kinds.tolist(), counts.tolist(), wanted.tolist(), strict=True)
    ):
        asked[query], matches = chooser.ask(locale, kind, count, labels[0])
        chosen.append(chooser.choose(locale, kind, matches, labels))
    query_ids, products = np.repeat(np.arange(queries), list(map(len, chosen))), np.concatenate(chosen)
    truth = true_labels(asked[query_ids], catalogue.attributes[products])
    in_test = _choose_test(locales, hard, rng)
    judged = _mistake(truth, np.flatnonzero(~in_test[query_ids]), wrong_labels, rng)
    return JudgedPairs(locales, asked, hard, in_test, query_ids, products, truth, judged)


def _wanted_labels(hard: Bools, candidates: float, rng: np.random.Generator) -> Int64:
    """Draw how many E, S, C and I each query gets, shape ``(queries, 4)``; the totals keep the shares to a pair."""
    sizes = np.rint(candidates * rng.gamma(4.0, 0.25, size=len(hard))).astype(np.int64)
    sizes = sizes.clip(max(2, round(candidates / 3)), round(candidates * 3))
    wanted = np.zeros((len(hard), len(LABELS)), dtype=np.int64)
    for group, shares in zip((hard, ~hard), shop.SHARES["labels_of_queries"].values(), strict=True):
        owners = np.repeat(np.flatnonzero(group), sizes[group])
        np.add.at(wanted, (owners, shop.deal(len(owners), shares, rng)), 1)
    return wanted


class _Chooser:
    """Chooses what one query asks for and its candidates; looks only at the products of the types concerned."""

    def __init__(self, catalogue: shop.Catalogue, rng: np.random.Generator) -> None:
        self._catalogue, self._rng = catalogue, rng
        self._offered = np.asfortranarray(catalogue.attributes[catalogue.by_type])

    def ask(self, locale: int, kind: int, count: int, exact: int) -> tuple[shop.Attributes, Bools]:
        """Ask for up to ``count`` attributes of a random product, as long as ``exact`` products have them all."""
        offered = self._offered[self._catalogue.section(locale, kind)]
        asked = np.full(len(shop.ATTRIBUTES), shop.ABSENT, dtype=np.int16)
        asked[shop.TYPE] = kind
        matches = np.ones(len(offered), dtype=np.bool_)
        if not len(offered):
            return asked, matches
        model = offered[self._rng.integers(len(offered))]
        # Exponential races: each comes first as often as its weight says.
        weights = np.array([*shop.SHARES["weights_of_asked"].values()])
        order = np.argsort(self._rng.exponential(size=len(weights)) / weights) + shop.BRAND
        for column in order[model[order] != shop.ABSENT]:
            fewer = matches & (offered[:, column] == model[column])
            if count and np.count_nonzero(fewer) >= exact:
                asked[column], matches = model[column], fewer
                count -= 1
        return asked, matches

    def choose(self, locale: int, kind: int, matches: Bools, wanted: list[int]) -> Int32:
        """Choose a query's candidates, rows of the catalogue; fewer where the shop has not enough of them."""
        exact, substitutes, complements, irrelevant = wanted
        rows = self._catalogue.by_type[self._catalogue.section(locale, kind)]
        chosen = [self._some(rows[matches], exact)]
        if len(chosen[0]) < exact:  # a shorter list of the same mixture
            share = len(chosen[0]) / exact
            substitutes, complements, irrelevant = (int(n * share + self._rng.random()) for n in wanted[1:])
        same_type = int(self._rng.binomial(substitutes, shop.SHARES["substitutes_of_the_asked_type"]))
        lacking = self._some(rows[~matches], same_type)
        chosen += [lacking, self._any_of(locale, kind ^ 1, substitutes - len(lacking))]
        other_family = (kind // shop.TYPES_PER_FAMILY ^ 1) * shop.TYPES_PER_FAMILY
        others = (other_family + int(self._rng.integers(shop.TYPES_PER_FAMILY)) for _ in range(complements))
        chosen += [self._any_of(locale, other, 1) for other in others]
        chosen += [self._any_of(locale, self._elsewhere(kind), 1) for _ in range(irrelevant)]
        return self._rng.permutation(np.unique(np.concatenate(chosen)))

    def _elsewhere(self, kind: int) -> int:
        """Draw a type of another department, often of the next one."""
        departments = self._catalogue.types // shop.TYPES_PER_DEPARTMENT
        is_next = self._rng.random() < shop.SHARES["irrelevant_of_the_next_department"]
        step = 1 if is_next else int(self._rng.integers(1, departments))
        department = (kind // shop.TYPES_PER_DEPARTMENT + step) % departments
        return department * shop.TYPES_PER_DEPARTMENT + int(self._rng.integers(shop.TYPES_PER_DEPARTMENT))

    def _any_of(self, locale: int, kind: int, count: int) -> Int32:
        return self._some(self._catalogue.by_type[self._catalogue.section(locale, kind)], count)

    def _some(self, rows: Int32, count: int) -> Int32:
        return rows[self._rng.choice(len(rows), size=min(count, len(rows)), replace=False)]


def true_labels(asked: shop.Attributes, offered: shop.Attributes) -> npt.NDArray[np.int8]:
    """Judge pairs by their attributes.

    Parameters
    ----------
    asked
        What each query asks for, shape ``(n, 7)`` in the order of `zhichun.data.sample_shop.catalogue.ATTRIBUTES`;
        ``ABSENT`` where it does not care.
    offered
        What each product is, shape ``(n, 7)``; ``ABSENT`` where the type has no such attribute.

    Returns
    -------
    numpy.ndarray
        Shape ``(n,)``: places in `zhichun.core.schema.LABELS`, that is 0 for E, 1 for S, 2 for C and 3 for I.
    """
    asked_type, offered_type = asked[:, shop.TYPE], offered[:, shop.TYPE]
    has_all = ((asked == shop.ABSENT) | (asked == offered))[:, shop.BRAND :].all(axis=1)
    exact = (asked_type == offered_type) & has_all
    same_family = asked_type // shop.TYPES_PER_FAMILY == offered_type // shop.TYPES_PER_FAMILY
    same_department = asked_type // shop.TYPES_PER_DEPARTMENT == offered_type // shop.TYPES_PER_DEPARTMENT
    return np.select([exact, same_family, same_department], [0, 1, 2], default=3).astype(np.int8)


def _choose_test(locales: npt.NDArray[np.int8], hard: Bools, rng: np.random.Generator) -> Bools:
    """Put every fifth query of each locale, sorted by difficulty, into the test split."""
    every = round(1 / TEST_SHARE)
    in_test = np.zeros(len(locales), dtype=np.bool_)
    for locale in range(len(LOCALES)):
        rows = rng.permutation(np.flatnonzero(locales == locale))
        rows = rows[np.argsort(hard[rows], kind="stable")]
        first = rng.integers(min(every, len(rows))) if len(rows) > 1 else 1  # a single query is to train on
        in_test[rows[first::every]] = True
    return in_test


def _mistake(truth: Labels, train: Int64, share: float, rng: np.random.Generator) -> Labels:
    labels = truth.copy()
    wrong = rng.choice(train, size=round(share * len(train)), replace=False)
    reached = np.cumsum(shop.SHARES["mistakes"], axis=1)[truth[wrong]]
    labels[wrong] = (rng.random((len(wrong), 1)) * reached[:, -1:] >= reached).sum(axis=1)
    return labels
