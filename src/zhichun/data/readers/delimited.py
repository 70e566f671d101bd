"""CSV and TSV: regular expressions find the records and refuse what is not strict, pyarrow takes the values out.

An unbalanced quote must cost only its own row. A quoted field may have line breaks; but if the lines that it would
take in look like rows of this table themselves, the row that opened the quote is refused, and the others are read.
In TSV a quote is an ordinary character, unless the header itself is quoted.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from zhichun.core.arrays import Int64
from zhichun.core.errors import UserError
from zhichun.data.readers.rejected import MALFORMED, OPEN_QUOTE, TOO_LONG, Reason, Refusal, Refusals
from zhichun.data.readers.table import BATCH_ROWS, MOST_OF_A_ROW, Batch, TextTable, text_batches
from zhichun.data.readers.text_file import TextFile
from zhichun.text.fold import fold_name

# Bytes that are looked at in one go, unless a record is longer.
BLOCK = 1 << 20
_MOST_OF_A_HEADER: Final = 1 << 20
_LINES_LOOKED_AT: Final = 200
_FEW: Final = 20
_SHOWN: Final = 2000
_END: Final = rb"(?:\r\n?+|\n)"
_LINE_END: Final = re.compile(_END)
_SEPARATORS: Final = (b",", b"\t", b";", b"|")
_NAMES: Final = {b",": "commas", b"\t": "tabs", b";": "semicolons", b"|": "bars"}


class _Dialect:
    """Separator and quoting: patterns of strict records."""

    def __init__(self, separator: bytes, *, quoted: bool) -> None:
        self.separator, self.quoted = separator, quoted
        self._next = re.escape(separator)
        bare = rb"[^%b\r\n]*+" % self._next
        if not quoted:
            self._one = self._many = bare
            self.opened = re.compile(rb"(?!)")
        else:
            form = rb'(?:"[^"%b]*+(?:""[^"%b]*+)*+"(?=[%b\r\n])|(?!")%b)'
            self._one = form % (rb"\r\n", rb"\r\n", self._next, bare)
            self._many = form % (b"", b"", self._next, bare)
            self.opened = re.compile(rb'(?:%b%b)*+"[^"]*+(?:""[^"]*+)*+\Z' % (self._many, self._next))
        self.record = re.compile(rb"%b(?:%b%b)*+%b" % (self._many, self._next, self._many, _END))
        self._value = re.compile(rb"(?:\A|%b)(%b)" % (self._next, self._many))

    def rows(self, width: int) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
        """Return the patterns of records of this many values: any number of one line each, or one of several lines."""
        one, many = (
            rb"%b(?:%b%b){%d}%b" % (each, self._next, each, width - 1, _END) for each in (self._one, self._many)
        )
        return re.compile(rb"(?:(?![\r\n])%b)*+" % one), re.compile(many)

    def values(self, record: bytes) -> list[bytes]:
        """Split a strict record; quotes stay."""
        return [found[1] for found in self._value.finditer(record.rstrip(b"\r\n") + b"\n")]

    def names(self, record: bytes) -> list[str]:
        """Return the names in a header."""
        texts = [value.decode("utf-8") for value in self.values(record)]
        if self.quoted:
            texts = [text[1:-1].replace('""', '"') if text.startswith('"') else text for text in texts]
        return [text.strip() for text in texts]


class _Found(NamedTuple):
    """The rows found at a position: where they end, and the reason if they are refused."""

    stop: int
    rows: int
    reason: Reason | None = None
    detail: str = ""
    has_breaks: bool = False


@dataclass
class _Good:
    """Strict records that pyarrow has not parsed yet."""

    parts: list[bytes] = field(default_factory=list)
    rows: list[Int64] = field(default_factory=list)
    count: int = 0
    size: int = 0
    has_breaks: bool = False

    def add(self, data: bytes, first: int, count: int) -> None:
        self.parts.append(data)
        self.rows.append(np.arange(first, first + count))
        self.count, self.size = self.count + count, self.size + len(data)


class DelimitedTable(TextTable):
    """A file of separated values with a header.

    Parameters
    ----------
    file
        The file.
    tabs
        Whether it is TSV by its name: separated by tabs, without quoting.
    known
        Names of columns in the form of `fold_name`, by which the separator is told where several could be meant.
    """

    def __init__(self, file: TextFile, *, tabs: bool, known: frozenset[str]) -> None:
        super().__init__(file)
        with file.open() as (stream, _):
            head = stream.read(_MOST_OF_A_HEADER)
        self._sample: list[bytes] = []
        self._spacings: Sequence[int] = ()
        start, self._dialect = self._find_dialect(head, tabs, known)
        found = self._dialect.record.match(head + b"\n", start)
        if found is None:
            raise UserError("the header is incomplete", remedy="Close the quotes in it.", file=self.path)
        try:
            self.names = self._dialect.names(found[0])
        except UnicodeDecodeError as error:
            remedy = "Save the file as UTF-8; in Excel that is 'CSV UTF-8'."
            raise UserError("the header is not UTF-8", file=self.path, remedy=remedy) from error
        if not any(self.names):
            raise UserError("has no header", remedy="Name the columns in the first line.", file=self.path)
        self._start = min(found.end(), len(head))
        self._clean, self._record = self._dialect.rows(len(self.names))
        self.require_unique_names()

    def _find_dialect(self, head: bytes, tabs: bool, known: frozenset[str]) -> tuple[int, _Dialect]:
        """Detect the separator in the header, and return where the header begins."""
        start = len(head) - len(head.lstrip(b"\r\n"))
        line = re.compile(rb"[^\r\n]*+").match(head, start)
        assert line is not None
        named = re.fullmatch(rb'"?sep=([^\w"])"?[ ,;\t]*', line[0], re.IGNORECASE)
        if named and not tabs:
            self.notes.append(f"names its separator in line 1 ({line[0].decode('utf-8', 'replace').strip()!r})")
            after = _LINE_END.match(head + b"\n", line.end())
            assert after is not None
            return min(after.end(), len(head)), _Dialect(named[1], quoted=True)
        usual = b"\t" if tabs else b","

        def likelihood(separator: bytes) -> tuple[int, bool, int]:
            names = [fold_name(value.strip(b' "').decode("utf-8", "replace")) for value in line[0].split(separator)]
            return (
                len(known.intersection(names)) if len(names) > 1 else 0,
                separator == usual and len(names) > 1,
                len(names),
            )

        separator = max(_SEPARATORS, key=likelihood)
        if likelihood(separator)[2] == 1:
            separator = usual
        if separator != usual:
            self.notes.append(f"has values separated by {_NAMES[separator]}")
        quoted = separator != b"\t" or not tabs
        if not quoted and all(value.startswith(b'"') for value in line[0].split(separator)):
            self.notes.append("has a quoted header, so its quotes were read as those of a CSV")
            quoted = True
        return start, _Dialect(separator, quoted=quoted)

    def batches(self, columns: Mapping[str, str], rejected: Refusals, rows: int = BATCH_ROWS) -> Iterator[Batch]:
        """Read some columns; see `Table.batches`."""
        places = {name: self.names.index(column) for name, column in columns.items()}
        for good, done in self._blocks(rejected, rows):
            raw = self._values(good, places)
            yield from text_batches(self.path, np.concatenate(good.rows), raw, done, rejected, rows)

    def _values(self, good: _Good, places: Mapping[str, int]) -> dict[str, Any]:
        """Parse strict records with pyarrow."""
        data = b"\n" + b"".join(good.parts)  # Behind a line break, a byte-order mark is not taken for one.
        names = [str(place) for place in range(len(self.names))]
        wanted = [str(place) for place in dict.fromkeys(places.values())]
        read = pacsv.read_csv(
            pa.py_buffer(data),
            read_options=pacsv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names),
            parse_options=pacsv.ParseOptions(
                delimiter=self._dialect.separator.decode("latin-1"),
                quote_char='"' if self._dialect.quoted else False,
                newlines_in_values=good.has_breaks,
            ),
            convert_options=pacsv.ConvertOptions(
                include_columns=wanted, column_types=dict.fromkeys(wanted, pa.large_binary()), strings_can_be_null=False
            ),
        )
        assert read.num_rows == good.count, "pyarrow and the patterns see different rows"
        return {name: read.column(str(place)).combine_chunks() for name, place in places.items()}

    def _blocks(self, rejected: Refusals, rows: int) -> Iterator[tuple[_Good, int]]:
        """Yield blocks of good records, with how much of the file was read; refuse the others."""
        number, left, last, cut, good = 0, b"", False, False, _Good()
        with self.file.open() as (stream, tell):
            stream.read(self._start)
            while not last:
                size = max(BLOCK, len(left))  # Doubled where a record does not end, so that few bytes are read twice.
                more = stream.read(size)
                last = len(more) < size
                block = left + more + (b"\n" if last else b"")
                place, end = 0, max(block.rfind(b"\n"), block.rfind(b"\r")) + 1
                if cut:  # what belongs to a line that was too long
                    line = _LINE_END.search(block)
                    place, cut = (len(block), True) if line is None else (line.end(), False)
                while place < end and (found := self._next(block, place, end, force=last)) is not None:
                    if found.reason is not None:
                        self._refuse(found.reason, found.detail, number + 1, block[place : found.stop], rejected)
                    elif found.rows:
                        good.add(block[place : found.stop], number + 1, found.rows)
                        good.has_breaks |= found.has_breaks
                    number, place = number + found.rows, found.stop
                left = block[place:]
                if len(left) > MOST_OF_A_ROW and end <= place:
                    number += 1
                    self._refuse(TOO_LONG, f"longer than {MOST_OF_A_ROW >> 20} MiB", number, left, rejected)
                    left, cut = b"", True
                if good.count >= rows or good.size > MOST_OF_A_ROW or (last and good.count):
                    yield good, tell()
                    good = _Good()

    def _next(self, block: bytes, place: int, end: int, *, force: bool) -> _Found | None:
        """Find the next records: all strict rows of one line each that follow, or something else."""
        clean = self._clean.match(block, place, end)
        assert clean is not None
        if (stop := clean.end()) > place:
            part = block[place:stop]
            self._remember(part)
            return _Found(stop, part.count(b"\n") + part.count(b"\r") - part.count(b"\r\n"))
        line = _LINE_END.search(block, place, end)
        assert line is not None
        if line.start() == place:
            return _Found(line.end(), 0)
        record = self._record.match(block, place, end) or self._dialect.record.match(block, place, end)
        if record is None and not self._dialect.opened.match(block, place, end):
            return _Found(line.end(), 1, OPEN_QUOTE, "text after a closing quote")
        further = block[line.end() : min(record.end() if record else end, line.end() + BLOCK)]
        if further and self._are_rows(block[place : line.start()], further, closed=record is not None):
            return _Found(line.end(), 1, OPEN_QUOTE, "a quoted value that spans what look like further rows")
        if record is not None:
            count = len(self.names) if record.re is self._record else len(self._dialect.values(record[0]))
            if count == len(self.names):
                return _Found(record.end(), 1, has_breaks=True)
            return _Found(record.end(), 1, MALFORMED, f"{count} values for {len(self.names)} columns")
        if force or end - place > MOST_OF_A_ROW:
            return _Found(line.end(), 1, OPEN_QUOTE, "a quote that is never closed")
        return None

    def _are_rows(self, first: bytes, following: bytes, *, closed: bool) -> bool:
        """Return whether lines that a quote takes in look like rows: half of them at least."""
        separator = self._dialect.separator
        lines, spacings = following.splitlines()[:_LINES_LOOKED_AT], self._spacings or [1] * len(self.names)

        def is_row(line: bytes) -> bool:
            if line.count(separator) != len(spacings) - 1:
                return False
            return all(map(int.__le__, map(_spacing, line.split(separator)), spacings))

        if not closed:
            return len(lines) >= _FEW and 2 * sum(map(is_row, lines)) >= len(lines)
        *between, final = lines
        rows = sum(map(is_row, between)) + (is_row(final) and is_row(first))
        return 2 * rows >= len(between) + 1

    def _remember(self, part: bytes) -> None:
        """Record the spaces in each column's values: ids have none, and in prose one follows a comma."""
        wanted = _LINES_LOOKED_AT - len(self._sample)
        if wanted > 0:
            self._sample += part.splitlines()[:wanted]
            rows = [line.split(self._dialect.separator) for line in self._sample if b'"' not in line]
            if len(rows) >= _FEW:
                self._spacings = [max(map(_spacing, column)) for column in zip(*rows, strict=True)]

    def _refuse(self, reason: Reason, detail: str, row: int, record: bytes, rejected: Refusals) -> None:
        record = record[:_SHOWN].rstrip(b"\r\n")
        pieces = self._dialect.values(record) if reason == MALFORMED else [record]
        texts = [piece.decode("utf-8", "surrogateescape") for piece in pieces]
        rejected.add(Refusal(self.path.name, row, reason, detail), texts)


def _spacing(value: bytes) -> int:
    """Return 2 for a space at the start, as after a comma in prose, 1 for one elsewhere, 0 for none."""
    return 2 if value.startswith(b" ") else 1 if b" " in value else 0
