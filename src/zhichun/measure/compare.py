"""Is a change worth it? Two systems on the same judged pairs, by a paired bootstrap over queries, with gates for CI.

All differences are A - B. Legend: ``F`` metrics, ``S`` draws, ``R`` rows of the dataset that are compared.

Its page shows the queries that moved most, with the first products of both.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zhichun.core import schema
from zhichun.core.arrays import Bools, Int64
from zhichun.core.errors import UserError, suggest
from zhichun.core.files import new_folder, write_json
from zhichun.data.dataset import Dataset
from zhichun.data.readers.pair_tables import unfit_id, write_qrels, write_run
from zhichun.measure.evaluate import rows_of
from zhichun.measure.page import write_page
from zhichun.measure.systems import System, common_rows, count_left_out, read_systems, segments_of, untrained_rows
from zhichun.metrics import Judged, Metric, RankingMetric, nDCG
from zhichun.metrics.figures import reported
from zhichun.metrics.metric import UNRANKED, BinaryRankingMetric, measurable
from zhichun.metrics.significance import Floats, drawn_values, holm

MOST_QUERIES: Final = 10
MOST_PRODUCTS: Final = 10


@dataclass(frozen=True)
class Moved:
    """A query that A ranks better or worse than B: its figures, and the first products of both with their labels."""

    query: str
    locale: str
    a: float
    b: float
    lists: tuple[list[tuple[str, str]], list[tuple[str, str]]]

    @property
    def won(self) -> bool:
        """Whether A ranks better."""
        return self.a > self.b


def moved_most(dataset: Dataset, rows: Int64, metric: RankingMetric, a: Judged, b: Judged) -> list[Moved]:
    """Find the queries that A wins most, then those that it loses most, as `MOST_QUERIES` of each."""
    (queries, of_a), (_, of_b) = metric.per_query(a), metric.per_query(b)
    order = np.argsort(of_b - of_a, kind="stable").tolist()
    won = [place for place in order[:MOST_QUERIES] if of_a[place] > of_b[place]]
    lost = [place for place in order[: -MOST_QUERIES - 1 : -1] if of_a[place] < of_b[place]]
    titles = pq.read_table(dataset.folder / schema.PRODUCTS_FILE, columns=[schema.TITLE]).column(0)
    texts, locales = dataset.queries, dataset.column(schema.LOCALE)[rows]
    found = []
    for place in (*won, *lost):
        of_query = np.flatnonzero(a.query_ids == queries[place])
        shown = titles.take(pa.array(dataset.product_row[rows[of_query]])).to_pylist()
        label_of = [schema.LABELS[code] for code in a.labels[of_query]]
        lists = [
            [(label_of[at], shown[at] or "") for at in _first(each.scores[of_query])]
            for each in (a, b)
            if each.scores is not None
        ]
        text = texts[int(dataset.query_row[rows[of_query[0]]])].as_py()
        where = str(locales[of_query[0]])
        found.append(Moved(text, where, float(of_a[place]), float(of_b[place]), (lists[0], lists[1])))
    return found


def _first(score_R: np.ndarray) -> list[int]:
    """Return the places of the best, without what was not returned."""
    returned = int(np.count_nonzero(~np.isnan(score_R)))
    best: list[int] = np.argsort(-score_R, kind="stable")[: min(MOST_PRODUCTS, returned)].tolist()
    return best


ALL: Final = "all"
_READS: Final = ("scores", "predictions", "probabilities")
# A gate fails where all of a 95 % interval lies below its margin: one-sided 2.5 %, over all gates and segments.
LEVEL: Final = 0.025
# Of the level for the whole, where there are segments, which have the rest: many of them must not hide an overall loss.
# It has the most queries, so it needs the least: with one half, a segment's planted loss was found more seldom.
WHOLE: Final = 0.25
# The difference that four of five such comparisons would find, in standard errors: 1.96 + 0.84.
SHOWN: Final = 2.8
# Names that others use, such as ir_measures.
_ALIASES: Final = {"p": "precision", "rr": "mrr", "accuracy": "micro_f1"}
_LEAST_GRADE: Final = re.compile(r"(?P<base>\w+)\(rel=(?P<grade>[123])\)")
_GATE: Final = re.compile(
    r"\s*(?P<metric>[^<>=\s(]+(?:\(rel=\d\))?[^<>=\s]*)\s*(?P<sign>>=|<=)\s*(?P<margin>[+-]?\d*\.?\d+)\s*"
)


def least_p(queries: int) -> float:
    """Return the least one-sided p of a sign test: a bootstrap over few queries, all on one side, knows no doubt."""
    return 2.0**-queries


def metric_of(name: str) -> Metric:
    """Find a metric by its name in ``metrics.json`` or that of ir_measures: ``nDCG@20``, ``P@5``, ``RR(rel=2)@10``.

    As qrels have it, a grade of 3 is Exact and of 1 Complement; without ``rel`` Exact alone is relevant.

    Raises
    ------
    UserError
        When there is no such metric.
    """
    base, _, cut = name.partition("@")
    if least := _LEAST_GRADE.fullmatch(base):
        base = least["base"]
    known = {each.name.partition("@")[0].lower(): each for reads in _READS for each in reversed(reported(reads))}
    metric = known.get(_ALIASES.get(base.lower(), base.lower()))
    if metric is None:
        raise UserError(f"there is no metric {name!r}.", remedy=suggest(base.lower(), [*known, *_ALIASES]))
    if not isinstance(metric, RankingMetric):
        if cut:
            raise UserError(f"{metric.name} has no cut, so {name!r} cannot be.", remedy=f"Write {metric.name}.")
        return metric
    if cut and not cut.isdecimal():
        raise UserError(f"{name!r} is cut at no rank.", remedy=f"Write {base}@10.")
    if least is not None:
        if not isinstance(metric, BinaryRankingMetric):
            raise UserError(f"{base} has no relevant grades, so {name!r} cannot be.", remedy=f"Write {base}.")
        metric = dataclasses.replace(metric, relevant=schema.LABELS[: len(schema.LABELS) - int(least["grade"])])
    return dataclasses.replace(metric, k=int(cut) if cut else None)


@dataclass(frozen=True)
class Gate:
    """What a difference A - B has to keep: at least a margin, or at most one for what is better low."""

    metric: Metric
    margin: float
    sign: int

    @classmethod
    def read(cls, text: str) -> Self:
        """Read ``ndcg@10>=-0.002``."""
        match = _GATE.fullmatch(text)
        if match is None:
            remedy = "Write a metric, >= or <=, and what A - B has to keep: --gate 'ndcg@10>=-0.002'."
            raise UserError(f"{text!r} is no gate.", remedy=remedy)
        return cls(metric_of(match["metric"]), float(match["margin"]), 1 if match["sign"] == ">=" else -1)

    def __str__(self) -> str:
        return f"{self.metric.name}{'>=' if self.sign > 0 else '<='}{self.margin:g}"

    def p(self, gap: float, drawn_S: Floats) -> float:
        """Return the chance of so bad a difference where the margin is just kept."""
        short = self.sign * (gap - self.margin)
        return float((1 + (self.sign * (drawn_S - gap) <= short).sum()) / (1 + len(drawn_S)))

    def holds(self, drawn_S: Floats) -> bool:
        """Return whether the worse end of the 95 % interval keeps the margin."""
        return bool(np.quantile(self.sign * drawn_S, LEVEL) >= self.sign * self.margin)


@dataclass(frozen=True, eq=False)
class Part:
    """Two systems on all pairs, or on those of one segment."""

    name: str
    metrics: Sequence[Metric]
    pairs: int
    queries: int
    a_F: Floats
    b_F: Floats
    drawn_SF: Floats

    @classmethod
    def of(cls, name: str, metrics: Sequence[Metric], a: Judged, b: Judged, draws: int, seed: int) -> Self:
        """Measure both on the same draws of queries."""
        (a_F, b_F), (a_SF, b_SF) = drawn_values(metrics, a, b, draws=draws, seed=seed)
        return cls(name, metrics, len(a.labels), len(a.queries), a_F, b_F, a_SF - b_SF)

    def gap(self, metric: Metric) -> tuple[float, Floats]:
        """Return a metric's difference, and those of the draws."""
        place = list(self.metrics).index(metric)
        return float(self.a_F[place] - self.b_F[place]), self.drawn_SF[:, place]

    def figures(self) -> dict[str, dict[str, float]]:
        """Return both figures, their difference with interval and p, and the least that could be shown."""
        gap_F = self.a_F - self.b_F
        low_F, high_F = np.quantile(self.drawn_SF, [0.025, 0.975], axis=0)
        extreme_SF = np.abs(self.drawn_SF - gap_F) >= np.abs(gap_F) - 1e-12
        p_F = np.maximum((1 + extreme_SF.sum(axis=0)) / (1 + len(self.drawn_SF)), min(1, 2 * least_p(self.queries)))
        shown_F = SHOWN * self.drawn_SF.std(axis=0)
        names = ("a", "b", "difference", "low", "high", "p", "least_shown")
        columns = zip(self.a_F, self.b_F, gap_F, low_F, high_F, p_F, shown_F, strict=True)
        return {
            metric.name: dict(zip(names, map(float, each), strict=True))
            for metric, each in zip(self.metrics, columns, strict=True)
        }


