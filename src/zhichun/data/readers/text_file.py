"""Text files of any compression and encoding as UTF-8 bytes, with notes for the user.

gzip and a zip of one file are unpacked, UTF-16 is decoded with or without its mark, and a UTF-8 mark is left out. What
is not text is refused by name. No compressed file may expand to more than `MOST_TIMES` its size.
"""

import codecs
import difflib
import gzip
import io
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, Final

from zhichun.core.errors import UserError

# Product texts shrink to a third or a tenth, and hardly ever to a twentieth.
MOST_TIMES: Final = 100
ALWAYS_FREE: Final = 256 << 20
PARQUET_MARK: Final = b"PAR1"
_BUFFER: Final = 1 << 20
_HEAD: Final = 4096
_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = b"PK\x03\x04"
# Beside each file that macOS packs, what it knows of it.
_OF_MACOS: Final = "__MACOSX/"
_EXCEL: Final = ("an Excel workbook", "Save it in Excel as 'CSV UTF-8' and give that file.")
# Longer marks first, since UTF-32's begins with UTF-16's.
_MARKS: Final = {
    codecs.BOM_UTF8: "",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_FOREIGN: Final = {
    PARQUET_MARK: ("a Parquet file", "Give it the ending .parquet."),
    b"\xd0\xcf\x11\xe0": _EXCEL,
    b"%PDF": ("a PDF document", "Give a table."),
    b"BZh": ("compressed with bzip2", "Unpack it, or compress it with gzip."),
    b"\xfd7zXZ": ("compressed with xz", "Unpack it, or compress it with gzip."),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", "Unpack it, or compress it with gzip."),
    b"7z\xbc\xaf": ("a 7z archive", "Unpack it, and name the file in it."),
    b"ARROW1": ("an Arrow (Feather) file", "Write it as Parquet."),
    b"SQLite format 3": ("a SQLite database", "Export the table as CSV."),
}
_WEB_PAGE: Final = ("a web page or XML, not a table", "Download the file itself, or export it as CSV.")
_WEB_PAGES: Final = (b"<!doctype", b"<html", b"<?xml")


def require_file(path: Path) -> None:
    """Refuse a file that is missing, unreadable or empty."""
    if path.is_dir():
        raise UserError("is a folder, not a file", remedy="Name the file in it.", file=path)
    if not path.exists():
        beside = {each.name for each in path.parent.iterdir()} if path.parent.is_dir() else set()
        # A link to nothing is there itself.
        near = difflib.get_close_matches(path.name, beside - {path.name}, n=1)
        remedy = f"Did you mean {near[0]!r}?" if near else "Check its path."
        raise UserError("there is no such file", file=path, remedy=remedy)
    if not os.access(path, os.R_OK):
        raise UserError("no permission to read it", remedy="Change its permissions, or name another one.", file=path)
    if path.is_file() and path.stat().st_size == 0:
        raise UserError("the file is empty", remedy="Write it again, or name another one.", file=path)


def require_bounded(path: Path, size: int, became: int) -> None:
    """Refuse decompression bombs: 200 kB of gzip or of a dictionary can expand to many GB."""
    if became > max(ALWAYS_FREE, MOST_TIMES * size):
        problem = f"holds {size:,} bytes and becomes more than {became:,} when it is unpacked, more than any catalogue"
        remedy = "If that is right, give the table as a plain CSV file, which may be of any size."
        raise UserError(problem, file=path, remedy=remedy)


class TextFile:
    """A text file that can be opened several times.

    Attributes
    ----------
    path, size
        The file and its bytes.
    head
        Its first few thousand bytes, as UTF-8.
    notes
        Notes for the user on how it was read.
    """

    def __init__(self, path: Path) -> None:
        require_file(path)
        self.path, self.size = path, path.stat().st_size
        self.notes: list[str] = []
        with path.open("rb") as raw:
            self._packing = raw.read(4)
        is_gzip, named_gz = self._packing.startswith(_GZIP), path.suffix.lower() == ".gz"
        if is_gzip and not named_gz:
            self.notes.append("is compressed with gzip, and was unpacked")
        elif named_gz and not is_gzip:
            self.notes.append("is not compressed, despite its name")
        elif self._packing == _ZIP:
            self.notes.append("is a zip archive of one file, which was read")
        self._mark, self._encoding = 0, ""
        with self.open() as (stream, _):
            head = stream.read(_HEAD)
        foreign = [what for mark, what in _FOREIGN.items() if head.startswith(mark)]
        foreign += [_WEB_PAGE] if head.lstrip().lower().startswith(_WEB_PAGES) else []
        if foreign:
            raise UserError(f"is {foreign[0][0]}", remedy=foreign[0][1], file=path)
        self._mark, self._encoding = _encoding(head)
        if self._encoding:
            self.notes.append(f"is not UTF-8 but {self._encoding.upper()}, and was read as that")
        with self.open() as (stream, _):
            self.head = stream.read(_HEAD)

    @contextmanager
    def open(self) -> Iterator[tuple[BinaryIO, Callable[[], int]]]:
        """Return the UTF-8 bytes, and a function for how much of the file was read."""
        with self.path.open("rb", buffering=_BUFFER) as raw:
            stream: Any = self._unpacked(raw)
            stream.read(self._mark)
            if self._encoding:
                stream = io.BufferedReader(_Stream(self._decoded(stream)), _BUFFER)
            yield stream, raw.tell

    def lines(self) -> Iterator[tuple[int, str]]:
        """Return each line with its number, from 1.

        Raises
        ------
        UserError
            For a line that is not UTF-8.
        """
        with self.open() as (stream, _):
            for number, line in enumerate(stream.read().splitlines(), start=1):
                try:
                    yield number, line.decode("utf-8")
                except UnicodeDecodeError as error:
                    remedy = "Save the file as UTF-8."
                    raise UserError("is not UTF-8", remedy=remedy, file=self.path, row=number) from error

    def _unpacked(self, raw: BinaryIO) -> BinaryIO:
        packed: Any
        if self._packing.startswith(_GZIP):
            packed, what = gzip.GzipFile(fileobj=raw), "gzip file"
        elif self._packing == _ZIP:
            packed, what = self._only_member(raw), "zip archive"
        else:
            return raw
        return io.BufferedReader(_Stream(self._bounded(packed, what)), _BUFFER)

    def _bounded(self, packed: BinaryIO, what: str) -> Iterator[bytes]:
        """Decompress a file in chunks, within bounds."""
        became = 0
        while True:
            try:
                data = packed.read(_BUFFER)
            except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
                remedy = "Copy or compress it again."
                raise UserError(f"is not a whole {what}", remedy=remedy, file=self.path) from error
            if not data:
                return
            became += len(data)
            require_bounded(self.path, self.size, became)
            yield data

    def _decoded(self, stream: BinaryIO) -> Iterator[bytes]:
        """Return text of another encoding as UTF-8; lone surrogates become invalid bytes, so their row is refused."""
        decoder = codecs.getincrementaldecoder(self._encoding)("surrogatepass")
        data = b"-"
        try:
            while data:
                data = stream.read(_BUFFER)
                yield decoder.decode(data, final=not data).encode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            problem = f"is not whole {self._encoding.upper()}"
            raise UserError(problem, remedy="Save the file as UTF-8.", file=self.path) from error

    def _only_member(self, raw: BinaryIO) -> IO[bytes]:
        try:
            archive = zipfile.ZipFile(raw)
            listed = (each for each in archive.infolist() if not each.is_dir())
            members = [each for each in listed if not each.filename.startswith(_OF_MACOS)]
            if any(each.filename.startswith("xl/") for each in members):
                raise UserError(f"is {_EXCEL[0]}", remedy=_EXCEL[1], file=self.path)
            if len(members) != 1:
                what = f"is a zip archive of {len(members)} files"
                raise UserError(what, remedy="Unpack it, and name one of them.", file=self.path)
            return archive.open(members[0])
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            what = f"is a zip archive that cannot be read ({error})"
            raise UserError(what, remedy="Unpack it.", file=self.path) from error


class _Stream(io.RawIOBase):
    """Chunks of bytes as a stream."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._left = pieces, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left and (piece := next(self._pieces, None)) is not None:
            self._left = memoryview(piece)
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count


def _encoding(head: bytes) -> tuple[int, str]:
    """Return the length of the byte-order mark, and the encoding if it is not UTF-8."""
    for mark, name in _MARKS.items():
        if head.startswith(mark):
            return (0, name) if name else (len(mark), name)
    head = head[: min(64, len(head) // 2 * 2)]
    for zeros, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        # Of ASCII, which a header begins with, one byte of two is zero.
        if head[zeros::2].count(0) > 0.35 * len(head) and not head[1 - zeros :: 2].count(0):
            return 0, name
    return 0, ""
