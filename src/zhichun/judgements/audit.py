"""The audit of judgements: likely label errors, a review page, and lists of corrections.

It reads the out-of-fold predictions of finished runs, so it needs torch only for training. The page is one HTML file
with its own script, readable without a server; it loads and sends nothing. The pairs are embedded as JSON, and the
script shows them as text, never as markup.
"""

import hashlib
import importlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from zhichun.core import schema
from zhichun.core.arrays import Doubles, write_parquet
from zhichun.core.console import say_aside
from zhichun.core.errors import UserError
from zhichun.core.files import new_file, write_json
from zhichun.data.dataset import Dataset
from zhichun.data.predictions import fold_count
from zhichun.data.prepare.corrections import DECISION, NEW_LABEL
from zhichun.data.readers.text_file import require_file
from zhichun.judgements.findings import (
    DROP,
    KEEP,
    LIKELY,
    QUALITY,
    QUEPID,
    RATINGS,
    Decisions,
    Findings,
    read_decisions,
    require_nothing_filled_in,
)
from zhichun.measure.page import Figure, Plot, class_name, language, write_page

if TYPE_CHECKING:
    from zhichun.fit.recipe import Recipe

RUNS: Final = "folds"
DROP_FILE: Final = "drop.csv"
RELABEL_FILE: Final = "relabel.csv"
TO_JUDGE_FILE: Final = "to_judge.csv"
_SHOWN: Final = (schema.EXAMPLE_ID, schema.QUERY, schema.PRODUCT_ID, schema.LOCALE, schema.LABEL)
PAGE_PAIRS: Final = 5000
BINS: Final = 40


def audit(
    data: Path,
    out: Path,
    *,
    recipe: "Recipe | None" = None,
    runs: Path | None = None,
    accept: Path | None = None,
    drop: float | None = None,
    page_pairs: int = PAGE_PAIRS,
) -> dict[str, Any]:
    """Find likely label errors, and write them for review and for `zhichun prepare`.

    Parameters
    ----------
    data
        Dataset folder of `zhichun prepare`.
    out
        The audit folder: ``issues.parquet`` and ``.csv``, ``out_of_fold.parquet``, ``summary.json``, ``index.html``,
        ``to_judge.csv``, ``quepid.csv``; with ``drop`` or ``accept`` also ``drop.csv``, and with ``accept``
        ``relabel.csv``. Each call writes them anew, and removes lists to drop and relabel of a call before.
    recipe
        What to train for each fold, into ``out/folds``; existing runs are resumed. None if they are complete.
    runs
        Finished runs of all folds; default ``out/folds``.
    accept
        A reviewer's decisions; see `zhichun.judgements.findings`.
    drop
        Share of the judged training pairs to drop, lowest quality first.
    page_pairs
        Maximum number of issues on the page; the tables have all.

    Returns
    -------
    dict
        What is in ``summary.json``.

    Raises
    ------
    UserError
        For invalid options, data and runs that do not match, and invalid decisions.
    """
    _check_options(out, recipe, runs, accept, drop, page_pairs)
    dataset = Dataset.open(data)
    if recipe is not None:
        from zhichun.fit.folds import train_folds  # all else runs without torch

        train_folds(recipe, data, out / RUNS, folds=fold_count(dataset), resume=True)
    say_aside("audit: comparing judgements with predictions")
    findings = Findings.of(dataset, runs or out / RUNS)
    decisions = {} if accept is None else read_decisions(accept, findings)
    out.mkdir(parents=True, exist_ok=True)
    say_aside(f"audit: writing {len(findings.issues):,} likely label errors to {out}")
    for name, table in (("issues", findings.issues), ("out_of_fold", findings.out_of_fold)):
        write_parquet(out / f"{name}.parquet", table)
    _write_csv(out / "issues.csv", findings.issues)
    _write_to_judge(out, findings, decisions)
    summary = findings.summary() | _write_corrections(out, findings, decisions, drop, accepted=accept is not None)
    key = hashlib.sha256(findings.predicted.probabilities_PC.tobytes()).hexdigest()[:16]
    shown = findings.issues.slice(0, page_pairs)
    write_audit_page(out / "index.html", summary, shown, findings.found.quality_P, decisions, key)
    write_json(out / "summary.json", summary)
    return summary