def compare(
    a: Path,
    b: Path,
    data: Path,
    *,
    gates: Sequence[str] = (),
    split: str = schema.TEST,
    version: str | None = None,
    columns: Mapping[str, str] | None = None,
    topics: Path | None = None,
    segments: Path | None = None,
    strict: bool = False,
    out: Path | None = None,
    overwrite: bool = False,
    draws: int = 5000,
    seed: int = 0,
    shown: bool = True,
) -> dict[str, Any]:
    """Compare two systems on the judged pairs of a dataset.

    Parameters
    ----------
    a, b
        The proposed system and the baseline: folders of models, scored files, run files or rankings; see
        `zhichun.measure.systems.read_systems`.
    data
        Dataset folder.
    gates
        What A - B has to keep, such as ``ndcg@10>=-0.002``; overall and, corrected for their number, in each segment.
    split, version
        As for `zhichun.evaluate`; all pairs, if no version is given. What A or B was trained on is left out.
    columns, topics
        Own column names of tables; query texts of run files.
    segments
        Table with the user's own segments; see `zhichun.measure.systems.segments_of`.
    strict
        Whether a gate fails too where it is open overall.
    out, overwrite
        Folder to make: ``compare.json``, ``index.html``, ``junit.xml``, and for the tools of TREC ``a.run``, ``b.run``
        and ``judged.qrels``.
    draws, seed
        Of the bootstrap; more are drawn where many gates and segments need them.
    shown
        Whether to show progress.

    Returns
    -------
    dict
        ``a``, ``b``, ``pairs``, ``queries``; ``left_out``: of each system, rows that are ``unjudged``, judged but not
        compared (``elsewhere``), and pairs ``missing``; ``notes`` on all that is; ``parts``: by ``all`` and segment
        ``pairs``, ``queries`` and ``figures`` (of segments with ``p_holm`` beside ``p``); ``gates``: each with its
        ``part``, ``difference``, ``p`` (corrected), ``verdict``: ``holds`` (shown to keep the margin), ``fails`` (shown
        not to) or ``open``, and whether that is ``failed``.

    Raises
    ------
    UserError
        For a gate, a system or a table that cannot be used.
    """
    asked = [Gate.read(text) for text in gates]
    dataset = Dataset.open(data)
    version, rows = dataset.of_version(rows_of(dataset, split), version, ranking=False)
    notes: list[str] = []
    rows = untrained_rows((a, b), dataset, rows, notes.append)
    systems = read_systems((a, b), dataset, rows, columns=columns, topics=topics, shown=shown)
    left_out = [count_left_out(system, rows, notes.append) for system in systems]
    rows = common_rows(systems[0], systems[1], dataset, rows)
    of_a, of_b = (system.judged(dataset, rows) for system in systems)
    metrics = _metrics(systems, asked, of_a, of_b)
    masks = segments_of(dataset, rows, segments, notes.append)
    draws = max(draws, int(len(asked) / WHOLE * (1 + len(masks)) / LEVEL))  # or no p could be low enough
    parts = measure_parts(metrics, of_a, of_b, masks, draws=draws, seed=seed)
    if asked and parts[0].queries < (least := least_queries(len(asked))):
        notes.append(f"{parts[0].queries:,} queries are too few to judge a gate: it takes {least} at least")
    usual = nDCG() @ 10 if nDCG() @ 10 in metrics else metrics[0]
    shown_by = next((gate.metric for gate in asked if isinstance(gate.metric, RankingMetric)), usual)
    if not isinstance(shown_by, RankingMetric):
        notes.append(UNRANKED)
    found = {
        **{name: system.name for name, system in zip("ab", systems, strict=True)},
        "split": split,
        "version": version,
        "pairs": parts[0].pairs,
        "queries": parts[0].queries,
        "shown": shown_by.name,
        "left_out": left_out,
        "parts": _figures(parts),
        "gates": judge_gates(parts, asked, strict=strict),
        "notes": notes,
    }
    moved = moved_most(dataset, rows, shown_by, of_a, of_b) if isinstance(shown_by, RankingMetric) else []
    if out is not None:
        ids = dataset.column(schema.QUERY_ID)[rows], dataset.column(schema.PRODUCT_ID)[rows]
        with new_folder(
            out, overwrite=overwrite, replaceable=lambda folder: (folder / "compare.json").is_file()
        ) as folder:
            if (unfit := unfit_id(ids[1])) is None:
                write_qrels(folder / "judged.qrels", *ids, of_a.labels)
                for name, judged in (("a", of_a), ("b", of_b)):
                    write_run(folder / f"{name}.run", *ids, judged.scores, tag=name)
            else:
                notes.append(f"there is no a.run, b.run and judged.qrels: a TREC file cannot hold the id {unfit!r}")
            write_json(folder / "compare.json", found)
            values: dict[str, Any] = {"found": found, "metric": shown_by, "moved": moved}
            write_page(folder / "index.html", "compare.html", title="A against B", **values)
            write_page(folder / "junit.xml", "junit.xml", gates=found["gates"])
    return found


