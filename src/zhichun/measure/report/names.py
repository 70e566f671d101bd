"""Names of figures and classes as people write them."""

from collections.abc import Iterable
from typing import Final

from zhichun.core import schema

NAMES: Final = {
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "ndcg": "nDCG",
    "ndcg.official-script": "nDCG, gains of the official script",
    "ndcg@10": "nDCG@10",
    "mrr": "MRR",
    "precision@1": "precision@1",
    "precision@5": "precision@5",
    "log_loss": "log loss (lower is better)",
    "mlm_loss": "MLM loss (lower is better)",
    "ece": "calibration error (lower is better)",
}

PRETEXT_TASKS: Final = {
    "mlm": "MLM",
    "pair_mlm": "MLM on pairs",
    "product2query": "Product2Query",
    "product2brand": "Product2Brand",
    "product2color": "Product2Color",
    "contrastive": "contrastive",
}

LANGUAGES: Final = {"us": "en", "es": "es", "jp": "ja"}


def figure_name(key: str) -> str:
    """Name a figure of ``metrics.json`` for people."""
    if key.startswith("substitute."):
        return f"substitutes against the rest: {figure_name(key.removeprefix('substitute.'))}"
    task, _, figure = key.partition(".")
    if task in PRETEXT_TASKS:
        return f"{PRETEXT_TASKS[task]}: {figure}"
    return NAMES.get(key, key.replace("f1.", "F1 of "))


def class_name(label: str) -> str:
    """Write a class in full, ``E Exact``, with a space that no line is broken at."""
    return f"{label}\u00a0{schema.LABEL_NAMES[label]}" if label in schema.LABEL_NAMES else label


def language(locale: str) -> str:
    """Give the language of a locale's texts as HTML's ``lang`` has it, empty where it is not known."""
    return LANGUAGES.get(locale, "")


def in_order(locales: Iterable[str]) -> list[str]:
    """Put locales into the order of `schema.LOCALES`, all others after these by name."""
    known = list(schema.LOCALES)
    return sorted(set(locales), key=lambda locale: (known.index(locale) if locale in known else len(known), locale))
