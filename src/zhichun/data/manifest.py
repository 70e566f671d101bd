"""What a dataset folder was made of, and what is in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

import zhichun
from zhichun.data.catalogue import CatalogueCounts
from zhichun.data.pairs import CheckedPairs
from zhichun.data.rejected import RejectedRows
from zhichun.data.sources import describe_files
from zhichun.schema import FOLD, LABEL, LABELS, LOCALE, QUERY_ID, SPLIT

FORMAT: Final = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class DatasetCounts:
    """What the steps kept and refused.

    Attributes
    ----------
    catalogue
        The products that were kept.
    refused_products
        Refused rows of the catalogue by reason.
    pairs
        The pairs that were kept.
    rejected
        All refused rows.
    """

    catalogue: CatalogueCounts
    refused_products: Mapping[str, int]
    pairs: CheckedPairs
    rejected: RejectedRows


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
    pairs, catalogue = counts.pairs.frame, counts.catalogue
    refused = {
        reason: count - counts.refused_products.get(reason, 0) for reason, count in counts.rejected.counts.items()
    }
    return {
        "format": FORMAT,
        "zhichun": zhichun.__version__,
        "sources": describe_files(files),
        "options": dict(options),
        "products": {
            **_step(catalogue.kept, counts.refused_products),
            "by_locale": dict(sorted(catalogue.by_locale.items())),
            "with_text": dict(catalogue.with_text),
        },
        "examples": {
            **_step(len(pairs), refused),
            "ids": dict(counts.pairs.ids),
            "queries": pairs[QUERY_ID].n_unique(),
            "by_locale": _by(pairs, LOCALE),
            "by_label": {label: _by(pairs, LABEL).get(label, 0) for label in LABELS},
            "by_split": _by(pairs, SPLIT),
            "by_fold": _by(pairs, FOLD),
        },
    }


def _step(kept: int, refused: Mapping[str, int]) -> dict[str, Any]:
    dropped = {reason: count for reason, count in sorted(refused.items()) if count}
    return {"read": kept + sum(dropped.values()), "kept": kept, "dropped": dropped}


def _by(pairs: pl.DataFrame, name: str) -> dict[str, int]:
    counted = pairs.group_by(name).len().sort(name)
    return {str(value): count for value, count in counted.iter_rows()}
