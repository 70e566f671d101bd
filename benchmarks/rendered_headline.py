"""The table that the page of results begins with: a line for each comparison with sentence-transformers."""

from collections.abc import Callable, Mapping
from typing import Any

from rendered_parts import machine_of

Result = Mapping[str, Any]


def _quality(result: Result) -> list[str]:
    of = result["differences"]["zhichun"]["micro_f1"]
    return [
        "quality of labels, plain fine-tuning",
        f"micro-F1 {of['mean']:+.3f} (95 %: {of['low']:+.3f} to {of['high']:+.3f})",
        f"{result['encoder']}, extract of Shopping Queries, {result['pairs']['test']:,} test pairs, "
        f"{len(next(iter(result['systems'].values()))['seeds'])} seeds",
    ]


def _lists(result: Result) -> list[str]:
    of = result["differences"]["ours at its best"]
    gaps = {"nDCG@10": of["ndcg@10"], "micro-F1": of["micro_f1"]}
    return [
        "ranking and labels of lists, each at its best",
        "; ".join(f"{name} {gap['mean']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})" for name, gap in gaps.items()),
        f"{result['encoder']}, {result['data']}, {result['counts']['queries']:,} queries, {len(result['seeds'])} seeds",
    ]


def _scoring(result: Result) -> list[str]:
    systems = result["systems"]
    best = max((of["times_faster"], name) for name, of in systems.items() if of["labels_same"] == 1.0)
    return [
        "scoring, same labels",
        f"{best[0]:.1f} times the pairs/s ({best[1]})",
        f"{result['encoder']}, {result['pairs']['timed']:,} pairs, {machine_of(result)}",
    ]


def _training(result: Result) -> list[str]:
    of = result["systems"]["zhichun"]
    return [
        "training, same loss",
        f"{of['times_faster']:.1f} times the pairs/s",
        f"{result['encoder']}, {result['batch_size']} pairs a step, {machine_of(result)}",
    ]


def _serving(result: Result) -> list[str]:
    shape, of = list(result["shapes"].items())[-1]
    best = max(
        (cell["times_throughput"], name)
        for name, found in of["systems"].items()
        for cell in found["fresh"]
        if cell["clients"] == 8
    )
    return [
        "serving, 8 clients, 100 texts a request",
        f"{best[0]:.1f} times the requests/s ({best[1]})",
        f"{shape}'s shape, {machine_of(result)}",
    ]


def _catalogue(result: Result) -> list[str]:
    best = max((of["times_faster"], name) for name, of in result["systems"].items())
    return [
        f"reranking {result['candidates']} products of a known catalogue",
        f"{best[0]:.0f} times the pairs/s ({best[1]})",
        f"{result['encoder']}, split; extract of Shopping Queries, {machine_of(result)}",
    ]


def _serving_catalogue(result: Result) -> list[str]:
    clients = result["goal"]["clients"]
    best = max(
        (of["times_throughput"], name)
        for name, each in result["systems"].items()
        for of in each
        if of["clients"] == clients
    )
    return [
        f"serving it, {clients} clients, {result['pairs_per_request']} products a request",
        f"{best[0]:.0f} times the requests/s ({best[1]})",
        f"{result['encoder']}, split; {machine_of(result)}",
    ]


ROWS: dict[str, Callable[[Result], list[str]]] = {
    "quality_esci": _quality,
    "quality_lists_chorus": _lists,
    "score_cpu": _scoring,
    "train_cpu": _training,
    "serve_latency": _serving,
    "score_catalogue": _catalogue,
    "serve_catalogue": _serving_catalogue,
}
