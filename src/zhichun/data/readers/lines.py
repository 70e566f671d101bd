"""Tables of lines: JSON Lines (also one JSON array of objects, which many exports are), and TREC qrels.

A list of strings in JSON becomes one text with one line per item.
"""

import codecs
import json
import re
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from zhichun.core.errors import UserError
from zhichun.data.readers.rejected import MALFORMED, NO_OBJECT, NO_TEXT, NO_TOPIC, TOO_LONG, Reason, Refusal, Refusals
from zhichun.data.readers.table import BATCH_ROWS, MOST_OF_A_ROW, Batch, TextTable, decode_texts
from zhichun.data.readers.text_file import TextFile

_SHOWN: Final = 2000
_BLOCK: Final = 1 << 20
_CUT: Final = "…"
_GAP: Final = re.compile(r"[\s,]*")
_WHOLE: Final = re.compile(r"(-?\d+)\.0+")


class _RefusedError(Exception):
    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class LineTable(TextTable):
    """A table whose rows are lines; subclasses parse a line."""

    @abstractmethod
    def _values(self, line: str, names: Sequence[str]) -> Sequence[str | None]:
        """Read the named values of a line."""

    def batches(self, columns: Mapping[str, str], rejected: Refusals, rows: int = BATCH_ROWS) -> Iterator[Batch]:
        """Read some columns; see `Table.batches`."""
        numbers: list[int] = []
        values: list[Sequence[str | None]] = []
        held = 0

        def batch(done: int) -> Batch:
            texts = {name: [row[place] for row in values] for place, name in enumerate(columns)}
            return decode_texts(self.path, np.array(numbers, np.int64), texts, done, rejected)

        for number, line, done in self._lines():
            try:
                row = self._values(line, list(columns.values()))
            except _RefusedError as error:
                shown = line.rstrip("\r\n")[:_SHOWN]
                rejected.add(Refusal(self.path.name, number, error.reason, str(error)), [shown])
                continue
            numbers.append(number)
            values.append(row)
            held += len(line)
            if len(numbers) == rows or held > MOST_OF_A_ROW:
                yield batch(done)
                numbers, values, held = [], [], 0
        if numbers:
            yield batch(self.total)

    def _lines(self) -> Iterator[tuple[int, str, int]]:
        """Yield each non-blank line with its number, and how much was read; a line that is too long is truncated."""
        with self.file.open() as (stream, tell):
            number = 0
            while line := stream.readline(MOST_OF_A_ROW):
                number += 1
                text = _CUT if len(line) == MOST_OF_A_ROW else line.decode("utf-8", "surrogateescape")
                while len(line) == MOST_OF_A_ROW and not line.endswith(b"\n"):
                    line = stream.readline(MOST_OF_A_ROW)
                if text.strip():
                    yield number, text, tell()


class JsonTable(LineTable):
    """A file of JSON objects, one per line or in one array.

    Attributes
    ----------
    kept
        Columns in which an object becomes its JSON, since nothing reads them; in others it is no text.
    """

    kept: Collection[str] = ()

    def __init__(self, file: TextFile) -> None:
        super().__init__(file)
        self._is_array = _begins_array(file.head.strip())
        if self._is_array:
            self.notes.append("holds one JSON array, and its objects were read as rows")

    @cached_property
    def names(self) -> Sequence[str]:  # type: ignore[override]
        """The keys of all objects: the whole file is read for them, unless they are set."""
        names: dict[str, None] = {}
        for _, line, _ in self._lines():
            with suppress(_RefusedError):
                names.update(dict.fromkeys(_parse(line)))
        self.names = list(names)
        self.require_unique_names()
        return self.names

    def _values(self, line: str, names: Sequence[str]) -> Sequence[str | None]:
        record = _parse(line)
        try:
            return [_text(record.get(name), name, kept=name in self.kept) for name in names]
        except RecursionError as error:
            raise _RefusedError(NO_TEXT, "lists within lists") from error

    def _lines(self) -> Iterator[tuple[int, str, int]]:
        return self._items() if self._is_array else super()._lines()

    def _items(self) -> Iterator[tuple[int, str, int]]:
        """Yield the items of an array, holding one item in memory."""
        decoder = json.JSONDecoder(parse_int=str)  # which may have any number of digits
        with self.file.open() as (stream, tell):
            read = codecs.getreader("utf-8")(stream, "surrogateescape").read
            text, place, number = read(_BLOCK).lstrip(), 1, 0
            while True:
                place = _GAP.match(text, place).end()  # type: ignore[union-attr]
                if text.startswith("]", place):
                    break
                try:
                    _, end = decoder.raw_decode(text, place)
                except (ValueError, RecursionError) as error:  # which more of the file may mend
                    text, place = text[place:], 0
                    more = read(max(_BLOCK, len(text)))
                    if not more or len(text) > MOST_OF_A_ROW:
                        raise self._broken(number + 1, f"is not a complete JSON array ({error})") from error
                    text += more
                    continue
                number += 1
                yield number, text[place:end], tell()
                place = end
            if text[place + 1 :].strip() or read(_BLOCK).strip():
                raise self._broken(number, "has text after its JSON array")

    def _broken(self, number: int, problem: str) -> UserError:
        return UserError(problem, remedy="Write one JSON object on each line.", file=self.path, row=number)


