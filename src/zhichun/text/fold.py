"""One normal form for every kind of value, from a column, an option, a request or Python.

Two values are equal if their folded forms are equal; nothing compares them in another way.
The text of a query or a product is folded by `zhichun.text.clean.clean_text`.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from zhichun.core.errors import UserError, suggest
from zhichun.core.schema import BRAND, BULLETS, COLOR, DESCRIPTION, LABEL_NAMES
from zhichun.text.clean import clean_text

# Whole cells that say that there is none, as shops, databases and spreadsheets write it; `\n` is `\N` in lower case.
MISSING_WORDS: Final = frozenset(
    {"null", "nan", "none", "n/a", "na", "#n/a", "#na", "<na>", "(null)", "\\n", "-", "--"}
)
# What stands in a file where there is no id; `nan` is what pandas writes.
_NO_ID: Final = pa.array(["", "nan"], pa.large_string())

# Countries by the language that most of their shoppers write in: `en-GB` is `gb`, while `fr-CA` stays `fr-ca`, because
# a shop in Canada may have the same product in two languages.
_COUNTRIES: Final = {
    "en": "us gb au nz ie",
    "es": "es mx ar cl co pe",
    "ja": "jp",
    "de": "de at",
    "pt": "pt br",
    "zh": "cn tw",
    "ar": "sa eg",
    "sv": "se",
    "da": "dk",
    "nb": "no",
    "cs": "cz",
    "el": "gr",
    "uk": "ua",
    "he": "il",
    "ko": "kr",
    "vi": "vn",
}
# Languages that no country is called: the dataset's own two are meant by them.
_COUNTRY_OF: Final = {"en": "us", "ja": "jp"}
_NUMBER: Final = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:e[+-]?\d+)?")
_LABELS: Final = {full.casefold(): label.casefold() for label, full in LABEL_NAMES.items()}


@lru_cache(1024)
def fold_locale(locale: str) -> str:
    """Normalise a locale: a country in lower case, as the dataset has it.

    Parameters
    ----------
    locale
        ``us``, ``US``, ``en-US``, ``en_US.UTF-8``, ``en`` and so on.

    Returns
    -------
    str
        The country where the tag's language is its main one, so that all of these are ``us``; ``ja``, ``ja-JP`` and
        ``JP`` are ``jp``. Any other tag is itself, in lower case with hyphens: ``fr-ca``. Empty for a blank one.
    """
    tag = re.split(r"[.@]", _narrow(locale))[0].replace("_", "-").replace(" ", "")
    language, *rest = tag.split("-")
    country = rest[-1] if rest else ""
    main = country == language or country in _COUNTRIES.get(language, "").split()
    return country if main else _COUNTRY_OF.get(tag, tag)


def fold_locales(locales: Any | None, default: str, length: int) -> Any:
    """Fold a column of locales, with the default where there is none.

    Parameters
    ----------
    locales
        A ``pyarrow`` array of ``large_string``, or None where the file has no such column.
    default
        The locale of rows without one.
    length
        How many rows there are.

    Returns
    -------
    pyarrow.Array
        ``large_string`` without nulls.
    """
    default = fold_locale(default)
    if locales is None:
        return pa.array([default] * length, pa.large_string())
    return pc.fill_null(fold_column(locales, lambda text: fold_locale(text) or None), default)


def fold_column(column: Any, fold: Callable[[str], str | None]) -> Any:
    """Fold a ``pyarrow`` array of texts; each different text is folded once. Null stays null."""
    codes = column.cast(pa.large_string()).dictionary_encode()
    return pa.array([fold(text) for text in codes.dictionary.to_pylist()], pa.large_string()).take(codes.indices)


def fold_grade(grade: str | float | None) -> str:
    """Normalise a grade: ``3``, ``3.0``, ``3,00`` and `` 3 `` are one, and so are ``E``, ``e`` and ``Exact``.

    Parameters
    ----------
    grade
        A grade as it is written.

    Returns
    -------
    str
        ``3``, ``2.5``, ``-1``, or the text in lower case; empty where there is none, as in a gap of a data frame.
    """
    key = _narrow(value_text(grade) or "")
    if _NUMBER.fullmatch(key):
        key = number_text(float(key.replace(",", "."))) or ""
        return "0" if key == "-0" else key
    return "" if key in MISSING_WORDS else _LABELS.get(key, key)


@lru_cache(1024)
def fold_query(query: str) -> str:
    """Return the normal form by which queries are compared; it also unifies full-width and half-width letters.

    Parameters
    ----------
    query
        A query.

    Returns
    -------
    str
        The cleaned query in Unicode NFKC, case-folded, words one space apart.
    """
    # Case folding can undo the normal form, hence once before and once after.
    folded = unicodedata.normalize("NFKC", clean_text(query)).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def fold_judge(judge: str | None) -> str:
    """Normalise a judge's name: ``Anna`` and `` anna `` are one person; empty for none."""
    return unicodedata.normalize("NFKC", judge or "").casefold().strip()


