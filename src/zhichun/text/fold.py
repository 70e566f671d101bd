"""Product ids and locales in the one form under which both tables are joined."""

from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

# What stands in a file where there is no id; `nan` is what pandas writes.
_NO_ID: Final = pa.array(["", "nan"], pa.large_string())


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


def fold_locales(locales: Any | None, default: str, length: int) -> Any:
    """Write locales in lower case, and the default where there is none.

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
    if locales is None:
        return pa.array([default] * length, pa.large_string())
    folded = pc.utf8_lower(pc.utf8_trim_whitespace(locales))
    return pc.fill_null(pc.if_else(pc.equal(folded, ""), default, folded), default)
