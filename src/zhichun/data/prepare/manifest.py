"""The manifest of a dataset folder: sources, options and counts."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

import zhichun
from zhichun.core.schema import FOLD, JUDGED, LABEL, LABELS, LOCALE, ORIGIN, QUERY_ID, SPLIT
from zhichun.data.prepare.clean_catalogue import CatalogueCounts
from zhichun.data.prepare.steps import Pairs

FORMAT: Final = 1


def describe_dataset(
    sources: Sequence[Mapping[str, Any]],
    options: Mapping[str, Any],
    catalogue: CatalogueCounts,
    made_products: Mapping[str, int],
    pairs: Pairs,
    refused: Mapping[str, Mapping[str, int]],
    ids: Mapping[str, str],
) -> dict[str, Any]:
    """Write the manifest of a dataset, ready for JSON; the same sources and options give the same."""
    frame = pairs.frame
    by_origin = _by(frame, ORIGIN)
    return {
        "format": FORMAT,
        "zhichun": zhichun.__version__,
        "sources": list(sources),
        "options": dict(options),
        "products": {
            **_counts(catalogue.kept, refused["products"]),
            "made": dict(made_products),
            "by_locale": dict(sorted(catalogue.by_locale.items())),
            "with_text": dict(catalogue.with_text),
            "missing_words": {name: count for name, count in catalogue.missing_words.items() if count},
        },
        "steps": [step.to_json() for step in pairs.counts],
        "examples": {
            **_counts(by_origin.get(JUDGED, 0), pairs.dropped),
            "made": {origin: count for origin, count in by_origin.items() if origin != JUDGED},
            "ids": dict(ids),
            "queries": frame[QUERY_ID].n_unique(),
            "by_locale": _by(frame, LOCALE),
            "by_label": {label: _by(frame, LABEL).get(label, 0) for label in LABELS},
            "by_split": _by(frame, SPLIT),
            "by_fold": _by(frame, FOLD),
            "by_origin": by_origin,
        },
        "refused_issues": dict(sorted(refused["corrections"].items())),
    }


def _counts(kept: int, refused: Mapping[str, int]) -> dict[str, Any]:
    dropped = {reason: count for reason, count in sorted(refused.items()) if count}
    return {"read": kept + sum(dropped.values()), "kept": kept, "dropped": dropped}


def _by(pairs: pl.DataFrame, name: str) -> dict[str, int]:
    counted = pairs.group_by(name).len().sort(name)
    return {str(value): count for value, count in counted.iter_rows()}
