"""Figures and rankings as tables on the terminal.

Where it is narrow, titles and names give way: numbers stay whole.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from zhichun.cli.options import stdout
from zhichun.core import schema
from zhichun.metrics.agreement import HUMAN_METRICS
from zhichun.metrics.figures import baselines, flat
from zhichun.metrics.metric import UNRANKED
from zhichun.score.export.export_folder import Check
from zhichun.score.rank import Ranked

LABEL_COLORS: Final = {"E": "green", "S": "yellow", "C": "cyan", "I": "red"}
# The others are in metrics.json; more columns do not fit beside each other.
LOCALES_SHOWN: Final = 4
METRICS: Final = {"ndcg": "nDCG", "micro_f1": "micro-F1"}
# Where it is narrower, a ranking has no probabilities, which would leave no room for the products.
WIDTH_OF_PROBABILITIES: Final = 72


def laid_out(title: str, headings: Iterable[str], rows: Iterable[Sequence[str]], *, least: int | None = None) -> Table:
    """Make a table of names, which give way where it is narrow (to ``least`` letters), and of figures beside them."""
    table = Table(title=title)
    for place, heading in enumerate(headings):
        if place:
            table.add_column(escape(heading), justify="right", no_wrap=True)
        else:
            table.add_column(escape(heading), overflow="fold", min_width=least)
    for name, *cells in rows:
        table.add_row(escape(name), *cells)
    return table


def figures_table(measured: dict[str, Any]) -> Table:
    """Lay out what `zhichun.metrics.figures.measure` gives: overall, by locale, and the baselines beside it."""
    version = measured.get("version", "all")
    of = "" if version == "all" else f", {version} version"
    by_locale = measured.get("by_locale", {})
    largest = sorted(by_locale, key=lambda name: -by_locale[name]["pairs"])[:LOCALES_SHOWN]
    parts = {name: by_locale[name] for name in by_locale if name in largest} | measured.get("by_list", {})
    columns = {"all": flat(measured), **{name: flat(part) for name, part in parts.items()}}
    columns |= {name.replace(" ", "\n"): of for name, of in baselines(measured).items()}
    title = f"{measured['split']}{of}: {measured['pairs']:,} pairs of {measured['queries']:,} queries"
    cells = ((name, *(_figure(figures.get(name)) for figures in columns.values())) for name in columns["all"])
    table = laid_out(title, ["", *columns], cells)
    if "ndcg" in measured:
        gains = " ".join(f"{label} {gain:g}" for label, gain in schema.GAINS["esci"].items())
        table.caption = f"ndcg: gains {gains}; ndcg.official-script: S and C swapped; ties are averaged"
    return table


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def confusion_table(measured: dict[str, Any], classes: Sequence[str]) -> Table:
    """Lay out the confusion matrix; rows are the truth."""
    rows = enumerate(zip(classes, measured["confusion"], strict=True))
    cells = ((name, *(f"{count:,}" for count in row), f"{row[at] / max(1, sum(row)):.3f}") for at, (name, row) in rows)
    return laid_out("judged ↓ predicted →", ["", *classes, "recall"], cells)


def ranking_table(
    query: str,
    ranked: Sequence[Ranked],
    classes: Sequence[str],
    judged: dict[str, str] | None = None,
    *,
    width: int | None = None,
) -> Table:
    """Lay out a ranking with label, probabilities where they fit, score, and the judgement where it is known."""
    shown = classes if (width or stdout.width) >= WIDTH_OF_PROBABILITIES else ()
    table = Table(title=escape(query), title_justify="left")
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("product", max_width=60)  # the one column that may shrink
    if judged is not None:
        table.add_column("judged", no_wrap=True)
    if classes:
        table.add_column("label", no_wrap=True)
    for name in (*shown, "score"):
        table.add_column(name, justify="right", no_wrap=True)
    for place, product in enumerate(ranked, start=1):
        cells: list[str | Text] = [str(place), Text(product.title, no_wrap=True, overflow="ellipsis")]
        if judged is not None:
            cells.append(badge(judged.get(product.product_id)))
        if classes:
            cells.append(badge(product.label))
        shares = (f"{share:.2f}" for share in product.probabilities[: len(shown)])
        table.add_row(*cells, *shares, f"{product.score:.4f}")
    return table


def badge(label: str | None) -> str:
    """Write a label in its color."""
    color = LABEL_COLORS.get(label or "")
    return label or "" if color is None else f"[bold {color}]{label}[/]"


def settings_table(rows: Iterable[tuple[str, str, str]]) -> Table:
    """Lay out what `zhichun.fit.recipe.describe` gives: names whole, so that they can be copied."""
    table = Table(expand=True)
    table.add_column("setting", no_wrap=True)
    table.add_column("value", overflow="fold", max_width=25)
    table.add_column("meaning", overflow="fold", ratio=1)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def checks_table(checks: Mapping[str, Check]) -> Table:
    """Lay out how each engine of an export answers beside the model that it was made from."""
    pairs = max((check.pairs for check in checks.values()), default=0)
    rows = []
    for engine, check in checks.items():
        labels = "" if check.labels is None else f"{check.labels:.1%}"
        rows.append((engine, labels, f"±{check.score:.5f}", f"±{check.logits:.5f}", "yes" if check.safe else "no"))
    headings = ["engine", "same labels", "score, mean", "logits, most", "safe"]
    return laid_out(f"beside the model, on {pairs:,} held-out pairs", headings, rows)


def gain_table(gain: dict[str, Any]) -> Table:
    """Lay out what an ensemble gains on held-out pairs."""
    rows = {**gain["members"], "together, equal weights": gain["equal"]}
    if "fitted" in gain:
        rows["together, fitted to the other half"] = gain["fitted"]
    return _by_member(f"{gain['pairs']:,} pairs of {gain['queries']:,} queries that all held out", rows.items())


def members_table(measured: dict[str, Any]) -> Table:
    """Lay out how an ensemble stands beside its members, as `zhichun.measure.evaluate.evaluate` gives it."""
    members = measured["ensemble"]["members"]
    together = {**measured, "name": "together", "weight": 1.0, "seconds": sum(each["seconds"] for each in members)}
    return _by_member(f"members on {measured['split']}", [(each["name"], each) for each in (*members, together)])


def _by_member(title: str, rows: Collection[tuple[str, Mapping[str, Any]]]) -> Table:
    """Lay out the weight, figures and seconds of members, as far as they are known."""
    forms = {"weight": ".3f", **dict.fromkeys(METRICS, ".4f"), "seconds": ".1f"}
    shown = [name for name in forms if any(name in of for _, of in rows)]
    cells = ((member, *(format(of[name], forms[name]) if name in of else "" for name in shown)) for member, of in rows)
    return laid_out(title, ["member", *(METRICS.get(name, name) for name in shown)], cells)


def differences(found: dict[str, Any]) -> list[str]:
    """Say how an ensemble stands beside the best of its members, and beside equal weights."""
    gaps = [("fitted minus equal weights", *each) for each in found.get("fitted_against_equal", {}).items()]
    for name, gap in found["against_best"].items():
        gaps.append((f"together minus the best member ({gap['member']})", name, gap))
    return [said_difference(*each) for each in gaps]


def said_difference(what: str, name: str, gap: Mapping[str, float]) -> str:
    """Write one difference of a metric, with its interval."""
    interval = f"{gap['low']:+.4f} to {gap['high']:+.4f}, p = {gap['p']:.3f}"
    return f"{what}, {METRICS[name]}: {gap['mean']:+.4f} (95 %: {interval})"


def intervals_table(title: str, rows: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]) -> Table:
    """Lay out figures with their intervals below them."""
    cells = ((what, *(_interval(of.get(name)) for name in titles)) for what, of in rows.items())
    table = laid_out(title, ["", *titles.values()], cells, least=10)
    table.caption = "below a figure: its 95 % interval, by a bootstrap over queries"
    return table


def raters_table(title: str, found: Mapping[str, Any]) -> Table:
    """Lay out what `zhichun.metrics.agreement.HUMAN_METRICS` give for a model, raters and the ceiling."""
    # A rater's name is folded, and so never has a capital letter.
    named = {"Model": found.get("model"), **found["raters"], "Ceiling": found["ceiling"]}
    rows = {name: figures for name, figures in named.items() if figures}
    titles = {metric.name: metric.title for metric in HUMAN_METRICS if any(metric.name in of for of in rows.values())}
    return intervals_table(title if "ndcg" in titles else f"{title}; {UNRANKED}", rows, titles)


def _interval(figure: Any) -> str:
    if isinstance(figure, float):
        return f"{figure:.1%}"
    if figure is None or figure["value"] is None:
        return "–"
    if figure["low"] is None:
        return f"{figure['value']:.3f}"
    low, high = (f"{figure[end]:.3f}".replace("0.", ".", 1) for end in ("low", "high"))
    return f"{figure['value']:.3f}\n{low}–{high}"


def comparison_table(found: dict[str, Any]) -> Table:
    """Lay out what `zhichun.measure.compare.compare` gives: each metric overall, then one of them by segment."""
    parts = dict(found["parts"])
    overall = parts.pop("all")["figures"]
    shown = found["shown"]
    rows = [*overall.items(), *((name, part["figures"][shown]) for name, part in parts.items())]
    cells = (
        (
            name,
            f"{each['a']:.4f}",
            f"{each['difference']:+.4f}\n{each['low']:+.4f} to {each['high']:+.4f}",
            f"{each.get('p_holm', each['p']):.3f}",
            f"{each['least_shown']:.4f}",
        )
        for name, each in rows
    )
    title = f"A - B on {found['pairs']:,} pairs of {found['queries']:,} queries"
    table = laid_out(title, ["", "A", "A - B, 95 %", "p", "least\nshown"], cells, least=12)
    table.caption = f"by segment: {shown}, p corrected for their number"
    return table


def scoring_table(answers: dict[str, Any]) -> Table:
    """Lay out what scoring costs, as `zhichun.score.plan.plan` gives it."""
    question, rows = answers["question"], []
    headings = ["model", "engine", "pairs/s", "time", "memory", f"candidates\nin {question['latency'] * 1000:g} ms"]
    if question["candidates"] is not None:
        headings.append(f"latency of\n{question['candidates']:,}")
    for row in answers["scoring"]:
        latency, rate = [_duration(row["latency"])] if "latency" in row else [], row["pairs_per_second"]
        shown = f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}" if rate >= 1 else f"{rate:.2g}"
        costs = shown, _duration(row["seconds"]), f"{row['memory_gib']:.1f} GiB"
        rows.append((row["model"], row["engine"], *costs, f"{row['candidates']:,}", *latency))
    title = f"scoring {question['pairs']:,} pairs of about {question['tokens']} tokens"
    return laid_out(title, headings, rows, least=13)


def _duration(seconds: float) -> str:
    """Write a time in the unit that a person would take."""
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min"), (1, "s")):
        if seconds >= 2 * size or (size == 1 and seconds >= 1):
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds * 1000:.0f} ms"
