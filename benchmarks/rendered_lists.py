"""The results of `quality_lists.py` and `rater_shares.py`, as Markdown."""

from collections.abc import Mapping
from typing import Any

from rendered_parts import TITLES, cells_of, differences, source, table

FIGURES = ("ndcg", "ndcg@10", "mrr", "micro_f1", "macro_f1", "log_loss")


def quality_lists(name: str, result: Mapping[str, Any]) -> str:
    """Write the result for one dataset and encoder."""
    counts, systems, selection = result["counts"], result["systems"], result["selection"]
    shown = [figure for figure in FIGURES if any(figure in of["mean"] for of in systems.values())]
    rows = [[system, *cells_of(of["mean"], shown)] for system, of in systems.items()]
    each = [
        [f"{system}, seed {seed}", *cells_of(figures, shown)]
        for system, of in systems.items()
        if len(of["seeds"]) > 1
        for seed, figures in zip(result["seeds"], of["seeds"], strict=True)
    ]
    heads = ["", *(TITLES[figure] for figure in shown)]
    lines = [
        f"**Lists, beside sentence-transformers: {result['data']}.** {result['encoder']}; {counts['pairs']:,} pairs of "
        f"{counts['queries']:,} queries, each predicted by models that did not see it; ranking figures are over the "
        f"{counts['queries_ranked']:,} queries with two grades or more. Means over {len(result['seeds'])} seeds; log "
        f"loss is better lower. Each side's best was chosen for each fold by {selection['how']}, among "
        f"{selection['tries']} tries of both sides."
        + ("" if not (left := result["not_measured"]) else f" Not measured: {'; '.join(left)}."),
        "",
        table(heads, rows),
        "",
        *(
            f"{system} minus {result['reference']}: {differences(found)}."
            for system, found in result["differences"].items()
        ),
        "",
        table(["each seed", *heads[1:]], each),
        "",
    ]
    return "\n".join([*lines, source(name, result)])


def rater_shares(name: str, result: Mapping[str, Any]) -> str:
    """Write the result of `rater_shares.py`."""
    counts, systems = result["counts"], result["systems"]
    shown = ("log_loss", "micro_f1", "macro_f1", "ndcg@10")
    lines = [
        f"**Shares of raters as targets, beside their majority: {result['data']}.** {result['encoder']}; "
        f"{counts['pairs']:,} pairs of {counts['queries']:,} queries with {counts['grades']:,} grades, each predicted "
        f"by models that did not see its query; means over {len(result['seeds'])} seeds. Log loss is of each rater's "
        "grade and is better lower, the other figures are of the majority. Smoothing was chosen, and temperatures were "
        "fitted, on inner folds.",
        "",
        table(["", *map(TITLES.__getitem__, shown)], [[of, *cells_of(systems[of]["mean"], shown)] for of in systems]),
        "",
        *(f"{gap[0].upper() + gap[1:]}: {differences(found)}." for gap, found in result["differences"].items()),
        "",
    ]
    return "\n".join([*lines, source(name, result)])
