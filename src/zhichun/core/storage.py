"""Folders and input files by path or by URL: on a local disk, or in a store that fsspec opens (s3://, gs://, hf://).

What is written gets its name when it is whole: it is made beside and renamed; stores of objects show nothing before.

Models and datasets of the Hugging Face hub go by name: `USER/NAME`, with a revision `USER/NAME@v1`. ``HF_ENDPOINT``
names another hub, ``HF_TOKEN`` is for what is private, ``HF_HUB_OFFLINE=1`` takes what was fetched before.
"""

import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, BinaryIO, Final, Literal

from zhichun.core.console import say_aside
from zhichun.core.errors import UserError, readable
from zhichun.core.files import FULL, clear_left_over, new_file

PARTIAL: Final = ".partial-"
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:/|:)")
_WILD: Final = re.compile(r"[*?\[]")
# Here an upload is seen when it is complete, and a rename would be a second copy.
_OBJECTS: Final = frozenset({"s3", "s3a", "gs", "gcs", "hf", "abfs", "abfss", "az", "oss", "r2"})


def is_url(place: str | Path) -> bool:
    """Tell an address that fsspec opens from a local path."""
    return _URL.match(str(place)) is not None


class NotReached(UserError):
    """A store did not answer, or refused: what was asked of it may be there, and the next call may get it."""


@dataclass(frozen=True)
class Source:
    """One input file.

    Parameters
    ----------
    name
        Relative to the folder that was given.
    path
        Its path or address.
    stamp
        Tells it from itself before a change.
    local
        Gives a local path to it while a block runs; a remote file is copied there.
    """

    name: str
    path: str
    stamp: Callable[[], list[Any]]
    local: Callable[[], Any]


def find_sources(place: str | Path, endings: tuple[str, ...], *, but: Sequence[str | Path] = ()) -> list[Source]:
    """Find the input files that a file, a folder or a pattern means, by name; those of ours (``_``) are left out.

    So is what a folder or a pattern has at or below the places ``but``.

    Raises
    ------
    UserError
        When there is none, or the place cannot be reached.
    """
    is_file, found = _in_store(str(place)) if is_url(place) else _on_disk(str(place))
    inputs = found if is_file else [each for each in found if _is_input(PurePosixPath(each.name), endings)]
    left_out = tuple(f"{_address(each)}/" for each in but)
    sources = inputs if is_file else [each for each in inputs if not f"{_address(each)}/".startswith(left_out)]
    if not sources:
        outside = f" outside of {but[0]}" if inputs else ""
        problem = f"there is no file that ends with {', '.join(endings)}{outside}."
        raise UserError(problem, file=place, remedy="Name a file, a folder of files, or a pattern such as 'in/*.csv'.")
    return sources


def _on_disk(place: str) -> tuple[bool, list[Source]]:
    path, wild = Path(place), _WILD.search(place)
    if wild is None or path.exists():
        if not path.is_dir():
            return True, [_of_path(path, path.parent)]
        files, base = list(path.rglob("*")), path
    else:
        base = Path(_before(place, wild))
        files = list(base.glob(str(path.relative_to(base))))
    return False, [_of_path(each, base) for each in sorted(files) if not each.is_dir()]


def _in_store(url: str) -> tuple[bool, list[Source]]:
    with _reaching(url):
        store, root = _opened(url)
        if (wild := _WILD.search(root)) is not None and not store.exists(root):
            files, base = store.glob(root), _before(root, wild)
        elif store.isdir(root):
            files, base = store.find(root), root
        else:
            return True, [_of_store(store, root, str(PurePosixPath(root).parent))]
        return False, [_of_store(store, each, base) for each in sorted(files)]


def _address(place: str | Path | Source) -> str:
    """Return the one way to write where something is."""
    path = place.path if isinstance(place, Source) else str(place)
    if not is_url(path):
        return f"file://{Path(path).resolve()}"
    if isinstance(place, Source):
        return path
    with _reaching(path):
        store, root = _opened(path)
        return str(store.unstrip_protocol(root))


