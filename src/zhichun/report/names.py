"""Names of figures and classes as people write them."""

from typing import Final

from zhichun import schema

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
    "ece": "calibration error (lower is better)",
}


def figure_name(key: str) -> str:
    """Name a figure of ``metrics.json`` for people."""
    if key.startswith("substitute."):
        return f"substitutes against the rest: {figure_name(key.removeprefix('substitute.'))}"
    return NAMES.get(key, key.replace("f1.", "F1 of "))


def class_name(label: str) -> str:
    """Write a class in full, ``E Exact``, with a space that no line is broken at."""
    return f"{label}\u00a0{schema.LABEL_NAMES[label]}" if label in schema.LABEL_NAMES else label
