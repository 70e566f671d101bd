"""The results about a known catalogue: of `score_catalogue.py`, `catalogue_front.py`, and of its server and updates."""

import math
from collections.abc import Mapping
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement, tostring

from rendered_parts import TITLES, cells_of, machine_of, source, table

from zhichun.measure.page import WIDTH, Mark, Plot

INDEX_FIGURES: Final = ("ndcg", "micro_f1", "macro_f1", "log_loss")
FRONT_FIGURES: Final = ("ndcg", "ndcg@10", "micro_f1", "macro_f1", "log_loss")
# What an image has of the pages' style sheet, and no dark mode: where it is shown is not known.
STYLE: Final = """text { font: 13px sans-serif; fill: #333 } .grid { stroke: #ddd }
.line { fill: none; stroke-width: 2 }
.a { stroke: #2563a8 } .b { stroke: #b45309; stroke-dasharray: 7 3 } .c { stroke: #15803d }
.mark { stroke: #777; stroke-dasharray: 5 4 }
.dot { stroke: none } .dot.a { fill: #2563a8 } .dot.b { fill: #b45309 }
.dot.c { fill: #15803d }"""


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


def catalogue_front(name: str, result: Mapping[str, Any]) -> str:
    """Write the result of `catalogue_front.py`."""
    of, speed = result["quality_of"], result["speed"]
    rows = [
        [
            f"{form}, {trained}",
            f"{speed[form]['times_faster']:.1f}",
            *cells_of(figures, FRONT_FIGURES),
            f"{len(figures['seeds'])}",
            ""
            if not (loss := figures.get("minus_full"))
            else "{mean:+.3f} ({low:+.3f} to {high:+.3f})".format(**loss["ndcg"]),
        ]
        for trained, forms in result["quality"].items()
        for form, figures in forms.items()
    ]
    heads = [
        "",
        "times sentence-transformers",
        *(TITLES[figure] for figure in FRONT_FIGURES),
        "seeds",
        "nDCG minus `Full`",
    ]
    lines = [
        f"**What a known catalogue gains in speed and loses in quality.** {result['encoder']}. Speed: requests of one "
        f"query and {result['candidates']} products, {result['max_length']} tokens a pair, from an index in fp16, "
        f"`Full` by torch, on {machine_of(result)}. Quality: {of['data']}, {of['pairs']:,} pairs of {of['queries']:,} "
        f"queries, each predicted by models that did not see it, {of['max_length']} tokens; a random order has an nDCG "
        f"of {result['random']['ndcg']:.3f}. Goals of one model: 40 times, and at most 0.005 of nDCG below `Full`. The "
        "indexed stack has no fine-tuned model: trees and a linear model read an index of vectors.",
        "",
        "![Speed and nDCG of each form](images/catalogue_front.svg)",
        "",
        table(heads, rows),
        "",
    ]
    return "\n".join([*lines, source(name, result)])


def index_quality(name: str, result: Mapping[str, Any]) -> str:
    """Write the result of `index_quality.py`."""
    heads = ["KiB a product", "labels kept", *(TITLES[figure] for figure in INDEX_FIGURES)]
    lines = [f"**What an index costs in quality, and what its first stage finds**, on {machine_of(result)}.", ""]
    for run, of in result["runs"].items():
        rows = [
            [
                precision,
                f"{found['bytes_per_product'] / 1024:.0f}",
                f"{found['labels_kept']:.1%}",
                *cells_of(found, INDEX_FIGURES),
            ]
            for precision, found in of["precisions"].items()
        ]
        first = of["first_stage"]
        (recall,) = (key for key in first if key.startswith("recall"))
        seconds = ", ".join(f"{what} {taken:.2f} s" for what, taken in first["seconds"].items())
        lines += [
            table([f"{run}, states of {of['state']}", *heads], rows),
            "",
            f"{first['queries']} queries against {first['products']:,} products: {recall} "
            f"{', '.join(f'{of:.3f} by {what}' for what, of in first[recall].items())}; median of a query: {seconds}.",
            "",
        ]
    return "\n".join([*lines, source(name, result)])


def front_image(result: Mapping[str, Any]) -> str:
    """Draw quality against speed as SVG: a line for each way of training, each form by its number of layers."""
    speed, ways = result["speed"], result["quality"]
    points = {
        trained: sorted(
            (speed[form]["times_faster"], of["ndcg"], form.rpartition(" ")[2]) for form, of in forms.items()
        )
        for trained, forms in ways.items()
    }
    heights = [20 * y for each in points.values() for _, y, _ in each]
    low, high = math.floor(min(heights)) / 20, math.ceil(max(heights)) / 20
    fastest = max(x for each in points.values() for x, _, _ in each)
    end = 10.0 * math.ceil(max(50.0, 1.25 * fastest) / 10)  # with room for its name
    plot = Plot((0, end), (low, high), "times the pairs per second of sentence-transformers", "nDCG", 300)
    plot.segment((40, low), (40, high), "mark")
    for style, place, (trained, each) in zip("abc", (190, 210, 230), points.items(), strict=False):
        xs, ys, names = zip(*each, strict=True)
        plot.line(xs, ys, style)
        plot.dots(xs, ys, style)
        for x, y, name in zip(xs, ys, names, strict=True):
            plot.marks.append(_text(plot.x.place(x) + 6, plot.y.place(y) - 6, name))
        ends = {"x1": "60", "x2": "84", "y1": f"{place}", "y2": f"{place}"}
        plot.marks += [("line", {"class": style, **ends}, ""), _text(90, place + 4, trained)]
    image = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "viewBox": plot.view, "width": f"{2 * WIDTH}"})
    SubElement(image, "style").text = STYLE
    SubElement(image, "rect", {"width": "100%", "height": "100%", "fill": "white"})
    for kind, attributes, text in plot.marks:
        SubElement(image, kind, {key: str(value) for key, value in attributes.items()}).text = text
    return tostring(image, "unicode") + "\n"


def _text(x: float, y: float, text: str) -> Mark:
    return "text", {"x": f"{x:.1f}", "y": f"{y:.1f}"}, text
