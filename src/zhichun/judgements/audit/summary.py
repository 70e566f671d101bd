"""How many judgements are in doubt: overall, by label and by locale.

Legend: ``P`` judged training pairs, ``C`` classes.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from zhichun.core import schema
from zhichun.data.dataset.out_of_fold import fold_count
from zhichun.judgements.audit.findings import Findings
from zhichun.metrics import Judged, MacroF1, MicroF1, label_codes


def summarise(findings: Findings) -> dict[str, Any]:
    """Summarise an audit.

    Parameters
    ----------
    findings
        What it found.

    Returns
    -------
    dict
        Ready for JSON: ``pairs``, ``issues``, ``share``; ``joint``, the estimated number of pairs by label given (rows)
        and right (columns), and ``estimated_wrong``, the share of it off the diagonal; ``out_of_fold``, how well the
        models predict the given labels; and counts ``by_label``, with the likely labels of the issues, and
        ``by_locale``.
    """
    judged, is_issue_P, joint_CC = findings.judged, findings.is_issue, findings.found.joint_CC
    labels_P = label_codes(judged.column(schema.LABEL).to_pylist())
    locales_P = judged.column(schema.LOCALE).to_numpy()
    likely_P = findings.predicted.probabilities_PC.argmax(axis=1)
    predictions = Judged(judged.column(schema.QUERY_ID).to_numpy(), labels_P, predictions=likely_P)
    by_label = {}
    for place, label in enumerate(schema.LABELS):
        likely = np.bincount(likely_P[(labels_P == place) & is_issue_P], minlength=len(schema.LABELS))
        others = {other: int(count) for other, count in zip(schema.LABELS, likely, strict=True) if other != label}
        by_label[label] = {**_counts(labels_P == place, is_issue_P), "likely": others}
    return {
        "folds": fold_count(findings.dataset),
        **_counts(np.ones_like(is_issue_P), is_issue_P),
        "estimated_wrong": 1 - float(np.trace(joint_CC)) / float(joint_CC.sum()),
        "out_of_fold": {metric.name: metric(predictions) for metric in (MicroF1(), MacroF1())},
        "labels": list(schema.LABELS),
        "joint": joint_CC.tolist(),
        "by_label": by_label,
        "by_locale": {str(name): _counts(locales_P == name, is_issue_P) for name in np.unique(locales_P)},
    }


def _counts(selected_P: npt.NDArray[np.bool_], is_issue_P: npt.NDArray[np.bool_]) -> dict[str, Any]:
    pairs, issues = int(selected_P.sum()), int((selected_P & is_issue_P).sum())
    return {"pairs": pairs, "issues": issues, "share": issues / max(1, pairs)}
