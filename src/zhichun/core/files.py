"""Files and folders that are whole or not there, and folders that one process has at a time.

Each is written beside its name, under one that no other process has, brought to the disk and renamed.
"""

import errno
import fcntl
import glob
import hashlib
import json
import os
import re
import resource
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from zhichun.core.errors import UserError, readable

LOCK_FILE: Final = ".lock"
HASHES_FILE: Final = "hashes.json"
FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_TEXTS: Final = (*map(os.strerror, FULL), *(f"os error {number}" for number in FULL))
_FULL_BYTES: Final = 1 << 20
# What this process is making, and has locked.
_MINE: Final[set[Path]] = set()
_KINDS: Final = ("old", "partial")
_BESIDE: Final = re.compile(rf"(?P<name>.+)\.(?P<kind>{'|'.join(_KINDS)})-(?P<process>\d+)-[0-9a-f]{{8}}", re.DOTALL)


class NotWritten(UserError):
    """A file or folder that cannot be written: the disk is full, or it may not be."""


@contextmanager
def new_file(path: Path, *, first_wins: bool = False) -> Iterator[Path]:
    """Give a path to write a file to; it gets its name when the block ends well, and is removed otherwise.

    Of two processes that write the same file at once, the later one's stays, whole.

    Parameters
    ----------
    path
        The file to make or replace; folders above it are made.
    first_wins
        Whether a file that is there stays, and this one goes.

    Raises
    ------
    NotWritten
        When the disk is full or the file may not be written; what was there before stays.
    """
    with _beside(path, Path.touch) as partial:
        if path.is_dir():
            raise NotWritten("is a folder, not a file.", file=path, remedy="Name a file.")
        yield partial
        _sync(partial)
        if not (first_wins and _is_linked(partial, path.resolve())):
            partial.replace(path.resolve())
        _sync(path.resolve().parent)


def _is_linked(partial: Path, path: Path) -> bool:
    """Give a file its name unless another has it; false on a file system that cannot do that in one step."""
    try:
        path.hardlink_to(partial)
    except OSError:  # some are without links
        return path.exists()
    return True


@contextmanager
def new_folder(
    path: Path, *, overwrite: bool = False, replaceable: Callable[[Path], bool] = Path.is_dir, first_wins: bool = False
) -> Iterator[Path]:
    """Give a folder to write to; it gets its name when the block ends well, and is removed otherwise.

    Parameters
    ----------
    path
        The folder to make; an empty one may be there.
    overwrite
        Whether to replace one that is there.
    replaceable
        Tells a folder that is one of ours from somebody's own, which is never replaced.
    first_wins
        For what is the same whoever makes it: one that another process made meanwhile is kept, and this one goes.

    Raises
    ------
    NotWritten
        When the disk is full or the folder may not be written; what was there before stays.
    UserError
        When there is one that is not to be replaced, or another process is making it.
    """
    with _beside(path, Path.mkdir, alone=not first_wins) as partial:
        if not first_wins:
            _require_free(path, overwrite, replaceable)
        yield partial
        for folder, _, names in os.walk(partial, topdown=False):
            for each in (*names, "."):
                _sync(Path(folder, each))
        _give_name(partial, path.resolve(), overwrite, first_wins)
        _sync(path.resolve().parent)


def _require_free(path: Path, overwrite: bool, replaceable: Callable[[Path], bool]) -> None:
    if path.exists() and not path.is_dir():
        raise UserError("is a file, not a folder.", file=path, remedy="Name a folder that does not exist yet.")
    if not path.is_dir() or not any(path.iterdir()):
        return
    if not replaceable(path):
        raise UserError("the folder holds something else.", file=path, remedy="Name another folder.")
    if not overwrite:
        remedy = "Name another, or replace it with --overwrite (overwrite=True)."
        raise UserError("the folder exists.", file=path, remedy=remedy)


def _give_name(partial: Path, path: Path, overwrite: bool, first_wins: bool) -> None:
    try:
        partial.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if first_wins:
            return
        if not overwrite:
            raise UserError("another process made the folder meanwhile.", file=path) from error
        # A folder cannot be replaced in one step; the old one stays beside until the new one has its name.
        old = _name_beside(path, "old")
        path.rename(old)
        partial.rename(path)
        shutil.rmtree(old)


