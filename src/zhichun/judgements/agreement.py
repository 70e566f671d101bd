"""Who agrees with whom, what their disagreement lets a model reach, and in words how an LLM or a model judges.

The page has the figures with intervals, how each rater judges, and the disagreements to read.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np

from zhichun.core.errors import UserError
from zhichun.core.files import new_folder, write_json
from zhichun.core.schema import LABEL_NAMES, LABELS, LOCALE, LOCALES, PRODUCT_ID, TITLE
from zhichun.data.prepare.clean_catalogue import read_catalogue
from zhichun.data.readers.ratings import RatedPairs
from zhichun.measure.page import write_page
from zhichun.measure.systems import LEAST_QUERIES
from zhichun.metrics.agreement import (
    HUMAN_METRICS,
    NO_RATING,
    Ratings,
    agreement,
    beside_others,
    human_level,
    in_place_of,
    majority,
)
from zhichun.metrics.ceiling import ceiling
from zhichun.metrics.significance import Interval, to_json
from zhichun.score.parts import of_products

LEAST_DRAWS: Final = 100
# Of quadratic kappa: who may be this much below a person is not at that person's level, but not shown to be below it.
FAR_BELOW: Final = -0.1
PLACES: Final = ("best", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
# A bias that is shown, of more or fewer of a label, in words; of others it is "says … too often" and "too rarely".
WORDS: Final = {
    ("E", False): "too strict on Exact",
    ("E", True): "too lenient on Exact",
    ("I", False): "too lenient on Irrelevant",
    ("I", True): "too strict on Irrelevant",
}


def measure_agreement(rated: RatedPairs, *, draws: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Measure how well raters agree, overall and in parts, what their noise lets a model reach, and each one's bias.

    Parameters
    ----------
    rated
        From `zhichun.data.readers.ratings.read_ratings`. Figures of people leave out the raters that are held against
        them, if two people share a pair; otherwise there is no ceiling.
    draws, seed
        Of the bootstraps over queries; the ceiling, which is fitted anew in each, has a tenth of the draws.

    Returns
    -------
    dict
        ``pairs`` with two ratings or more, ``queries``, ``ratings``, and ``alone``, those of other pairs; ``all`` and
        ``by_locale`` (where there are several): the figures of `zhichun.metrics.agreement.agreement`, those of each two
        raters under ``between``;
        ``by_label``: each label against the rest, with its ``share`` of the majorities; ``raters``: each against
        the majority of the other people; ``ceiling``; ``beside``: of each rater, against these too, what
        `beside_others` gives, ``confusion``, ``by_locale``, ``in_place_of`` (each person), and ``verdict`` in words.
        A figure is a dictionary of ``value``, ``low`` and ``high``; None where it is not defined, such as a kappa where
        only one grade was given.

    Raises
    ------
    UserError
        Where no pair was rated by one that is held against people and by a person.
    """
    every, drawing = rated.shared(), {"draws": draws, "seed": seed}
    people = [place for place, name in enumerate(rated.raters) if name not in rated.judged]
    of_people = rated.by(people).shared()  # none where they split the work
    shared = of_people if of_people.pairs else every
    ratings, locales_P = shared.ratings, np.array([locale for _, locale, _ in shared.pairs])
    majority_P = majority(ratings.counts_PK)
    between = agreement(every.ratings, **drawing)
    names = np.unique(locales_P).tolist()
    levels = human_level(every.ratings, people=people, draws=draws, seed=seed)
    best = ceiling(ratings, draws=max(LEAST_DRAWS, draws // 10), seed=seed) if of_people.pairs else {}
    return {
        "people": bool(of_people.pairs),
        "pairs": len(majority_P),
        "queries": len(np.unique(ratings.query_P)),
        "ratings": int(ratings.counts_PK.sum()),
        "alone": int(rated.ratings.counts_PK.sum() - every.ratings.counts_PK.sum()),
        "all": _agreed(ratings, drawing),
        "between": {
            f"{rated.raters[a]} and {rated.raters[b]}": to_json(
                {kind: between[f"{kind}.{a}-{b}"] for kind in ("kappa", "quadratic_kappa")}
            )
            for a, b in combinations(range(len(rated.raters)), 2)
            if f"kappa.{a}-{b}" in between and (every.ratings.codes_PJ[:, [a, b]] != NO_RATING).all(axis=1).any()
        },
        "by_locale": {name: _agreed(ratings.select(locales_P == name), drawing) for name in names if len(names) > 1},
        "by_label": {
            label: {"share": float((majority_P == grade).mean()), **_agreed(ratings.against_rest(grade), drawing)}
            for grade, label in enumerate(LABELS)
            if (ratings.codes_PJ == grade).any()
        },
        "raters": {name: to_json(of_rater) for name, of_rater in zip(rated.raters, levels, strict=True)},
        "ceiling": to_json(best),
        "beside": _beside(every, people, drawing),
    }


def _beside(rated: RatedPairs, people: Sequence[int], drawing: Mapping[str, int]) -> dict[str, Any]:
    """Hold each rater against the other people, overall and by locale, and say in words how it judges."""
    locales_P, found = np.array([locale for _, locale, _ in rated.pairs]), dict[str, Any]()
    parts = {name: locales_P == name for name in np.unique(locales_P).tolist()}
    for own, name in enumerate(rated.raters):
        others = [each for each in people if each != own]
        here = {part: rated.ratings.select(mask) for part, mask in parts.items() if len(parts) > 1}
        here = {part: of for part, of in here.items() if len(of.beside([own], others)[1])}
        if not len(rated.ratings.beside([own], others)[1]):
            if own not in people:
                problem = f"no pair was rated by {name!r} and by one of the people."
                raise UserError(problem, remedy="Both have to name queries, locales and products alike.")
            continue
        by_locale = {part: _figures(of, own, others, drawing) for part, of in here.items()}
        found[name] = {**_figures(rated.ratings, own, others, drawing), "by_locale": by_locale}
    order = sorted(people, key=lambda place: -_value(found, rated.raters[place]))
    for own, name in enumerate(rated.raters):
        if name in found:
            level = {} if own in people or len(people) < 2 else _level(rated.ratings, own, order, drawing)
            named = {rated.raters[person]: gap for person, gap in level.items()}
            found[name] |= {"in_place_of": to_json(named), "verdict": [*_place(named), *_biases(found[name])]}
    return found


def _figures(ratings: Ratings, own: int, others: Sequence[int], drawing: Mapping[str, int]) -> dict[str, Any]:
    figures, confusion = beside_others(ratings, own, others, **drawing)
    queries = len(np.unique(ratings.beside([own], others)[0].query_P))
    return {"pairs": int(confusion.sum()), "queries": queries, **to_json(figures), "confusion": confusion.tolist()}


def _value(found: Mapping[str, Any], name: str) -> float:
    value: float | None = found[name]["quadratic_kappa"]["value"] if name in found else None
    return -2.0 if value is None else value


def _level(ratings: Ratings, own: int, order: Sequence[int], drawing: Mapping[str, int]) -> dict[int, Interval]:
    """Put a rater in the place of each person, the best first: how much better it agrees with the others."""
    gaps = {each: in_place_of(ratings, own, each, [of for of in order if of != each], **drawing) for each in order}
    return {person: gap for person, gap in gaps.items() if gap.low == gap.low}


def _place(gaps: Mapping[str, Interval]) -> list[str]:
    """Say which person a rater is as good as: the best whom it is not shown to be worse than, if that says much."""
    for place, (name, gap) in enumerate(gaps.items()):
        if gap.high < 0:
            continue
        called = PLACES[place] if place < len(PLACES) else f"{place + 1}th"
        level = "better than" if gap.low > 0 else "at the level of" if gap.low > FAR_BELOW else "not shown to be below"
        return [
            f"{level} your {called} rater ({name}): quadratic kappa with the others {gap.value:+.3f} beside theirs, "
            f"95 % from {gap.low:+.3f} to {gap.high:+.3f}"
        ]
    return ["below the level of your raters"] if gaps else []


def _biases(found: Mapping[str, Any]) -> list[str]:
    """Say which labels are given too often or too rarely, as far as intervals show it; overall, then in one locale.

    Of few queries an interval is too narrow: of two, every third holds no 0 where there is no bias.
    """
    said, named = [], set[str]()
    for part, figures in {"": found, **{f"in {name}: ": of for name, of in found["by_locale"].items()}}.items():
        for grade, label in enumerate(LABELS):
            bias = figures[f"bias.{grade}"]
            if label in named or figures["queries"] < LEAST_QUERIES or bias["low"] <= 0 <= bias["high"]:
                continue
            often = bias["low"] > 0
            words = WORDS.get((label, often), f"says {LABEL_NAMES[label]} too {'often' if often else 'rarely'}")
            interval = f"95 % from {bias['low']:+.1%} to {bias['high']:+.1%}"
            said.append(f"{part}{words}: its share of the pairs is {bias['value']:+.1%} beside the others', {interval}")
            named |= set() if part else {label}
    return said


def _agreed(ratings: Ratings, drawing: Mapping[str, int]) -> dict[str, Any]:
    """Measure agreement, without the figures of each two raters."""
    return to_json({name: each for name, each in agreement(ratings, **drawing).items() if "." not in name})


FIGURES_FILE: Final = "agreement.json"
MOST_SHOWN: Final = 200


def disagreements(rated: RatedPairs, titles: Mapping[tuple[str, str], str]) -> tuple[int, list[dict[str, Any]]]:
    """Find the pairs on which raters differ; give how many there are, and the first to read.

    First come those of raters who are held against people, farthest from people who agree among each other.

    Parameters
    ----------
    rated
        The ratings.
    titles
        Of products, by locale and id, where they are known.
    """
    codes_PJ, rows = rated.ratings.codes_PJ.astype(float), list[dict[str, Any]]()
    codes_PJ[codes_PJ == NO_RATING] = np.nan
    judged_J = np.isin(rated.raters, rated.judged)
    for place, ((query, locale, product), code_J) in enumerate(zip(rated.pairs, codes_PJ, strict=True)):
        said, people = code_J[~np.isnan(code_J)], code_J[~judged_J & ~np.isnan(code_J)]
        if len(said) < 2 or np.ptp(said) == 0:
            continue
        far = np.nanmax(np.abs(code_J[judged_J] - people.mean()), initial=0) if judged_J.any() and len(people) else 0.0
        spread = float(np.ptp(people)) if len(people) else 0.0
        labels = ["" if np.isnan(code) else LABELS[int(code)] for code in code_J]
        reasons = {name: rated.reasons.get((rated.pairs[place], name)) for name in rated.raters}
        rows.append(
            {
                "order": (spread - far, -spread, place),
                "query": query,
                "locale": locale,
                "product": product,
                "title": titles.get((locale, product)),
                "labels": labels,
                "reasons": [(name, text) for name, text in reasons.items() if text],
            }
        )
    return len(rows), sorted(rows, key=lambda row: row["order"])[:MOST_SHOWN]


def write_agreement(
    out: Path,
    found: Mapping[str, Any],
    rated: RatedPairs,
    *,
    products: Path | None = None,
    columns: Mapping[str, str] | None = None,
    locale: str = LOCALES[0],
    overwrite: bool = False,
) -> None:
    """Write what `zhichun.judgements.agreement.measure_agreement` gives, and a page of it.

    Parameters
    ----------
    out, overwrite
        Folder to make: ``agreement.json`` and ``index.html``.
    found, rated
        The figures, and what they are of.
    products, columns, locale
        Catalogue that the titles of products are read from, its own column names, and the locale of products without
        one. Products that cannot be used have no title.
    """
    titles: dict[tuple[str, str], str] = {}
    if products is not None:
        wanted = {(where, product) for _, where, product in rated.pairs}
        catalogue = read_catalogue(products, locale=locale, columns=of_products(columns or {}), on_bad_rows="drop")
        read = catalogue.select([LOCALE, PRODUCT_ID, TITLE]).to_pydict().values()
        titles = {(where, product): title for where, product, title in zip(*read, strict=True) if title}
        titles = {key: titles[key] for key in wanted & titles.keys()}
    count, rows = disagreements(rated, titles)

    with new_folder(out, overwrite=overwrite, replaceable=lambda folder: (folder / FIGURES_FILE).is_file()) as folder:
        write_json(folder / FIGURES_FILE, found)
        write_page(
            folder / "index.html",
            "agreement.html",
            package="zhichun.judgements",
            title="Agreement of raters",
            found=found,
            labels=LABELS,
            names=list(rated.raters),
            level={metric.name: metric.title for metric in HUMAN_METRICS},
            disagreements=rows,
            count=count,
        )