def _metrics(systems: Sequence[System], gates: Sequence[Gate], *judged: Judged) -> list[Metric]:
    """Choose what both systems can be measured by."""
    has_classes = all(system.probabilities_EC is not None for system in systems)
    for gate in gates:
        if gate.metric.reads != "scores" and not has_classes:
            problem = f"{gate} needs probabilities of the four labels, which one of the two does not have."
            raise UserError(problem, remedy="Leave this gate out.")
    of_kinds = [metric for reads in (_READS if has_classes else _READS[:1]) for metric in reported(reads)]
    found = measurable(dict.fromkeys([*(gate.metric for gate in gates), *of_kinds]), *judged)
    if not found or any(gate.metric not in found for gate in gates):
        remedy = "Compare on several judged products of a query, or models of labels without a gate of ranking."
        raise UserError(f"{UNRANKED}.", remedy=remedy)
    return found


def measure_parts(
    metrics: Sequence[Metric], a: Judged, b: Judged, masks: Mapping[str, Bools], *, draws: int, seed: int
) -> list[Part]:
    """Measure all pairs, then each segment."""
    found = [Part.of(ALL, metrics, a, b, draws, seed)]
    return found + [Part.of(name, metrics, a.select(mask), b.select(mask), draws, seed) for name, mask in masks.items()]


