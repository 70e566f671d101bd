"""The error for users."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """Something that the user gave cannot be used; the message says what, where and what to do.

    Parameters
    ----------
    problem
        The invalid input and the reason.
    remedy
        What to do about it.
    file, row
        Where it was found; ``row`` counts data rows from 1.
    """

    def __init__(
        self, problem: str, *, remedy: str = "", file: str | Path | None = None, row: int | None = None
    ) -> None:
        self.problem, self.remedy, self.file, self.row = problem, remedy, file, row
        where = "" if file is None else f"{file}: " if row is None else f"{file}, row {row}: "
        super().__init__(f"{where}{problem}" + (f"\n{remedy}" if remedy else ""))


@contextmanager
def readable(path: Path | str, remedy: str = "", *more: type[Exception]) -> Iterator[None]:
    """Name the file that cannot be read: what the libraries raise at a missing or damaged one becomes a `UserError`.

    Parameters
    ----------
    path
        The file.
    remedy
        What to do about it.
    *more
        What its reader raises besides ``OSError`` and ``ValueError``.
    """
    faults: tuple[type[Exception], ...] = (OSError, ValueError, *more)
    try:
        yield
    except faults as error:
        raise UserError(f"cannot be read ({error}).", file=path, remedy=remedy) from error


def suggest(given: str, known: Iterable[str]) -> str:
    """Suggest the nearest valid name for a misspelt one.

    Parameters
    ----------
    given
        The name as typed.
    known
        The names that exist.

    Returns
    -------
    str
        ``Did you mean 'x'?`` where one is near, and otherwise the list of all of them.
    """
    names = sorted(known)
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.6)
    return f"Did you mean {near[0]!r}?" if near else f"Possible: {', '.join(names)}."