def _before(pattern: str, wild: re.Match[str]) -> str:
    """Return the folder that a pattern begins with."""
    return str(PurePosixPath(pattern[: wild.start()] + "x").parent)


def _is_input(path: PurePosixPath, endings: tuple[str, ...]) -> bool:
    hidden = any(part.startswith(("_", ".")) for part in path.parts)
    return not hidden and unpacked_name(path).endswith(endings)


def unpacked_name(path: PurePath) -> str:
    """Return a file's name in small letters, without the ending of what packed it."""
    return path.name.lower().removesuffix(".gz").removesuffix(".zip")


def _of_path(path: Path, base: Path) -> Source:
    def stamp() -> list[Any]:
        with readable(path):
            stat = path.stat()
        return [stat.st_size, stat.st_mtime_ns]

    return Source(path.relative_to(base).as_posix(), str(path), stamp, lambda: nullcontext(path))


def _of_store(store: Any, file: str, base: str) -> Source:
    name, address = PurePosixPath(file).relative_to(base).as_posix(), store.unstrip_protocol(file)

    def stamp() -> list[Any]:
        with _reaching(file):
            store.invalidate_cache()
            return [store.size(file), store.ukey(file)]

    @contextmanager
    def local() -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, PurePosixPath(file).name)
            with _reaching(file):
                store.get_file(file, str(path))
            try:
                yield path
            except UserError as error:  # of the copy, which nobody else sees
                if error.file != path:
                    raise
                raise type(error)(error.problem, remedy=error.remedy, file=address, row=error.row) from error

    return Source(name, address, stamp, local)


def open_folder(place: str | Path) -> "Folder":
    """Open a folder, which need not be there yet.

    Raises
    ------
    UserError
        When it is a file, or what opens it is not installed.
    """
    if is_url(place):
        with _reaching(str(place)):
            return RemoteFolder(str(place), *_opened(str(place)))
    if Path(place).is_file():
        raise UserError("is a file, not a folder.", file=place, remedy="Name a folder.")
    return LocalFolder(Path(place))


@dataclass(frozen=True)
class LocalFolder:
    """A folder on a file system, to which several processes write at once."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def names(self, under: str = "") -> list[str]:
        """Names of the files in it or in a folder in it, but those that are being written and hidden ones."""
        folder = self.path / under
        found = [path.name for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
        return _ours(found)

    def open(self, name: str) -> BinaryIO:
        """Open a file to read."""
        return (self.path / name).open("rb")

    def new(self, name: str) -> Any:
        """Give a local path while a block runs; what is written there gets the name when it ends well."""
        return new_file(self.path / name)

    def create(self, name: str, text: str) -> None:
        """Write a file unless there is one."""
        with suppress(FileExistsError), new_file(self.path / name, first_wins=True) as partial:
            partial.write_text(text, "utf-8")

    def remove(self, name: str) -> None:
        """Remove a file that may be there."""
        (self.path / name).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what processes that were killed left half-written."""
        clear_left_over(self.path, "**/*")


@dataclass(frozen=True)
class RemoteFolder:
    """What `LocalFolder` is, in a store that fsspec opens."""

    url: str
    store: Any
    root: str

    def __str__(self) -> str:
        return self.url

    def names(self, under: str = "") -> list[str]:
        """See `LocalFolder`."""
        return _ours(self._all_names(under))

    def _all_names(self, under: str = "") -> list[str]:
        with _reaching(self.url):
            self.store.invalidate_cache()
            folder = f"{self.root}/{under}".rstrip("/")
            listed = self.store.ls(folder, detail=True) if self.store.isdir(folder) else []
            return [PurePosixPath(each["name"]).name for each in listed if each["type"] == "file"]

    def open(self, name: str) -> BinaryIO:
        """See `LocalFolder`."""
        with _reaching(self.url):
            opened: BinaryIO = self.store.open(f"{self.root}/{name}", "rb")
            return opened

    @contextmanager
    def new(self, name: str) -> Iterator[Path]:
        """See `LocalFolder`."""
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder, PurePosixPath(name).name)
            yield made
            path = f"{self.root}/{name}"
            with _reaching(self.url):
                protocols = self.store.protocol
                if _OBJECTS.intersection([protocols] if isinstance(protocols, str) else protocols):
                    self.store.put_file(str(made), path)
                    return
                self.store.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
                beside = f"{path}{PARTIAL}{os.getpid()}-{secrets.token_hex(4)}"
                self.store.put_file(str(made), beside)
                self.store.mv(beside, path)

    def create(self, name: str, text: str) -> None:
        """See `LocalFolder`."""
        with _reaching(self.url), suppress(FileExistsError):
            self.store.makedirs(self.root, exist_ok=True)
            self.store.pipe_file(f"{self.root}/{name}", text.encode(), mode="create")

    def remove(self, name: str) -> None:
        """See `LocalFolder`."""
        with _reaching(self.url), suppress(FileNotFoundError):
            self.store.rm_file(f"{self.root}/{name}")

    def tidy(self) -> None:
        """See `LocalFolder`."""
        for name in self._all_names():
            if PARTIAL in name:
                self.remove(name)