def _figures(parts: Sequence[Part]) -> dict[str, Any]:
    """Put the figures of all parts together; segments are corrected for their number, each metric for itself."""
    found: dict[str, Any] = {
        part.name: {"pairs": part.pairs, "queries": part.queries, "figures": part.figures()} for part in parts
    }
    for metric in parts[0].metrics if len(parts) > 1 else ():
        of_segments = [found[part.name]["figures"][metric.name] for part in parts[1:]]
        for figure, p in zip(of_segments, holm([each["p"] for each in of_segments]), strict=True):
            figure["p_holm"] = float(p)
    return found


def judge_gates(parts: Sequence[Part], gates: Sequence[Gate], *, strict: bool = False) -> list[dict[str, Any]]:
    """Judge each gate overall and in each segment; `WHOLE` of the level is for the former, the rest for the latter."""
    tests = [(gate, part, *part.gap(gate.metric)) for gate in gates for part in parts]
    p_N = np.array([max(gate.p(gap, drawn_S), least_p(part.queries)) for gate, part, gap, drawn_S in tests])
    is_whole_N = np.array([part.name == ALL for _, part, *_ in tests], bool)
    for of, share in ((is_whole_N, WHOLE if len(parts) > 1 else 1), (~is_whole_N, 1 - WHOLE)):
        p_N[of] = np.minimum(1, holm(p_N[of]) / share)
    found = []
    for (gate, part, gap, drawn_S), p in zip(tests, p_N.tolist(), strict=True):
        holds = part.queries >= least_queries(len(gates)) and gate.holds(drawn_S)
        verdict = "fails" if p <= LEVEL else "holds" if holds else "open"
        failed = verdict == "fails" or (strict and verdict == "open" and part.name == ALL)
        judged = {"gate": str(gate), "part": part.name, "difference": gap, "p": p, "verdict": verdict, "failed": failed}
        found.append(judged)
    return found


def least_queries(gates: int) -> int:
    """Return how many queries it takes to judge gates overall, where there are no segments."""
    return math.ceil(math.log2(gates / LEVEL))
