"""Who agrees with whom, and what their disagreement lets a model reach."""

from itertools import combinations
from typing import Any

import numpy as np

from zhichun.core.schema import LABELS
from zhichun.data.readers.ratings import RatedPairs
from zhichun.metrics.agreement import NO_RATING, agreement, human_level, majority
from zhichun.metrics.ceiling import ceiling
from zhichun.metrics.significance import Interval


def measure_agreement(rated: RatedPairs, *, draws: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Measure how well raters agree, overall and in parts, and what their noise lets a model reach.

    Parameters
    ----------
    rated
        From `zhichun.data.readers.ratings.read_ratings`.
    draws, seed
        Of the bootstraps over queries; the ceiling, which is fitted anew in each, has a tenth of the draws.

    Returns
    -------
    dict
        ``pairs`` with two ratings or more, ``queries``, ``ratings``; ``all`` and ``by_locale`` (where there are
        several): the figures of `zhichun.metrics.agreement.agreement`, those of each two raters under ``between``;
        ``by_label``: each label against the rest, with its ``share`` of the majorities; ``raters``: each against
        the majority of the others; ``ceiling``. A figure is a dictionary of ``value``, ``low`` and ``high``;
        None where it is not defined, such as a kappa where only one grade was given.
    """
    rated = rated.shared()
    ratings, locales_P = rated.ratings, np.array([locale for _, locale, _ in rated.pairs])
    majority_P = majority(ratings.counts_PK)
    found = agreement(ratings, draws=draws, seed=seed)
    names = np.unique(locales_P).tolist()
    return {
        "pairs": len(majority_P),
        "queries": len(np.unique(ratings.query_P)),
        "ratings": int(ratings.counts_PK.sum()),
        "all": _figures(found),
        "between": {
            f"{rated.raters[a]} and {rated.raters[b]}": _figures(
                {kind: found[f"{kind}.{a}-{b}"] for kind in ("kappa", "quadratic_kappa")}
            )
            for a, b in combinations(range(len(rated.raters)), 2)
            if f"kappa.{a}-{b}" in found and (ratings.codes_PJ[:, [a, b]] != NO_RATING).all(axis=1).any()
        },
        "by_locale": {
            name: _figures(agreement(ratings.select(locales_P == name), draws=draws, seed=seed))
            for name in names
            if len(names) > 1
        },
        "by_label": {
            label: {
                "share": float((majority_P == grade).mean()),
                **_figures(agreement(ratings.against_rest(grade), draws=draws, seed=seed)),
            }
            for grade, label in enumerate(LABELS)
            if (ratings.codes_PJ == grade).any()
        },
        "raters": {
            name: _figures(of)
            for name, of in zip(rated.raters, human_level(ratings, draws=draws, seed=seed), strict=True)
        },
        "ceiling": _figures(ceiling(ratings, draws=max(1, draws // 10), seed=seed)),
    }


def _figures(found: dict[str, Interval]) -> dict[str, Any]:
    """Lay figures out for JSON, but for those of two raters."""
    return {name: each.to_json() for name, each in found.items() if "." not in name}
