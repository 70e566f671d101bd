"""Grades of any scale as the four labels."""

from collections.abc import Mapping
from typing import Final

from zhichun.core.errors import UserError, suggest
from zhichun.core.schema import LABEL_NAMES
from zhichun.text.fold import fold_grade

_KNOWN: Final = {fold_grade(label): label for label in LABEL_NAMES}


def grade_labels(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Say which grade stands for which label.

    Parameters
    ----------
    given
        The user's grades to labels, such as ``{"3": "E", "2": "S", "1": "C", "0": "I"}``.

    Returns
    -------
    dict
        Folded grade to label. E, S, C, I and their names are in it, unless the user means something else by them.

    Raises
    ------
    UserError
        If a label is none of the four.
    """
    labels = dict(_KNOWN)
    for grade, label in (given or {}).items():
        if fold_grade(label) not in _KNOWN:
            raise UserError(
                f"grade {grade!r} is mapped to {label!r}, which is no label", remedy=suggest(label, LABEL_NAMES)
            )
        labels[fold_grade(grade)] = _KNOWN[fold_grade(label)]
    return labels
