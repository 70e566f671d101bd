"""The page of an agreement: figures with intervals, how each rater judges, and the disagreements to read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from zhichun.core.files import new_folder, write_json
from zhichun.core.schema import LABELS, LOCALE, LOCALES, PRODUCT_ID, TITLE
from zhichun.data.prepare.clean_catalogue import read_catalogue
from zhichun.data.readers.ratings import RatedPairs
from zhichun.measure.report.page import write_page
from zhichun.metrics.agreement import HUMAN_METRICS, NO_RATING

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
    products, locale
        Catalogue that the titles of products are read from, and the locale of products without one.
    """
    titles: dict[tuple[str, str], str] = {}
    if products is not None:
        wanted = {(where, product) for _, where, product in rated.pairs}
        columns = read_catalogue(products, locale=locale).select([LOCALE, PRODUCT_ID, TITLE]).to_pydict().values()
        titles = {(where, product): title for where, product, title in zip(*columns, strict=True) if title}
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