def _check_options(
    out: Path, recipe: "Recipe | None", runs: Path | None, accept: Path | None, drop: float | None, page_pairs: int
) -> None:
    """Refuse invalid options before training."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # a launcher's number of processes
        remedy = "Train the folds on all devices first: accelerate launch -m zhichun train RECIPE --folds K"
        raise UserError("an audit runs in a single process.", remedy=remedy)
    if recipe is not None and runs is not None:
        remedy = "Leave the recipe out, or --runs."
        raise UserError("a recipe to train and runs that are trained already: give only one of the two.", remedy=remedy)
    if recipe is not None and recipe.task != "esci":
        problem = f"the recipe's task is {recipe.task!r}, which does not tell the four labels apart."
        raise UserError(problem, remedy="Use a recipe of the task 'esci', such as kdd2022:task2 or tiny.")
    if drop is not None and not 0 < drop < 1:
        remedy = "Give a share of the training pairs above 0 and below 1, such as 0.04; or leave --drop out."
        raise UserError(f"drop={drop} is no share.", remedy=remedy)
    if page_pairs < 1:
        raise UserError(f"page_pairs={page_pairs} must be 1 or more.")
    if out.exists() and not out.is_dir():
        raise UserError("is a file, not a folder.", file=out, remedy="Choose another --out.")
    for name, what in (("manifest.json", "a dataset"), ("recipe.json", "a run")):
        if (out / name).exists():
            raise UserError(f"the folder holds {what}.", file=out, remedy="Choose another --out.")
    if accept is not None:
        require_file(accept)
    importlib.import_module("cleanlab")  # or it would be missed only after the training
    require_nothing_filled_in(out / TO_JUDGE_FILE, accept)


def _write_to_judge(folder: Path, findings: Findings, decisions: Decisions) -> None:
    """Write the issues for review: for a spreadsheet, with an empty column, and for Quepid."""
    issues = findings.issues
    names = [*_SHOWN[:-1], schema.TITLE, schema.LABEL, LIKELY, QUALITY]
    decided = [decisions.get(example, "") for example in issues.column(schema.EXAMPLE_ID).to_pylist()]
    _write_csv(folder / TO_JUDGE_FILE, issues.select(names).append_column(DECISION, pa.array(decided, pa.string())))
    ratings = pa.array([int(RATINGS[label]) for label in issues.column(schema.LABEL).to_pylist()], pa.int8())
    columns = (issues.column(schema.QUERY), issues.column(schema.PRODUCT_ID), ratings)
    _write_csv(folder / "quepid.csv", pa.table(dict(zip(QUEPID, columns, strict=True))))


def _write_corrections(
    out: Path, findings: Findings, decisions: Decisions, share: float | None, *, accepted: bool
) -> dict[str, Any]:
    """Write the lists for `zhichun prepare`; return their summary."""
    for name in (DROP_FILE, RELABEL_FILE):
        (out / name).unlink(missing_ok=True)
    summary: dict[str, Any] = {}
    if accepted:
        new = {example: what for example, what in decisions.items() if what not in (KEEP, DROP)}
        listed = list(new)
        labels = pa.array(list(new.values()), pa.string())
        _write_csv(out / RELABEL_FILE, _pairs(findings, listed).append_column(NEW_LABEL, labels))
        summary["decisions"] = {**dict(sorted(Counter(decisions.values()).items())), "all": len(decisions)}
        summary["relabel"] = len(new)
        # zhichun prepare passes over these.
        summary["of_validation_queries"] = int(findings.is_validated[_places(findings, listed).to_numpy()].sum())
    if accepted or share is not None:
        asked = round((share or 0.0) * len(findings.judged))
        worst = findings.issues.column(schema.EXAMPLE_ID).to_pylist()[:asked]
        decided = [example for example, what in decisions.items() if what == DROP]
        dropped = decided + [example for example in worst if example not in decisions]
        _write_csv(out / DROP_FILE, _pairs(findings, dropped))
        summary["drop"] = {
            "share": share,
            "share_listed": len(dropped) / len(findings.judged),
            "asked": asked,
            "listed": len(dropped),
            "by_decision": len(decided),
            "kept_by_decision": sum(decisions.get(example, DROP) != DROP for example in worst),
        }
    return summary


def _write_csv(path: Path, table: pa.Table) -> None:
    with new_file(path) as partial:
        pacsv.write_csv(table, partial)


def _places(findings: Findings, ids: Sequence[int]) -> pa.Array:
    """Find judged training pairs by id: their places in `Findings.judged`."""
    return pc.index_in(pa.array(list(ids), pa.int64()), value_set=findings.judged.column(schema.EXAMPLE_ID))


def _pairs(findings: Findings, ids: Sequence[int]) -> pa.Table:
    return findings.judged.select(list(_SHOWN)).take(_places(findings, ids))


def write_audit_page(
    path: Path, summary: Mapping[str, Any], issues: pa.Table, quality_P: Doubles, decisions: Mapping[int, str], key: str
) -> None:
    """Write the page: the noise matrix, and the likely label errors for review."""
    write_page(
        path,
        "audit.html",
        package=__package__,
        title="Audit of the judgements",
        summary=summary,
        shown=len(issues),
        names={label: class_name(label) for label in schema.LABELS},
        quality=_quality_figure(quality_P),
        records=_records(issues, decisions, key),
    )


def _records(issues: pa.Table, decisions: Mapping[int, str], key: str) -> dict[str, Any]:
    """Return the script's data: one list per pair, in the order of ``columns``."""
    texts = [schema.QUERY, schema.PRODUCT_ID, schema.LOCALE, *schema.TEXT_COLUMNS]
    columns = [schema.EXAMPLE_ID, *texts, schema.LABEL, LIKELY, *schema.PROBABILITIES, QUALITY]
    values = [issues.column(name).to_pylist() for name in columns]
    rounded = [
        [round(number, 3) for number in column] if name in (*schema.PROBABILITIES, QUALITY) else column
        for name, column in zip(columns, values, strict=True)
    ]
    locales = sorted(set(values[columns.index(schema.LOCALE)]))
    return {
        "key": key,
        "columns": columns,
        "labels": {label: class_name(label) for label in schema.LABELS},
        "languages": {locale: language(locale) for locale in locales},
        "decided": {str(example): what for example, what in decisions.items()},
        "rows": [list(row) for row in zip(*rounded, strict=True)],
    }


def _quality_figure(quality_P: Doubles) -> Figure:
    counts, edges = np.histogram(quality_P, BINS, (0, 1))
    share = counts / max(1, len(quality_P))
    plot = Plot((0, 1), (0, float(share.max())), "quality of the judgement", "share of the pairs", 190)
    plot.bars(edges, share, "bars")
    below = float((quality_P < 0.5).mean()) if len(quality_P) else 0.0
    return Figure(
        plot,
        "Quality of all judgements: half of one plus the probability of the given label minus that of the likeliest "
        f"other. Below 0.5 ({below:.1%} of the pairs) another label is more likely.",
    )
