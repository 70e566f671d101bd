"""Maps grades of any scale to the four labels."""

import re
from collections.abc import Mapping
from typing import Final

from zhichun.core.errors import UserError, suggest
from zhichun.core.schema import LABEL_NAMES
from zhichun.text.fold import fold_grade

# What stands for a label where a pair was shown to a judge who said nothing, as TREC's -1 and Quepid's empty rating.
NOT_JUDGED: Final = ""
_KNOWN: Final = {fold_grade(label): label for label in LABEL_NAMES}
_MEANINGS: Final = {**_KNOWN, **dict.fromkeys(("", "skip", "not judged", "unjudged"), NOT_JUDGED)}
_NEGATIVE: Final = re.compile(r"-[\d.]+")


def grade_labels(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Map grades to labels.

    Parameters
    ----------
    given
        The user's grades to labels, such as ``{"3": "E", "2": "S", "1": "C", "0": "I", "-1": "skip"}``.

    Returns
    -------
    dict
        Folded grade to label, which is `NOT_JUDGED` where the user maps the grade to nothing. E, S, C, I and their
        names are in it, unless the user means something else by them.

    Raises
    ------
    UserError
        If a label is not one of the four, or a grade is mapped to two.
    """
    own: dict[str, str] = {}
    for grade, label in (given or {}).items():
        if fold_grade(label) not in _MEANINGS:
            raise UserError(
                f"grade {grade!r} is mapped to {label!r}, which is no label",
                remedy=f"{suggest(str(label), LABEL_NAMES)} A grade that means 'not judged' is mapped to skip.",
            )
        key, meaning = fold_grade(grade), _MEANINGS[fold_grade(label)]
        if own.setdefault(key, meaning) != meaning:
            raise UserError(
                f"grade {grade!r} is mapped to both {own[key]} and {meaning}", remedy="Leave one of the two out."
            )
    return {**_KNOWN, "": NOT_JUDGED, **own}


def label_of(grade: str | None, labels: Mapping[str, str]) -> str | None:
    """Return the label of a grade: `NOT_JUDGED` for none and for negative unmapped ones, else None."""
    key = fold_grade(grade)
    label = labels.get(key)
    return NOT_JUDGED if label is None and _NEGATIVE.fullmatch(key) else label
