"""Tables in text files: CSV, TSV and JSON Lines, also compressed with gzip.

Rows are read one by one, with bytes that are no UTF-8 as lone surrogates, so that a broken row costs only itself.
"""

import csv
import gzip
import io
import json
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, ClassVar, Final, NamedTuple

import numpy as np

from zhichun.core.errors import UserError
from zhichun.data.readers.rejected import MALFORMED, Refusal, RejectedRows
from zhichun.data.readers.table import BATCH_ROWS, Batch, Table, decode_texts, is_encodable
from zhichun.text.fold import number_text

GZIP: Final = ".gz"


class Row(NamedTuple):
    """One row as it stands in the file.

    Attributes
    ----------
    number
        Its number.
    values
        Its values, in the order that was asked for; the raw pieces where it is malformed.
    problem
        What is wrong with it; empty where nothing is.
    """

    number: int
    values: Sequence[str | None]
    problem: str = ""


class TextTable(Table):
    """A table in a text file; a format says how its rows are read."""

    _newline: ClassVar[str] = ""

    def __init__(self, path: Path) -> None:
        self.path, self.total = path, path.stat().st_size
        with _naming_damage(path):
            self.names = self._read_names()

    @abstractmethod
    def _read_names(self) -> list[str]:
        """Find the columns."""

    @abstractmethod
    def _rows(self, stream: IO[str], names: Sequence[str]) -> Iterator[Row]:
        """Read each row's values of the named columns."""

    def batches(self, columns: Mapping[str, str], rejected: RejectedRows) -> Iterator[Batch]:
        """Read some columns; see `Table.batches`."""
        numbers: list[int] = []
        values: list[Sequence[str | None]] = []
        with _naming_damage(self.path), self.path.open("rb") as raw, self._text(raw) as stream:
            for row in self._rows(stream, list(columns.values())):
                if row.problem:
                    pieces = [value or "" for value in row.values]
                    rejected.add(Refusal(self.path.name, row.number, MALFORMED, row.problem), pieces)
                    continue
                numbers.append(row.number)
                values.append(row.values)
                if len(numbers) == BATCH_ROWS:
                    yield self._batch(numbers, values, columns, raw.tell(), rejected)
                    numbers, values = [], []
        yield self._batch(numbers, values, columns, self.total, rejected)

    def _batch(
        self,
        numbers: list[int],
        values: list[Sequence[str | None]],
        columns: Mapping[str, str],
        done: int,
        rejected: RejectedRows,
    ) -> Batch:
        texts = {field: [row[index] for row in values] for index, field in enumerate(columns)}
        return decode_texts(self.path, np.array(numbers, np.int64), texts, done, rejected)

    def _text(self, raw: IO[bytes]) -> IO[str]:
        stream = gzip.GzipFile(fileobj=raw) if self.path.suffix.lower() == GZIP else raw
        # utf-8-sig: Excel puts a byte order mark before the first column's name.
        return io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline=self._newline)


class CsvTable(TextTable):
    """A file of comma-separated values with a header."""

    suffixes: ClassVar[tuple[str, ...]] = (".csv",)
    _separator: ClassVar[str] = ","

    def _read_names(self) -> list[str]:
        with self.path.open("rb") as raw, self._text(raw) as stream:
            names = next(csv.reader(stream, delimiter=self._separator), [])
        if not is_encodable("".join(names)):
            raise UserError("the header is not UTF-8", remedy="Save the file as UTF-8.", file=self.path)
        return [name.strip() for name in names]

    def _rows(self, stream: IO[str], names: Sequence[str]) -> Iterator[Row]:
        reader = csv.reader(stream, delimiter=self._separator)
        next(reader)
        wanted = [self.names.index(name) for name in names]
        number = 0
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:  # A quote that is never closed: the reader goes on after the limit of a field.
                number += 1
                yield Row(number, [], str(error))
                continue
            if row is None:
                return
            if not row:
                continue
            number += 1
            if len(row) == len(self.names):
                yield Row(number, [row[index] for index in wanted])
            else:
                yield Row(number, row, f"{len(row)} values for {len(self.names)} columns")


class TsvTable(CsvTable):
    """A file of tab-separated values with a header."""

    suffixes = (".tsv", ".tab")
    _separator = "\t"


class JsonLinesTable(TextTable):
    """A file with one JSON object a line; a list of strings becomes one text, its items on lines of their own."""

    suffixes = (".jsonl", ".ndjson")
    _newline = "\n"

    def _read_names(self) -> list[str]:
        names: dict[str, None] = {}
        with self.path.open("rb") as raw, self._text(raw) as stream:
            for line in stream:
                record = _parse(line)
                if isinstance(record, dict):
                    names.update(dict.fromkeys(record))
        return list(names)

    def _rows(self, stream: IO[str], names: Sequence[str]) -> Iterator[Row]:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            record = _parse(line)
            if not isinstance(record, dict):
                yield Row(number, [line.rstrip("\n")], "not a JSON object")
                continue
            try:
                values = [_json_text(record.get(name)) for name in names]
            except TypeError as error:
                yield Row(number, [line.rstrip("\n")], str(error))
                continue
            yield Row(number, values)


def _parse(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _json_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        return number_text(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return "\n".join(_json_text(item) or "" for item in value)
    raise TypeError("a value is an object, not text")


@contextmanager
def _naming_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(
            "is not a whole gzip file", remedy="Copy or compress it again, or drop the '.gz'.", file=path
        ) from error
