"""The result of an audit, as tables for review: likely label errors, found by confident learning.

The number of pairs with given label i and true label j is counted over confident pairs, those whose
probability of j reaches the mean probability of j among the pairs labelled j. Of the pairs labelled i, as many as were
counted for j are *issues*: those with the largest margin ``p_j - p_i`` ("prune by noise rate"). Issues are ordered by
normalised margin, ``(1 + p_given - max of the other p) / 2``, lowest first.

Reference: Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", Journal of
Artificial Intelligence Research 70, 2021; computed by cleanlab (the extra ``audit``).

Legend: ``P`` judged training pairs, ``C`` classes, ``I`` issues.

What reviewers decide comes back in files of the page or of Quepid. A file of decisions has the columns ``example_id``
and ``decision``: `KEEP`, `DROP`, or the correct label; a row without a decision is ignored. A file of Quepid has
``query``, ``docid`` and ``rating``; a rating other than that of the given label is the correct label, and an equal one
is ignored, because nobody may have reviewed it.
"""

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zhichun.core import schema
from zhichun.core.arrays import Bools, Doubles, Int64
from zhichun.core.errors import UserError, suggest
from zhichun.data.dataset import BUCKETS, VALIDATION_BUCKET, Dataset
from zhichun.data.predictions import OutOfFold, fold_count, read_out_of_fold
from zhichun.data.prepare.corrections import DECISION
from zhichun.data.readers.sources import find_column, open_table
from zhichun.metrics import Judged, MacroF1, MicroF1, label_codes
from zhichun.text.fold import fold_grade, grade_labels

LIKELY: Final = "likely_label"
QUALITY: Final = "quality"
ISSUE: Final = "issue"
# Longer texts are cut: tables of many issues must stay small enough for a spreadsheet and a page.
CHARACTERS: Final = 400
_OF_PAIR: Final = (schema.EXAMPLE_ID, schema.QUERY_ID, schema.QUERY, schema.PRODUCT_ID, schema.LOCALE)


@dataclass(frozen=True, eq=False)
class LabelIssues:
    """Result of confident learning.

    Attributes
    ----------
    places_I
        Rows of the issues, lowest quality first.
    quality_P
        Normalised margin of every pair, from 0 (wrong) to 1 (correct).
    joint_CC
        Estimated number of pairs by given (rows) and true (columns) label: cleanlab's calibrated confident joint. A
        row adds up to the pairs given that label.
    """

    places_I: Int64
    quality_P: Doubles
    joint_CC: Int64


def find_label_issues(labels_P: Int64, probabilities_PC: Doubles) -> LabelIssues:
    """Find likely label errors.

    Parameters
    ----------
    labels_P
        Given labels, as class indices.
    probabilities_PC
        Probabilities by a model that was not trained on the pair.

    Returns
    -------
    LabelIssues
        The same as cleanlab's ``find_label_issues(filter_by="prune_by_noise_rate",
        return_indices_ranked_by="normalized_margin")``, with the noise matrix.

    Raises
    ------
    UserError
        When all pairs have one label.
    """
    # It brings scikit-learn and pandas, which nothing else here needs.
    from cleanlab import count, rank
    from cleanlab import filter as filters

    if len(np.unique(labels_P)) < 2:
        remedy = "Audit judgements with at least two labels."
        raise UserError("all judgements have the same label, so no label error can be found.", remedy=remedy)
    joint_CC = count.compute_confident_joint(labels_P, probabilities_PC)
    with warnings.catch_warnings():
        # It warns of classes with one pair, which cannot be doubted, and of those with none.
        warnings.filterwarnings("ignore", "May not flag all label issues in class", UserWarning)
        places_I = filters.find_label_issues(
            labels_P,
            probabilities_PC,
            filter_by="prune_by_noise_rate",
            return_indices_ranked_by="normalized_margin",
            confident_joint=joint_CC,
            n_jobs=1,  # processes would be started for less than a second of work
        )
    quality_P = rank.get_label_quality_scores(labels_P, probabilities_PC, method="normalized_margin")
    return LabelIssues(places_I.astype(np.int64), quality_P, joint_CC.astype(np.int64))