def _name_beside(path: Path, kind: str) -> Path:
    return path.with_name(f"{path.name}.{kind}-{os.getpid()}-{secrets.token_hex(4)}")


@contextmanager
def _beside(path: Path, make: Callable[[Path], None], *, alone: bool = False) -> Iterator[Path]:
    """Make something beside a path and lock it, so that others see it live; remove what is left of it at the end."""
    path = path.resolve()
    partial, lock = _name_beside(path, "partial"), None
    new_above = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two that begin at once see each other; in a folder that this process is making it is alone.
        mutex = None if not alone or path.parent in _MINE else _lock(path.parent, fcntl.LOCK_EX)
        try:
            others = clear_left_over(path.parent, glob.escape(path.name))
            if alone and others:
                raise UserError(f"process {others[0]} is writing it.", file=path, remedy="Wait for it, or stop it.")
            _MINE.add(partial)  # before it is locked, or another thread would take it for left over
            make(partial)
            lock = _lock(partial)
        finally:
            _unlock(mutex)
        yield partial
    except Exception as error:
        if (explained := _explained(error, path, partial)) is None:
            raise
        raise explained from error
    finally:
        _MINE.discard(partial)
        _remove(partial)
        _unlock(lock)
        for folder in new_above:
            with suppress(OSError):  # something is in it
                folder.rmdir()


def clear_left_over(folder: Path, names: str) -> list[int]:
    """Put right what killed processes left of some names; give the numbers of those that are writing them now."""
    running = []
    # Of each kind, or what is made beside `data` were that of `data.v2` too.
    for found in sorted(each for kind in _KINDS for each in folder.glob(f"{names}.{kind}-*-*")):
        if (match := _BESIDE.fullmatch(found.name)) is None:
            continue
        path, owner = found.with_name(match["name"]), int(match["process"])
        try:
            lock = None if found in _MINE else _lock(found)
        except OSError:  # somebody else's, or just gone
            continue
        if lock is None:
            running.append(owner)
        elif not _has_ended(owner):  # a library may have made its file anew, without the lock
            pass
        elif match["kind"] == "old" and not path.exists():  # killed between two renames
            found.rename(path)
        else:
            _remove(found)
        _unlock(lock)
    return running


def _remove(path: Path) -> None:
    with suppress(OSError):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def _has_ended(process: int) -> bool:
    """Tell that no other process has this number; in a container, one that ended may have had that of this one."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return process == os.getpid()


def _lock(path: Path, how: int = fcntl.LOCK_EX | fcntl.LOCK_NB) -> int | None:
    """Lock a file or folder until it is closed; ``None`` where another process has it."""
    opened = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # some file systems lock for writers alone
    try:
        fcntl.flock(opened, how)
    except BlockingIOError:
        os.close(opened)
        return None
    except OSError:  # a file system without locks
        pass
    return opened


@contextmanager
def turn(file: Path) -> Iterator[None]:
    """Have a file, which is there and stays, for this process alone while the block runs; waits for others."""
    opened = _lock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        _unlock(opened)


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _explained(error: Exception, path: Path, partial: Path) -> NotWritten | None:
    """Say why nothing could be written, whatever a library made of it; ``None`` where the reason is another."""
    kept = "what was there before is as it was" if os.path.lexists(path) else "nothing of it is left"
    if _is_full(error, partial):
        problem = f"the disk is full, or a file grew over its limit; {kept}."
        return NotWritten(problem, file=path, remedy="Free some space, or name a place on another disk.")
    place = str(getattr(error, "filename", None) or path)
    of_it = place.startswith((str(path.parent), str(partial))) or Path(place) in path.parents
    if isinstance(error, OSError) and of_it:
        problem = f"cannot be written ({error.strerror or error}); {kept}."
        return NotWritten(problem, file=path, remedy="Name a place where you may write.")
    return None


def _is_full(error: Exception, partial: Path) -> bool:
    chain: BaseException | None = error
    while chain is not None:
        if getattr(chain, "errno", None) in FULL or any(text in str(chain) for text in _FULL_TEXTS):
            return True
        chain = chain.__cause__ or chain.__context__
    with suppress(OSError):
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        largest = max((each.stat().st_size for each in (partial, *partial.rglob("*")) if each.is_file()), default=0)
        return shutil.disk_usage(partial.parent).free < _FULL_BYTES or most != resource.RLIM_INFINITY <= largest
    return False


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Have a folder, which is made if need be, for this process alone while the block runs; names who has it otherwise.

    What killed processes left half-written anywhere in it is removed.
    """
    made, file = not os.path.lexists(folder), folder / LOCK_FILE
    try:
        if folder.is_file():
            raise UserError("is a file, not a folder.", file=folder, remedy="Name a folder.")
        opened = _open_lock(file)
    except OSError as error:
        raise _explained(error, folder, folder) or error from error
    try:
        clear_left_over(folder, "**/*")
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(opened)
        if made:
            with suppress(OSError):  # something was written
                folder.rmdir()


