"""Lists for what comes after an audit: to judge anew, to drop, to relabel."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.files import new_file
from zhichun.data.prepare.listed_pairs import DECISION
from zhichun.data.prepare.relabel import NEW_LABEL
from zhichun.data.readers.pair_tables import read_chunks, texts
from zhichun.judgements.audit.decisions import DROP, KEEP, QUEPID, RATINGS, Decisions
from zhichun.judgements.audit.findings import LIKELY, QUALITY, Findings

DROP_FILE: Final = "drop.csv"
RELABEL_FILE: Final = "relabel.csv"
TO_JUDGE_FILE: Final = "to_judge.csv"
QUEPID_FILE: Final = "quepid.csv"
_SHOWN: Final = (schema.EXAMPLE_ID, schema.QUERY, schema.PRODUCT_ID, schema.LOCALE, schema.LABEL)
_ROWS: Final = 20_000


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """Which pairs are to be dropped.

    Attributes
    ----------
    ids
        Their ``example_id``, those of a person first, then by doubt.
    asked
        How many pairs the share asked for is.
    decided
        How many pairs a person drops.
    spared
        How many of the worst stay since a person decided otherwise.
    """

    ids: list[int]
    asked: int
    decided: int
    spared: int


def to_drop(findings: Findings, share: float | None, decisions: Decisions) -> Dropped:
    """Choose what to drop: what a person said, and the most doubtful of what nobody decided on.

    Parameters
    ----------
    findings
        What the audit found. No pair but an issue is dropped by its doubt, however large the share.
    share
        The worst so many of the judged training pairs; None for none of them.
    decisions
        What a person decided.

    Returns
    -------
    Dropped
        The pairs, with what became of the share.
    """
    asked = round((share or 0.0) * len(findings.judged))
    worst = findings.issues.column(schema.EXAMPLE_ID).to_pylist()[:asked]
    decided = [example for example, what in decisions.items() if what == DROP]
    undecided = [example for example in worst if example not in decisions]
    spared = sum(decisions.get(example, DROP) != DROP for example in worst)
    return Dropped(ids=decided + undecided, asked=asked, decided=len(decided), spared=spared)


def write_drop(folder: Path, findings: Findings, dropped: Dropped) -> None:
    """Write ``drop.csv``, for ``zhichun prepare --drop-issues``."""
    write_csv(folder / DROP_FILE, _pairs(findings, dropped.ids))


def write_relabel(folder: Path, findings: Findings, decisions: Decisions) -> list[int]:
    """Write ``relabel.csv``, for ``zhichun prepare --relabel``; give the ids in it."""
    new = {example: what for example, what in decisions.items() if what not in (KEEP, DROP)}
    labels = pa.array(list(new.values()), pa.string())
    write_csv(folder / RELABEL_FILE, _pairs(findings, list(new)).append_column(NEW_LABEL, labels))
    return list(new)


def write_to_judge(folder: Path, findings: Findings, decisions: Decisions) -> None:
    """Write the issues as lists to judge anew.

    Parameters
    ----------
    folder
        Where ``to_judge.csv`` (for a spreadsheet, with a column ``decision`` to fill in) and ``quepid.csv`` (for
        Quepid, rated as given, E 3 to I 0) go.
    findings
        What the audit found.
    decisions
        What a person decided already.
    """
    issues = findings.issues
    names = [*_SHOWN[:-1], schema.TITLE, schema.LABEL, LIKELY, QUALITY]
    decided = [decisions.get(example, "") for example in issues.column(schema.EXAMPLE_ID).to_pylist()]
    write_csv(folder / TO_JUDGE_FILE, issues.select(names).append_column(DECISION, pa.array(decided, pa.string())))
    ratings = pa.array([int(RATINGS[label]) for label in issues.column(schema.LABEL).to_pylist()], pa.int8())
    columns = (issues.column(schema.QUERY), issues.column(schema.PRODUCT_ID), ratings)
    write_csv(folder / QUEPID_FILE, pa.table(dict(zip(QUEPID, columns, strict=True))))


def require_nothing_filled_in(folder: Path, accept: Path | None) -> None:
    """Refuse to write over a ``to_judge.csv`` with decisions that are not being applied.

    Parameters
    ----------
    folder
        The audit folder.
    accept
        The decisions that are being applied.

    Raises
    ------
    UserError
        If there are such decisions.
    """
    path = folder / TO_JUDGE_FILE
    if not path.is_file() or (accept is not None and accept.exists() and path.samefile(accept)):
        return
    before = 0
    for chunk in read_chunks(path, _ROWS, known=(DECISION,)):
        if DECISION in chunk.column_names and any(map(str.strip, filter(None, texts(chunk, DECISION, path, before)))):
            raise UserError(
                "holds decisions, which would be lost.",
                file=path,
                remedy=f"Apply them with --accept {path}, or move the file away.",
            )
        before += len(chunk)


def write_csv(path: Path, table: pa.Table) -> None:
    """Write a table as CSV; a file of that name is replaced when the new one is whole."""
    with new_file(path) as partial:
        pacsv.write_csv(table, partial)


def places_of(findings: Findings, ids: Sequence[int]) -> pa.Array:
    """Find judged training pairs by id: their places in `Findings.judged`."""
    known = findings.judged.column(schema.EXAMPLE_ID)
    return pc.index_in(pa.array(list(ids), pa.int64()), value_set=known)


def _pairs(findings: Findings, ids: Sequence[int]) -> pa.Table:
    return findings.judged.select(list(_SHOWN)).take(places_of(findings, ids))
