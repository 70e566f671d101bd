"""The results about a known catalogue, `score_catalogue.py`, `serve_latency.py --products` and `index_updates.py`."""

from collections.abc import Mapping
from typing import Any

from rendered_parts import machine_of, source, table


def score_catalogue(name: str, result: Mapping[str, Any]) -> str:
    """Write the result of `score_catalogue.py`."""
    full, form, kept = result["times_our_best_full_fp32"], result["interaction"], result["index"]
    rows = [
        [
            system,
            f"{of['pairs_per_second']:,.0f}",
            f"{of['p50_ms']:,.0f}",
            f"{of['p95_ms']:,.0f}",
            f"{of['times_faster']:.1f}",
            f"{full[system]:.1f}" if system in full else "",
        ]
        for system, of in result["systems"].items()
    ]
    heads = ["", "pairs/s", "p50, ms", "p95, ms", "times sentence-transformers", "times our best full fp32"]
    goals = "; ".join(f"{times} times {what}" for what, times in result["goals"].items())
    states = ", ".join(f"{of['bytes_per_product'] / 1024:,.0f} KiB in {precision}" for precision, of in kept.items())
    lines = [
        f"**Reranking a known catalogue.** {result['encoder']}, split after {form['product_layers']} layers; requests "
        f"of one query and {result['candidates']} products, {result['max_length']} tokens a pair, {result['requests']} "
        f"requests by each system in turn; on {machine_of(result)}. A product of the index takes {states}. "
        f"Goals: {goals}.",
        "",
        table(heads, rows),
        "",
    ]
    return "\n".join([*lines, source(name, result)])


def serve_catalogue(name: str, result: Mapping[str, Any]) -> str:
    """Write the result of `serve_latency.py --products`."""
    rows = [
        [
            system,
            str(of["clients"]),
            f"{of['requests_per_second']:.2f}",
            f"{of['p50']:.2f}",
            f"{of['p95']:.2f}",
            f"{of['times_throughput']:.1f}",
        ]
        for system, each in result["systems"].items()
        for of in each
    ]
    goal = result["goal"]
    lines = [
        f"**Serving a known catalogue.** Requests of one query and {result['pairs_per_request']} products, "
        f"{result['max_length']} tokens a pair, to a server with an index of {result['products']:,} products and to a "
        f"plain FastAPI endpoint around a `CrossEncoder`; on {machine_of(result)}. Goal: {goal['times']:.0f} times at "
        f"{goal['clients']} clients.",
        "",
        table(["", "clients", "requests/s", "p50, s", "p95, s", "times the plain endpoint's"], rows),
        "",
    ]
    return "\n".join([*lines, source(name, result)])


def index_updates(name: str, result: Mapping[str, Any]) -> str:
    """Write the result of `index_updates.py` without kills."""
    taken = result["cpu_seconds"]
    line = (
        f"**Updating an index.** {result['encoder']}; {result['products']:,} products indexed in "
        f"{taken['whole']:.1f} s of processor time, then {result['changed']:,} of them changed: "
        f"{taken['changed']:.2f} s, {result['share']:.2%} of the whole (goal: at most {result['goal']:.1%})."
    )
    return f"{line}\n{source(name, result)}"