Folder = LocalFolder | RemoteFolder


def _ours(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if PARTIAL not in name and not name.startswith("."))


def _opened(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    store, root = url_to_fs(url)
    return store, root.rstrip("/")


@contextmanager
def _reaching(place: str) -> Iterator[None]:
    """Name the place of whatever a store's library raises."""
    try:
        yield
    except (UserError, FileExistsError):
        raise
    except ImportError as error:
        remedy = "Install what opens it with: pip install 'zhichun[cloud]'"
        raise UserError(f"cannot be opened ({error}).", file=place, remedy=remedy) from error
    except Exception as error:
        said = str(error) or type(error).__name__
        kind = UserError if isinstance(error, FileNotFoundError) else NotReached
        done, remedy = "reached", "Check the URL, and your access to it."
        if getattr(error, "errno", None) in FULL:
            done, remedy = "copied", "Free some space, or set TMPDIR to a folder on another disk."
        raise kind(f"cannot be {done} ({said}).", file=place, remedy=remedy) from error


DATASET: Final = "hf:"
HUB_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
_REVISION: Final = re.compile(HUB_NAME.pattern + r"(@[\w./-]+)?", re.ASCII)


def hub() -> Any:
    """Import huggingface_hub, which carries no types that help here."""
    try:
        import huggingface_hub.errors
    except ModuleNotFoundError as error:
        remedy = "Install it with: pip install 'zhichun[hub]'"
        raise UserError("this needs huggingface_hub, which is not installed.", remedy=remedy) from error
    return huggingface_hub


@contextmanager
def reaching_hub(problem: str, remedy: str) -> Iterator[Any]:
    """Give huggingface_hub; what it raises, and the client that it asks by, becomes a `UserError`."""
    library = hub()
    try:
        yield library
    except (OSError, ValueError, library.errors.HTTPError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{problem} ({reason}).", remedy=remedy) from error


def local(place: Path | str) -> Path:
    """Return a folder or file as it is; what is none and looks like a name on the hub is fetched from there.

    A path below a folder that is here is no name.

    Raises
    ------
    UserError
        When the hub has no such model, or cannot be reached.
    """
    path = Path(place)
    if path.exists() or not _REVISION.fullmatch(str(place)) or Path(path.parts[0]).exists():
        return path
    return fetched(str(place), "model")


def fetched(name: str, kind: Literal["model", "dataset"], patterns: Sequence[str] | None = None) -> Path:
    """Fetch a repository of the hub, or those of its files that match, into the hub's cache.

    Raises
    ------
    UserError
        When there is none of that name, or it cannot be reached.
    """
    repository, _, revision = name.partition("@")
    problem = f"there is no such folder here, and the {kind} {name!r} could not be had from the hub"
    with reaching_hub(problem, "Check the name; HF_TOKEN is needed for what is private.") as library:
        found = library.snapshot_download(
            repository,
            repo_type=kind,
            revision=revision or None,
            allow_patterns=None if patterns is None else [*patterns],
        )
    say_aside(f"{name}: from the hub, {found}")
    return Path(found)