class QrelsTable(LineTable):
    """Judgements in the TREC format, ``qid 0 docid grade``, with the query texts from a file of topics.

    Parameters
    ----------
    file
        The qrels.
    topics
        Query texts by id; see `read_topics`. Judgements of other queries are refused.
    """

    names = ("query_id", "product_id", "label", "query")

    def __init__(self, file: TextFile, topics: Mapping[str, str]) -> None:
        super().__init__(file)
        self._topics = topics

    def _values(self, line: str, names: Sequence[str]) -> Sequence[str | None]:
        parts = line.split()
        if len(parts) != 4:
            raise _RefusedError(MALFORMED, f"{len(parts)} values where a judgement has 4")
        qid, _, docid, grade = parts
        if qid not in self._topics:
            raise _RefusedError(NO_TOPIC, f"query_id {qid!r}")
        values = dict(zip(self.names, (qid, docid, grade, self._topics[qid]), strict=True))
        return [values[name] for name in names]


class RunTable(LineTable):
    """A ranking in the TREC format, ``qid Q0 docid rank score tag``.

    Parameters
    ----------
    file
        The run file.
    topics
        Query texts by id; ``None`` leaves the ids to stand for themselves.
    """

    suffixes: Final = (".run", ".trec")
    names = ("query_id", "query", "product_id", "score")

    def __init__(self, file: TextFile, topics: Mapping[str, str] | None) -> None:
        super().__init__(file)
        self._topics = topics or {}

    def _values(self, line: str, names: Sequence[str]) -> Sequence[str | None]:
        parts = line.split()
        if len(parts) != 6:
            raise _RefusedError(MALFORMED, f"{len(parts)} values where a line of a run has 6")
        values = dict(zip(self.names, (parts[0], self._topics.get(parts[0]), parts[2], parts[4]), strict=True))
        return [values[name] for name in names]


def read_topics(path: Path) -> dict[str, str]:
    """Read query texts by id: one ``qid<TAB>query`` a line, without a header."""
    topics: dict[str, str] = {}
    for number, line in TextFile(path).lines():
        qid, tab, query = line.partition("\t")
        if not line.strip():
            continue
        if not tab:
            remedy = "Write an id, a tab and the query on a line."
            raise UserError("has no tab", remedy=remedy, file=path, row=number)
        if topics.setdefault(qid.strip(), query) != query:
            raise UserError(f"a second text for query {qid!r}", remedy="Keep one of them.", file=path, row=number)
    return topics


def _begins_array(head: bytes) -> bool:
    """Return whether the file is one array of rows, and not lines that are arrays."""
    line, _, more = head.partition(b"\n")
    try:
        return head.startswith(b"[") and not (more and json.loads(line))
    except ValueError:
        return True


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise _RefusedError(MALFORMED, "a key is there twice")
    return record


class _Digits(str):
    """A number as it was written."""


def _number(text: str) -> _Digits:
    """Write a number unchanged, but 3.0 as ``3``: digits beyond a float's are kept."""
    whole = _WHOLE.fullmatch(text)
    return _Digits(whole[1] if whole else text)


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_Digits, parse_float=_number, parse_constant=lambda name: None
)


def _parse(line: str) -> dict[str, Any]:
    if line == _CUT:
        raise _RefusedError(TOO_LONG, f"longer than {MOST_OF_A_ROW >> 20} MiB")
    try:
        record = _DECODER.decode(line.strip())
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise _RefusedError(NO_OBJECT, "not a JSON object")
    return record


def _text(value: Any, name: str, *, kept: bool) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "\n".join(_text(item, name, kept=kept) or "" for item in value)
    if kept:
        return _json(value)
    raise _RefusedError(NO_TEXT, f"the value of {name!r} is an object")


def _json(value: Any) -> str:
    """Write what was parsed as JSON again, with the digits that numbers had."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_json(key)}: {_json(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_json, value))}]"
    return value if isinstance(value, _Digits) else json.dumps(value, ensure_ascii=False)
