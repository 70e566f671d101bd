"""Judge a run: the documents that some system returned, held against the judgements.

A *run* is TREC's word for one system's scored documents. It need not return every judged document, or every query.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zhichun.core.errors import UserError
from zhichun.core.schema import LABELS
from zhichun.metrics.judged import UNJUDGED, Judged


def judge_run(
    query_ids: ArrayLike,
    document_ids: ArrayLike,
    labels: ArrayLike,
    *,
    run_query_ids: ArrayLike,
    run_document_ids: ArrayLike,
    run_scores: ArrayLike,
    classes: tuple[str, ...] = LABELS,
) -> Judged:
    """Join judgements (N rows) and a run (M rows, in any order) by query and document.

    As in trec_eval, but with missing queries counted (its option ``-c``): a judged document that the run left out is
    not in the ranking, and its gain counts in the ideal; a judged query that the run left out has the value 0; a
    returned document without a judgement takes a place and gains nothing; a query without any judgement is ignored.

    Parameters
    ----------
    query_ids, document_ids, labels
        The judgements; `labels` are indices into `classes` (see `label_codes`). Shape [N] each.
    run_query_ids, run_document_ids, run_scores
        The run. Shape [M] each.
    classes
        What the labels' indices mean.

    Returns
    -------
    Judged
        First the judgements in their order, with NaN as the score of what was not returned, and after them the returned
        documents without a judgement.

    Raises
    ------
    UserError
        If a pair occurs twice, a score is NaN, or the run has no query in common with the judgements.
    ValueError
        If lengths differ.
    """
    queries, documents, codes = np.asarray(query_ids), np.asarray(document_ids), np.asarray(labels)
    run_queries, run_documents = np.asarray(run_query_ids), np.asarray(run_document_ids)
    scores = np.asarray(run_scores, dtype=np.float64)
    if not len(queries) == len(documents) == len(codes) or not len(run_queries) == len(run_documents) == len(scores):
        raise ValueError("query ids, document ids and labels (or scores) must have the same length")
    if np.isnan(scores).any():
        raise UserError(f"The score in row {np.flatnonzero(np.isnan(scores))[0] + 1} of the run is not a number.")

    query, run_query, _ = _common_codes(queries, run_queries, "query")
    document, run_document, width = _common_codes(documents, run_documents, "document")
    pair, run_pair = query * width + document, run_query * width + run_document
    _refuse_repeats(pair, "judgements")
    _refuse_repeats(run_pair, "run")
    known_query = np.isin(run_query, query)
    if not known_query.any():
        raise UserError(
            "The run has no query in common with the judgements.", remedy="Check that both use the same query ids."
        )

    order = np.argsort(pair)
    place = np.minimum(np.searchsorted(pair, run_pair, sorter=order), len(pair) - 1)
    found = pair[order[place]] == run_pair
    judged_scores = np.full(len(pair), np.nan)
    judged_scores[order[place[found]]] = scores[found]
    extra = known_query & ~found
    return Judged(
        query_ids=np.concatenate([queries, run_queries[extra]]),
        labels=np.concatenate([codes, np.full(int(extra.sum()), UNJUDGED)]),
        scores=np.concatenate([judged_scores, scores[extra]]),
        classes=classes,
    )


def _common_codes(
    judged: NDArray[Any], returned: NDArray[Any], what: str
) -> tuple[NDArray[np.intp], NDArray[np.intp], int]:
    """Map the ids of both sides to common numbers, and say how many there are."""
    for side, ids in (("judgements", judged), ("run", returned)):
        if not len(ids):
            raise UserError(f"There are no rows in the {side}.")
    # Joined, numbers would turn into text and might match by accident.
    if (judged.dtype.kind in "iu") != (returned.dtype.kind in "iu"):
        raise UserError(
            f"The {what} ids are {judged.dtype} in the judgements and {returned.dtype} in the run.",
            remedy="Give both as text or both as integers.",
        )
    ids, codes = np.unique(np.concatenate([judged, returned]), return_inverse=True)
    return codes[: len(judged)], codes[len(judged) :], len(ids)


def _refuse_repeats(pair: NDArray[np.intp], side: str) -> None:
    first = np.unique(pair, return_index=True)[1]
    if len(first) < len(pair):
        row = np.setdiff1d(np.arange(len(pair)), first)[0] + 1
        raise UserError(f"Row {row} of the {side} repeats a query and document.", remedy="Keep one row per pair.")
