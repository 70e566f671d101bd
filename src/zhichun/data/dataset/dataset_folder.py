"""Building a folder under a temporary name, so that its final name never holds half of one."""

import errno
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from zhichun.core.errors import UserError

MANIFEST_FILE: Final = "manifest.json"
_PARTIAL: Final = "partial"
_OLD: Final = "old"
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN: Final = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def new_dataset_folder(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a temporary folder beside ``out`` that takes its name if all goes well, and is removed otherwise.

    Parameters
    ----------
    out
        The folder to be.
    overwrite
        Whether a dataset folder of that name may be replaced.

    Yields
    ------
    Path
        The folder to write to.

    Raises
    ------
    UserError
        If ``out`` exists and may not be replaced, or cannot be written.
    """
    _clearleft_over(out)
    _check_free(out, overwrite)
    partial = out.with_name(f"{out.name}.{_PARTIAL}-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        yield partial
        _move_into_place(partial, out)
    except OSError as error:
        raise _explained(error, out) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_free(out: Path, overwrite: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir():
        raise UserError("is a file", remedy="Name a folder that does not exist yet.", file=out)
    if not overwrite:
        raise UserError(
            "the folder exists", remedy="Name another, or replace it with overwrite=True (--overwrite).", file=out
        )
    if not (out / MANIFEST_FILE).is_file():
        raise UserError(
            "the folder holds no dataset, so it is not replaced", remedy="Name another, or remove it.", file=out
        )


def _clearleft_over(out: Path) -> None:
    """Put right what runs left that were killed; one that is still running keeps its own."""
    if not out.parent.is_dir():
        return
    # Killed between two renames, a run left the old dataset beside its name.
    for old in left_over(out, _OLD):
        if out.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(out)
    for partial in left_over(out, _PARTIAL):
        shutil.rmtree(partial, ignore_errors=True)


def left_over(out: Path, kind: str) -> Iterator[Path]:
    """Find what processes left beside a folder that have ended, named after it, a kind and their number."""
    for folder in sorted(out.parent.glob(f"{glob.escape(out.name)}.{kind}-*")):
        owner = folder.name.rpartition("-")[2]
        if owner.isdecimal() and not _is_running(int(owner)):
            yield folder


def _is_running(process: int) -> bool:
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _move_into_place(partial: Path, out: Path) -> None:
    if not out.exists():
        partial.rename(out)
        return
    # A folder cannot be replaced in one step; the old one stays beside until the new one has its name.
    old = out.with_name(f"{out.name}.{_OLD}-{os.getpid()}")
    out.rename(old)
    partial.rename(out)
    shutil.rmtree(old)


def _explained(error: OSError, out: Path) -> Exception:
    if error.errno in _FULL:
        return UserError(
            "the disk is full, or a file grew over its limit; nothing was left behind",
            remedy="Free some space, or name a folder on another disk.",
            file=out,
        )
    if error.errno in _FORBIDDEN:
        return UserError("cannot be written", remedy="Name a folder in which you may write.", file=out)
    return error