def _open_lock(file: Path) -> int:
    while True:
        file.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # the process before has just removed it
            file.touch()
            opened = _lock(file)
            if opened is None:
                owner = file.read_text("utf-8", errors="replace") or "another process"
                remedy = "Wait until it is done, or name another."
                raise UserError(f"the folder is in use by {owner}.", file=file.parent, remedy=remedy)
            if file.exists() and os.path.samestat(os.fstat(opened), file.stat()):
                file.write_text(f"process {os.getpid()} ({Path(sys.argv[0]).name} {' '.join(sys.argv[1:3])})", "utf-8")
                return opened
            os.close(opened)


def cache_folder() -> Path:
    """Return the folder of what is kept between commands: ``zhichun`` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zhichun"


def append_text(path: Path, text: str) -> None:
    """Append to a text file, of which a kill or a full disk may leave the last line cut off."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise _explained(error, path, path) or error from error


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    with new_file(path) as partial:
        partial.write_text(text, "utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file for people to read too."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path, shape: Any = dict, remedy: str = "The folder is damaged; make it again.") -> dict[str, Any]:
    """Read a JSON object; a `UserError` with the remedy where it does not hold what its reader needs.

    That is a shape: a type, or a dictionary of the keys that have to be there with the shapes of their values.
    """
    with readable(path, remedy, RecursionError):
        value: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if fault := _unlike(value, shape, "the whole"):
        raise UserError(f"is not as it was written: {fault}.", file=path, remedy=remedy)
    return value


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Read a file of JSON objects, one a line; a last line that a kill cut off is left out, and no file is empty."""
    for line in path.read_text("utf-8").splitlines() if path.is_file() else []:
        with suppress(json.JSONDecodeError):
            yield json.loads(line)


def _unlike(value: Any, shape: Any, name: str) -> str:
    """Say what is not as a shape wants it; nothing where all is."""
    if not isinstance(shape, dict):
        return "" if isinstance(value, shape) else f"{name} is of another kind"
    if not isinstance(value, dict):
        return f"{name} is no object"
    faults = (f"{key} is missing" if key not in value else _unlike(value[key], shape[key], key) for key in shape)
    return next(filter(None, faults), "")


def write_hashes(folder: Path) -> None:
    """Write the SHA-256 of every file in a folder beside them, for `check_hashes`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != HASHES_FILE)
    write_json(folder / HASHES_FILE, {path.relative_to(folder).as_posix(): sha256(path) for path in files})


def check_hashes(folder: Path, remedy: str, *, always: bool = False) -> None:
    """Refuse a folder of which a file is missing or has changed since `write_hashes`.

    One without hashes passes, unless it ``always`` has them.

    Raises
    ------
    UserError
        Names the first such file.
    """
    path = folder / HASHES_FILE
    for name, known in read_json(path, dict, remedy).items() if always or path.is_file() else ():
        if not (folder / name).is_file():
            raise UserError("is missing.", file=folder / name, remedy=remedy)
        if sha256(folder / name) != known:
            raise UserError("is damaged: it is not as it was written.", file=folder / name, remedy=remedy)


def sha256(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
