"""Reads the reviewers' decisions: files of the page and of Quepid.

A file of decisions has the columns ``example_id`` and ``decision``: `KEEP`, `DROP`, or the correct label; a row
without a decision is ignored. A file of Quepid has ``query``, ``docid`` and ``rating``; a rating other than that of
the given label is the correct label, and an equal one is ignored, because nobody may have reviewed it.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import pyarrow as pa

from zhichun.core import schema
from zhichun.core.errors import UserError, suggest
from zhichun.data.prepare.corrections import DECISION
from zhichun.data.readers.pair_tables import read_chunks, texts
from zhichun.judgements.findings import Findings
from zhichun.text.fold import fold_grade, grade_labels

KEEP: Final = "keep"
DROP: Final = "drop"
# How Quepid's scale of four grades is read and written.
RATINGS: Final = {"E": "3", "S": "2", "C": "1", "I": "0"}
QUEPID: Final = ("query", "docid", "rating")
_KNOWN: Final = (schema.EXAMPLE_ID, DECISION, schema.LABEL, *QUEPID)
_ROWS: Final = 20_000
Decisions = dict[int, str]
# From the values of a row to a pair's id and what is decided; a ValueError says what is wrong with it.
Reader = Callable[[Mapping[str, str]], tuple[int, str] | None]


def read_decisions(path: Path, findings: Findings) -> Decisions:
    """Read a file of decisions, of the page or of Quepid."""
    names = set(next(read_chunks(path, 1, known=_KNOWN)).column_names)
    if {schema.EXAMPLE_ID, DECISION} <= names:
        read = _of_page(findings.judged)
    elif set(QUEPID) <= names:
        read = _of_quepid(findings.issues)
    else:
        raise UserError(
            f"is no file of decisions: its columns are not {schema.EXAMPLE_ID!r} and {DECISION!r}.",
            file=path,
            remedy="Give the file that the page of the audit downloads, or Quepid's with query, docid and rating.",
        )
    decided: Decisions = {}
    for row, values in _rows(path):
        try:
            decision = read({name: (value or "").strip() for name, value in values.items()})
        except ValueError as error:
            raise UserError(str(error), file=path, row=row, remedy="Correct or remove the row.") from error
        if decision is None:
            continue
        example, what = decision
        if decided.setdefault(example, what) != what:
            problem = f"decides {what!r} on the pair {example}, and a row before {decided[example]!r}."
            raise UserError(problem, file=path, row=row, remedy="Keep one of both rows.")
    return decided


def require_nothing_filled_in(path: Path, accept: Path | None) -> None:
    """Refuse to overwrite a ``to_judge.csv`` with decisions, unless they are being applied (``accept``)."""
    if not path.is_file() or (accept is not None and accept.exists() and path.samefile(accept)):
        return
    if any((values.get(DECISION) or "").strip() for _, values in _rows(path)):
        raise UserError(
            "holds decisions, which would be lost.",
            file=path,
            remedy=f"Apply them with --accept {path}, or move the file away.",
        )


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    """Read the known columns of a table row by row."""
    before = 0
    for chunk in read_chunks(path, _ROWS, known=_KNOWN):
        # Lists and numbers that no column here should hold would stop the reading of those that matter.
        wanted = [name for name in chunk.column_names if name in _KNOWN]
        columns = [texts(chunk, name, path, before) for name in wanted]
        for place, values in enumerate(zip(*columns, strict=True), start=1):
            yield before + place, dict(zip(wanted, values, strict=True))
        before += len(chunk)


def _of_page(judged: pa.Table) -> Reader:
    """Return what reads rows with an id, a decision and optionally the given label."""
    ids, labels = (judged.column(name).to_pylist() for name in (schema.EXAMPLE_ID, schema.LABEL))
    given = dict(zip(ids, labels, strict=True))
    known = {KEEP: KEEP, DROP: DROP, **grade_labels()}

    def read(values: Mapping[str, str]) -> tuple[int, str] | None:
        text, decision, label = values[schema.EXAMPLE_ID], values[DECISION], values.get(schema.LABEL)
        if not decision:
            return None
        example = int(text) if text.isdecimal() else None
        if example is None or example not in given:
            raise ValueError(f"{schema.EXAMPLE_ID} {text!r} is not that of a judged training pair of this dataset.")
        if label and label != given[example]:
            raise ValueError(f"the pair {text} is judged {given[example]} in this dataset, and {label} in this file.")
        what = known.get(decision.casefold())
        if what is None:
            possible = suggest(decision, (KEEP, DROP, *schema.LABELS))
            raise ValueError(f"{decision!r} is not a decision. {possible}")
        return example, KEEP if what == given[example] else what

    return read


def _of_quepid(issues: pa.Table) -> Reader:
    """Return what reads rows with a query, a product and a rating."""
    names = (schema.QUERY, schema.PRODUCT_ID, schema.EXAMPLE_ID, schema.LABEL)
    pairs: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for query, product, example, label in zip(*(issues.column(name).to_pylist() for name in names), strict=True):
        pairs.setdefault((query, product), []).append((example, label))
    known = grade_labels({rating: label for label, rating in RATINGS.items()})

    def read(values: Mapping[str, str]) -> tuple[int, str] | None:
        query, product, rating = (values[name] for name in QUEPID)
        if not rating:
            return None
        found = pairs.get((query, product), [])
        if len(found) != 1:
            what = "of no label issue" if not found else "of label issues in two locales"
            raise ValueError(f"the query {query!r} with the product {product!r} is that {what}.")
        label = known.get(fold_grade(rating))
        if label is None:
            raise ValueError(f"{rating!r} is not a rating. Possible: 3 (Exact), 2, 1, 0 (Irrelevant).")
        [(example, given)] = found
        return None if label == given else (example, label)

    return read