def fold_name(name: str) -> str:
    """Normalise the name of a column or field: without case, spaces, underscores and hyphens."""
    return re.sub(r"[\s_-]+", "", _narrow(name))


def trim_ids(ids: Any) -> Any:
    """Trim ids; blank ones and ``NaN`` become null.

    Parameters
    ----------
    ids
        A ``pyarrow`` array of ``large_string``.

    Returns
    -------
    pyarrow.Array
        ``large_string``.
    """
    trimmed = pc.utf8_trim_whitespace(ids)
    return pc.if_else(pc.is_in(pc.utf8_lower(trimmed), value_set=_NO_ID), pa.scalar(None, pa.large_string()), trimmed)


def is_missing(value: Any) -> bool:
    """Return whether a value is a gap of a data frame: ``None``, ``NaN``, ``NaT`` or ``pd.NA``."""
    try:
        return value is None or bool(value != value)
    except TypeError:  # pandas does not say whether its NA differs from itself
        return True
    except ValueError:  # an array
        return False


def value_text(value: Any) -> str | None:
    """Return a value as text; a list's items stand on lines of their own.

    Parameters
    ----------
    value
        A text, a number (numpy's too), None or another gap of a data frame, or a list of these.

    Returns
    -------
    str or None
        None for a gap. Integers of any size keep their digits: ``12345678901234567``.

    Raises
    ------
    TypeError
        For anything else.
    """
    if isinstance(value, str):
        return str(value)
    if hasattr(value, "as_py"):  # a scalar of pyarrow
        return value_text(value.as_py())
    if hasattr(value, "tolist"):  # numpy's scalars and arrays
        return value_text(value.tolist())
    if isinstance(value, list | tuple):
        return "\n".join(text for item in value if (text := value_text(item)))
    if is_missing(value):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return number_text(value)
    if isinstance(value, int) or type(value).__name__ == "Decimal":
        return str(value)
    raise TypeError(f"{type(value).__name__} is no text")


def number_text(value: float | None) -> str | None:
    """Write 3.0 as ``3``, because ids and grades become floats in a column with gaps.

    Parameters
    ----------
    value
        A number.

    Returns
    -------
    str or None
        Its text; none for NaN.
    """
    if value is None or value != value:
        return None
    return str(int(value)) if value.is_integer() else str(value)


def _narrow(text: str) -> str:
    return unicodedata.normalize("NFKC", clean_text(text)).casefold().strip()


# A title or a query may be one of these words.
MAY_BE_MISSING: Final = (DESCRIPTION, BULLETS, BRAND, COLOR)
_LONGEST: Final = max(map(len, MISSING_WORDS))


def says_missing(text: str) -> bool:
    """Return whether a cleaned text means a missing value: ``NULL``, ``N/A`` and the like, in any case."""
    return len(text) <= _LONGEST and text.casefold() in MISSING_WORDS


def are_missing(texts: Any) -> Any:
    """Return which texts of a cleaned ``pyarrow`` array mean a missing value; see `says_missing`."""
    # Most texts are too long, and are not looked at.
    few = fold_column(
        pc.if_else(pc.less_equal(pc.utf8_length(texts), _LONGEST), texts, ""), lambda text: "1" * says_missing(text)
    )
    return pc.equal(few, "1")


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
            remedy = f"{suggest(str(label), LABEL_NAMES)} A grade that means 'not judged' is mapped to skip."
            raise UserError(f"grade {grade!r} is mapped to {label!r}, which is no label", remedy=remedy)
        key, meaning = fold_grade(grade), _MEANINGS[fold_grade(label)]
        if own.setdefault(key, meaning) != meaning:
            remedy = "Leave one of the two out."
            raise UserError(f"grade {grade!r} is mapped to both {own[key]} and {meaning}", remedy=remedy)
    return {**_KNOWN, "": NOT_JUDGED, **own}


def label_of(grade: str | None, labels: Mapping[str, str]) -> str | None:
    """Return the label of a grade: `NOT_JUDGED` for none and for negative unmapped ones, else None."""
    key = fold_grade(grade)
    label = labels.get(key)
    return NOT_JUDGED if label is None and _NEGATIVE.fullmatch(key) else label