@dataclass(frozen=True, eq=False)
class Findings:
    """Judgements, out-of-fold predictions, and label issues.

    Attributes
    ----------
    dataset
        The dataset.
    predicted
        Out-of-fold probabilities of the judged training pairs.
    found
        The label issues among them.
    """

    dataset: Dataset
    predicted: OutOfFold
    found: LabelIssues

    @classmethod
    def of(cls, dataset: Dataset, runs: Path) -> "Findings":
        """Read the predictions of the runs and find label issues."""
        predicted = read_out_of_fold(dataset, runs)
        return cls(dataset, predicted, find_label_issues(dataset.labels[predicted.rows_P], predicted.probabilities_PC))

    @cached_property
    def judged(self) -> pa.Table:
        """The judged training pairs, ``[P]``: ids, query and label, in the order of ``examples.parquet``."""
        names = [*_OF_PAIR, schema.FOLD, schema.LABEL]
        return self.dataset.examples.select(names).take(pa.array(self.predicted.rows_P))

    @cached_property
    def is_issue(self) -> Bools:
        """Whether each judged training pair is an issue, ``[P]``."""
        is_issue_P = np.zeros(len(self.predicted.rows_P), np.bool_)
        is_issue_P[self.found.places_I] = True
        return is_issue_P

    @cached_property
    def is_validated(self) -> Bools:
        """Whether each pair has a validation query, which `zhichun prepare` never corrects, ``[P]``."""
        in_validation = self.dataset.buckets(BUCKETS) == VALIDATION_BUCKET
        of_pair: Bools = in_validation[self.predicted.rows_P]
        return of_pair

    @cached_property
    def issues(self) -> pa.Table:
        """The issues, ``[I]``, lowest quality first.

        Ids, query, texts of the product (cut to `CHARACTERS`), ``fold``, ``esci_label`` as given, ``likely_label``,
        ``p_E`` …, and ``quality``.
        """
        places_I = self.found.places_I
        pairs = self.judged.take(pa.array(places_I))
        found, place_I = self.dataset.products_at(self.dataset.product_row[self.predicted.rows_P[places_I]])
        products = found.take(pa.array(place_I))
        likely_I = self.predicted.probabilities_PC[places_I].argmax(axis=1)
        columns = {name: pairs.column(name) for name in _OF_PAIR}
        columns |= {name: _shortened(products.column(name)) for name in schema.TEXT_COLUMNS}
        columns |= {name: pairs.column(name) for name in (schema.FOLD, schema.LABEL)}
        columns[LIKELY] = pa.array(schema.LABELS).take(pa.array(likely_I))
        return self._with_predictions(pa.table(columns), places_I)

    @cached_property
    def out_of_fold(self) -> pa.Table:
        """All judged training pairs, ``[P]``: ids, label, ``p_E`` …, ``quality`` and whether it is an ``issue``."""
        table = self.judged.select([schema.EXAMPLE_ID, schema.FOLD, schema.LABEL])
        table = self._with_predictions(table, np.arange(len(table)))
        return table.append_column(ISSUE, pa.array(self.is_issue))

    def summary(self) -> dict[str, Any]:
        """Summarise the issues, overall, by label and by locale."""
        judged, is_issue_P, joint_CC = self.judged, self.is_issue, self.found.joint_CC
        labels_P = label_codes(judged.column(schema.LABEL).to_pylist())
        locales_P = judged.column(schema.LOCALE).to_numpy()
        likely_P = self.predicted.probabilities_PC.argmax(axis=1)
        predictions = Judged(judged.column(schema.QUERY_ID).to_numpy(), labels_P, predictions=likely_P)
        by_label = {}
        for place, label in enumerate(schema.LABELS):
            likely = np.bincount(likely_P[(labels_P == place) & is_issue_P], minlength=len(schema.LABELS))
            others = {other: int(count) for other, count in zip(schema.LABELS, likely, strict=True) if other != label}
            by_label[label] = {**_counts(labels_P == place, is_issue_P), "likely": others}
        return {
            "folds": fold_count(self.dataset),
            **_counts(np.ones_like(is_issue_P), is_issue_P),
            "estimated_wrong": 1 - float(np.trace(joint_CC)) / float(joint_CC.sum()),
            "out_of_fold": {metric.name: metric(predictions) for metric in (MicroF1(), MacroF1())},
            "labels": list(schema.LABELS),
            "joint": joint_CC.tolist(),
            "by_label": by_label,
            "by_locale": {str(name): _counts(locales_P == name, is_issue_P) for name in np.unique(locales_P)},
        }

    def _with_predictions(self, table: pa.Table, places: Int64) -> pa.Table:
        for name, values in zip(schema.PROBABILITIES, self.predicted.probabilities_PC[places].T, strict=True):
            table = table.append_column(name, pa.array(values.astype(np.float32)))
        return table.append_column(QUALITY, pa.array(self.found.quality_P[places]))


def _shortened(column: Any) -> Any:
    whole = pc.cast(column, pa.large_string())
    cut = pc.utf8_replace_slice(whole, CHARACTERS, sys.maxsize, "…")
    return pc.if_else(pc.greater(pc.utf8_length(whole), CHARACTERS), cut, whole)


def _counts(selected_P: Bools, is_issue_P: Bools) -> dict[str, Any]:
    pairs, issues = int(selected_P.sum()), int((selected_P & is_issue_P).sum())
    return {"pairs": pairs, "issues": issues, "share": issues / max(1, pairs)}


KEEP: Final = "keep"
DROP: Final = "drop"
# How Quepid's scale of four grades is read and written.
RATINGS: Final = {"E": "3", "S": "2", "C": "1", "I": "0"}
QUEPID: Final = ("query", "docid", "rating")
_KNOWN: Final = (schema.EXAMPLE_ID, DECISION, schema.LABEL, *QUEPID)
Decisions = dict[int, str]
# From the values of a row to a pair's id and what is decided; a ValueError says what is wrong with it.
Reader = Callable[[Mapping[str, str]], tuple[int, str] | None]


def read_decisions(path: Path, findings: Findings) -> Decisions:
    """Read a file of decisions, of the page or of Quepid."""
    names = {name for name in _KNOWN if find_column(name, open_table(path).names)}
    if {schema.EXAMPLE_ID, DECISION} <= names:
        read = _of_page(findings.judged)
    elif set(QUEPID) <= names:
        read = _of_quepid(findings.issues)
    else:
        problem = f"is no file of decisions: its columns are not {schema.EXAMPLE_ID!r} and {DECISION!r}."
        remedy = "Give the file that the page of the audit downloads, or Quepid's with query, docid and rating."
        raise UserError(problem, file=path, remedy=remedy)
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
        remedy = f"Apply them with --accept {path}, or move the file away."
        raise UserError("holds decisions, which would be lost.", file=path, remedy=remedy)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    """Read the known columns of a table row by row."""
    table = open_table(path)
    return table.rows({name: own for name in _KNOWN if (own := find_column(name, table.names))})


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
            raise ValueError(f"{decision!r} is not a decision. {suggest(decision, (KEEP, DROP, *schema.LABELS))}")
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
