"""What a dataset folder was made of, and what is in it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

import zhichun
from zhichun.core.schema import FOLD, JUDGED, LABEL, LABELS, LOCALE, ORIGIN, QUERY_ID, SPLIT
from zhichun.data.prepare.clean_catalogue import CatalogueCounts
from zhichun.data.prepare.steps import StepCounts
from zhichun.data.readers.sources import describe_files

FORMAT: Final = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class DatasetCounts:
    """What the steps kept, dropped and made.

    Attributes
    ----------
    catalogue
        The products that were kept.
    refused_products
        Refused rows of the catalogue by reason.
    made_products
        Products that steps made, by origin.
    pairs
        The pairs that are written: judged ones, and those that steps made.
    ids
        For ``query_id`` and ``example_id``, whether they are ``given`` or ``counted``.
    steps
        What each step did to the pairs, in order.
    refused_issues
        Refused rows of the lists of pairs to be corrected, by reason.
    """

    catalogue: CatalogueCounts
    refused_products: Mapping[str, int]
    made_products: Mapping[str, int]
    pairs: pl.DataFrame
    ids: Mapping[str, str]
    steps: Sequence[StepCounts]
    refused_issues: Mapping[str, int]


def describe_dataset(files: Mapping[str, Path], options: Mapping[str, Any], counts: DatasetCounts) -> dict[str, Any]:
    """Write the manifest of a dataset.

    Parameters
    ----------
    files
        The sources by their part.
    options
        What the user asked for.
    counts
        What came of it.

    Returns
    -------
    dict
        Ready for JSON. The same sources and options give the same manifest.
    """
    pairs, catalogue = counts.pairs, counts.catalogue
    dropped: Counter[str] = Counter()
    for step in counts.steps:
        if not step.made:  # What a making step drops, it made.
            dropped.update(step.dropped)
    by_origin = _by(pairs, ORIGIN)
    return {
        "format": FORMAT,
        "zhichun": zhichun.__version__,
        "sources": describe_files(files),
        "options": dict(options),
        "products": {
            **_counts(catalogue.kept, counts.refused_products),
            "made": dict(counts.made_products),
            "by_locale": dict(sorted(catalogue.by_locale.items())),
            "with_text": dict(catalogue.with_text),
            "missing_words": {name: count for name, count in catalogue.missing_words.items() if count},
        },
        "steps": [step.to_json() for step in counts.steps],
        "examples": {
            **_counts(by_origin.get(JUDGED, 0), dropped),
            "made": {origin: count for origin, count in by_origin.items() if origin != JUDGED},
            "ids": dict(counts.ids),
            "queries": pairs[QUERY_ID].n_unique(),
            "by_locale": _by(pairs, LOCALE),
            "by_label": {label: _by(pairs, LABEL).get(label, 0) for label in LABELS},
            "by_split": _by(pairs, SPLIT),
            "by_fold": _by(pairs, FOLD),
            "by_origin": by_origin,
        },
        "refused_issues": dict(sorted(counts.refused_issues.items())),
    }


def _counts(kept: int, refused: Mapping[str, int]) -> dict[str, Any]:
    dropped = {reason: count for reason, count in sorted(refused.items()) if count}
    return {"read": kept + sum(dropped.values()), "kept": kept, "dropped": dropped}


def _by(pairs: pl.DataFrame, name: str) -> dict[str, int]:
    counted = pairs.group_by(name).len().sort(name)
    return {str(value): count for value, count in counted.iter_rows()}
