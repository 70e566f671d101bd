"""CSV and TSV: regular expressions find the records and refuse what is not strict, pyarrow takes the values out.

An unbalanced quote must cost its own row alone. A quoted field may hold line breaks; but where the lines that it would
take in look like rows of this table themselves, the row that opened the quote is refused, and the others are read.
In TSV a quote is a letter like any other, unless the header itself is quoted.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from zhichun.core.errors import UserError
from zhichun.data.readers.rejected import MALFORMED, OPEN_QUOTE, TOO_LONG, Refusal, Refusals
from zhichun.data.readers.table import MOST_OF_A_ROW, Batch, TextTable, text_batches
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
    """How values are separated and quoted: patterns of what is strict."""

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

    def rows(self, width: int) -> re.Pattern[bytes]:
        """Give the pattern of any number of records on a line each, of so many values."""
        more = rb"(?:%b%b){%d}" % (self._next, self._one, width - 1)
        return re.compile(rb"(?:(?![\r\n])%b%b%b)*+" % (self._one, more, _END))

    def values(self, record: bytes) -> list[bytes]:
        """Split a strict record; quotes stay."""
        return [found[1] for found in self._value.finditer(record.rstrip(b"\r\n") + b"\n")]

    def names(self, record: bytes) -> list[str]:
        """Give the names in a header."""
        texts = [value.decode("utf-8") for value in self.values(record)]
        if self.quoted:
            texts = [text[1:-1].replace('""', '"') if text.startswith('"') else text for text in texts]
        return [text.strip() for text in texts]


class _Found(NamedTuple):
    """What begins at a place: where it ends, and what is wrong with it; a good record has no reason."""

    stop: int
    reason: str = ""
    detail: str = ""


@dataclass
class _Good:
    """Records that are strict, until pyarrow takes their values out."""

    parts: list[bytes] = field(default_factory=list)
    numbers: list[Any] = field(default_factory=list)
    has_breaks: bool = False

    def add(self, data: bytes, first: int, count: int) -> None:
        self.parts.append(data)
        self.numbers.append(np.arange(first, first + count))


class DelimitedTable(TextTable):
    """A file of separated values with a header.

    Parameters
    ----------
    file
        The file.
    tabs
        Whether its name says that tabs separate the values, and quotes mean nothing.
    known
        Names of columns in the form of `fold_name`, by which the separator is told where several could be meant.
    """

    def __init__(self, file: TextFile, *, tabs: bool, known: frozenset[str]) -> None:
        super().__init__(file)
        with file.open() as (stream, _):
            head = stream.read(_MOST_OF_A_HEADER)
        self._sample: list[bytes] = []
        start, self._dialect = self._find_dialect(head, tabs, known)
        found = self._dialect.record.match(head + b"\n", start)
        if found is None:
            raise UserError("the header is not whole", remedy="Close the quotes in it.", file=self.path)
        try:
            self.names = self._dialect.names(found[0])
        except UnicodeDecodeError as error:
            raise UserError(
                "the header is not UTF-8",
                remedy="Save the file as UTF-8; in Excel that is 'CSV UTF-8'.",
                file=self.path,
            ) from error
        if not any(self.names):
            raise UserError("has no header", remedy="Name the columns in the first line.", file=self.path)
        self._start = min(found.end(), len(head))
        self.require_unique_names()

    def _find_dialect(self, head: bytes, tabs: bool, known: frozenset[str]) -> tuple[int, _Dialect]:
        """Tell what separates values by the header, and give where that begins."""
        start = len(head) - len(head.lstrip(b"\r\n"))
        line = re.compile(rb"[^\r\n]*+").match(head, start)
        assert line is not None
        named = re.fullmatch(rb'"?sep=([^\w"])"?[ ,;\t]*', line[0], re.IGNORECASE)
        if named and not tabs:
            self.notes.append(f"names its separator in the first line ({line[0].decode('utf-8', 'replace').strip()!r})")
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
            self.notes.append(f"has values separated by {_NAMES[separator]}, and was read so")
        quoted = separator != b"\t" or not tabs
        if not quoted and all(value.startswith(b'"') for value in line[0].split(separator)):
            self.notes.append("has a quoted header, so its quotes were read as those of a CSV")
            quoted = True
        return start, _Dialect(separator, quoted=quoted)

    def batches(self, columns: Mapping[str, str], rejected: Refusals) -> Iterator[Batch]:
        """Read some columns; see `Table.batches`."""
        yield from self.batches_at({name: self.names.index(column) for name, column in columns.items()}, rejected)

    def batches_at(self, places: Mapping[str, int], rejected: Refusals) -> Iterator[Batch]:
        """Read the columns at some places."""
        for good, done in self._blocks(rejected):
            if good.parts:
                rows_N = np.concatenate(good.numbers)
                yield from text_batches(self.path, rows_N, self._values(good, places, len(rows_N)), done, rejected)

    def _values(self, good: _Good, places: Mapping[str, int], count: int) -> dict[str, Any]:
        """Let pyarrow take the values out of strict records."""
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
                include_columns=wanted,
                column_types=dict.fromkeys(wanted, pa.large_binary()),
                strings_can_be_null=False,
            ),
        )
        assert read.num_rows == count, "pyarrow and the patterns see different rows"
        return {name: read.column(str(place)).combine_chunks() for name, place in places.items()}

    def _blocks(self, rejected: Refusals) -> Iterator[tuple[_Good, int]]:
        """Give good records some MB at a time, with how much of the file was read; refuse the others."""
        clean = self._dialect.rows(len(self.names))
        number, left, last, cut = 0, b"", False, False
        with self.file.open() as (stream, tell):
            stream.read(self._start)
            while not last:
                size = max(BLOCK, len(left))  # Doubled where a record does not end, so that few bytes are read twice.
                more = stream.read(size)
                last = len(more) < size
                block = left + more + (b"\n" if last else b"")
                place, end = 0, max(block.rfind(b"\n"), block.rfind(b"\r")) + 1
                if cut:  # what belongs to a line that was too long
                    found_end = _LINE_END.search(block)
                    place, cut = (len(block), True) if found_end is None else (found_end.end(), False)
                good = _Good()
                while place < end:
                    stop = clean.match(block, place, end).end()  # type: ignore[union-attr]
                    if stop > place:
                        part = block[place:stop]
                        count = part.count(b"\n") + part.count(b"\r") - part.count(b"\r\n")
                        good.add(part, number + 1, count)
                        self._remember(part)
                        number, place = number + count, stop
                        continue
                    found = self._look(block, place, end, force=last or end - place > MOST_OF_A_ROW)
                    if found is None:
                        break
                    if found.reason:
                        number += 1
                        self._refuse(found, number, block[place : found.stop], rejected)
                    elif found.stop > place and block[place : found.stop].strip(b"\r\n"):
                        number += 1
                        good.add(block[place : found.stop], number, 1)
                        good.has_breaks = True
                    place = found.stop
                left = block[place:]
                if len(left) > MOST_OF_A_ROW and end <= place:
                    number += 1
                    detail = f"longer than {MOST_OF_A_ROW >> 20} MiB"
                    self._refuse(_Found(0, TOO_LONG, detail), number, left[:_SHOWN], rejected)
                    left, cut = b"", True
                yield good, tell()

    def _look(self, block: bytes, place: int, end: int, *, force: bool) -> _Found | None:
        """Look at what is no clean record on one line; None where more of the file is needed to tell."""
        dialect, line = self._dialect, _LINE_END.search(block, place, end)
        assert line is not None
        if line.start() == place:
            return _Found(line.end())
        record = dialect.record.match(block, place, end)
        if record is None:
            if not dialect.opened.match(block, place, end):
                return _Found(line.end(), OPEN_QUOTE, "text after a closing quote")
            following = block[line.end() : end]
            if force or self._are_rows(block[place : line.start()], following, closed=False):
                return _Found(line.end(), OPEN_QUOTE, "a quote that is never closed")
            return None
        if record.end() > line.end() and self._are_rows(
            block[place : line.start()], block[line.end() : record.end()], closed=True
        ):
            return _Found(line.end(), OPEN_QUOTE, "a quote that takes in what look like further rows")
        count = len(dialect.values(record[0]))
        if count != len(self.names):
            return _Found(record.end(), MALFORMED, f"{count} values for {len(self.names)} columns")
        return _Found(record.end())

    def _are_rows(self, first: bytes, following: bytes, *, closed: bool) -> bool:
        """Say whether lines that a quote takes in look like rows: half of them at least.

        The lines between the first and the last count one each, and those two together one: at the field's own ends
        the separators of its row are seen too.
        """
        lines, spacings = following.splitlines()[:_LINES_LOOKED_AT], self._spacings()

        def is_row(line: bytes) -> bool:
            values = line.split(self._dialect.separator)
            return len(values) == len(spacings) and all(map(int.__le__, map(_spacing, values), spacings))

        if not closed:
            return len(lines) >= _FEW and 2 * sum(map(is_row, lines)) >= len(lines)
        *between, final = lines
        rows = sum(map(is_row, between)) + (is_row(first) and is_row(final))
        return 2 * rows >= len(between) + 1

    def _spacings(self) -> Sequence[int]:
        """Give what spaces the values of each column had so far; ids have none, and in prose one follows a comma."""
        rows = [line.split(self._dialect.separator) for line in self._sample if b'"' not in line]
        if len(rows) < _FEW:
            return [1] * len(self.names)
        return [max(map(_spacing, column)) for column in zip(*rows, strict=True)]

    def _remember(self, part: bytes) -> None:
        wanted = _LINES_LOOKED_AT - len(self._sample)
        if wanted > 0:
            self._sample += part.splitlines()[:wanted]

    def _refuse(self, found: _Found, row: int, record: bytes, rejected: Refusals) -> None:
        record = record[:_SHOWN].rstrip(b"\r\n")
        pieces = self._dialect.values(record) if found.reason == MALFORMED else [record]
        texts = [piece.decode("utf-8", "surrogateescape") for piece in pieces]
        rejected.add(Refusal(self.path.name, row, found.reason, found.detail), texts)


def _spacing(value: bytes) -> int:
    """Give 2 for a space at the start, as after a comma in prose, 1 for one elsewhere, 0 for none."""
    return 2 if value.startswith(b" ") else 1 if b" " in value else 0
