"""The list of refused rows, with reasons."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self

import pyarrow as pa
import pyarrow.parquet as pq

from zhichun.core.errors import UserError

REJECTED_FILE: Final = "rejected.parquet"
REJECTED_SCHEMA: Final = pa.schema(
    [
        ("file", pa.string()),
        ("row", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("record", pa.string()),
    ]
)

BROKEN_UTF8: Final = "broken UTF-8"
MALFORMED: Final = "malformed row"
OPEN_QUOTE: Final = "unbalanced quote"
TOO_LONG: Final = "row too long"
NO_OBJECT: Final = "not a JSON object"
NO_TEXT: Final = "value is no text"
BAD_NUMBER: Final = "not a number"
MISSING_ID: Final = "missing product id"
DUPLICATE_PRODUCT: Final = "duplicate product id"
EMPTY_QUERY: Final = "empty query"
UNKNOWN_LABEL: Final = "unknown label"
UNKNOWN_SPLIT: Final = "unknown split"
NO_PRODUCT: Final = "no such product"
TWO_LABELS: Final = "two labels for one pair"
ONE_JUDGE_TWO_LABELS: Final = "two labels by one judge"
NO_EXAMPLE: Final = "no such example"
NOT_TRAINING: Final = "not a training example"
# These are counted and listed but are nobody's mistake: they never make `prepare` fail.
NOT_JUDGED: Final = "not judged"
ONE_OF_SEVERAL: Final = "one of several judgements"
DUPLICATE: Final = "duplicate"
LEAKAGE: Final = "query in test too"
# Only of lists of pairs to be corrected.
VALIDATION: Final = "a validation example"
# Only of pairs that a step made.
OTHER_FOLD: Final = "query in another fold"
VALIDATED: Final = "made of a validation query"
MADE_TWO_LABELS: Final = "made with two labels"
HARMLESS: Final = frozenset(
    {NOT_JUDGED, ONE_OF_SEVERAL, DUPLICATE, LEAKAGE, VALIDATION, OTHER_FOLD, VALIDATED, MADE_TWO_LABELS}
)

_REMEDIES: Final[Mapping[str, str]] = {
    BROKEN_UTF8: "Save the file as UTF-8. In Excel that is 'CSV UTF-8'; Latin-1 and others cannot be told apart.",
    MALFORMED: "Check the separators: a value that holds one stands in quotes.",
    OPEN_QUOTE: "Close the quote, or double a quote that belongs to the text; a text whose lines look like rows of the "
    "table must be given as JSON Lines or Parquet.",
    TOO_LONG: "Shorten it.",
    NO_OBJECT: "Write one JSON object on each line.",
    NO_TEXT: "Give a text, a number or a list of texts.",
    BAD_NUMBER: "A weight is a number from 0, such as 0.5; a version is 0 or 1.",
    DUPLICATE_PRODUCT: "Keep one row for each product and locale; variants of a product need ids of their own.",
    EMPTY_QUERY: "Fill the query in.",
    UNKNOWN_LABEL: "Map your grades with labels={'3': 'E', '2': 'S', …} (--labels 3=E,2=S,…); one that means "
    "'not judged' is mapped to skip.",
    TWO_LABELS: "Keep one of them, or aggregate several judges with judges='majority' (--judges majority), mean "
    "or distribution.",
    ONE_JUDGE_TWO_LABELS: "Keep one judgement of each judge.",
    UNKNOWN_SPLIT: "A split is 'train' or 'test'.",
    NO_PRODUCT: "Check that both files write ids and locales alike; locale=… is for files without a locale column.",
    NO_EXAMPLE: "List ids of the examples.parquet of a dataset made of the same files, each id in one list only.",
    NOT_TRAINING: "Labels are corrected in training alone; the test pairs stay as they are.",
}
_SHOWN = 5
_FLUSH_ROWS = 20_000
Record = Mapping[str, str | None] | Sequence[str]


class Refusal(NamedTuple):
    """One refused row.

    Attributes
    ----------
    file
        Name of the file.
    row
        Its data row, from 1 (for JSON Lines and TREC files: the line).
    reason, detail
        One of this module's reasons, and the details.
    """

    file: str
    row: int
    reason: str
    detail: str


class Refusals(Protocol):
    """Collects refused rows."""

    def add(self, refusal: Refusal, record: Record) -> None:
        """Add one row: where and why, and its values by column, or raw pieces if it could not be split."""


class FirstRefusal:
    """Raises an error at the first invalid row."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, refusal: Refusal, record: Record) -> None:
        """Raise a `UserError`."""
        problem = f"{refusal.reason} ({refusal.detail})"
        raise UserError(problem, file=self._path, row=refusal.row, remedy=_REMEDIES.get(refusal.reason, ""))


class RejectedRows:
    """Counts refused rows by reason and writes them to a Parquet file as they come, in bounded memory.

    Parameters
    ----------
    path
        The file to write; it is there, possibly empty, once this is closed.

    Attributes
    ----------
    counts : Counter[str]
        Rows by reason.
    """

    def __init__(self, path: Path) -> None:
        self.counts: Counter[str] = Counter()
        self._first: list[Refusal] = []
        self._pending: list[tuple[str, int, str, str, str]] = []
        self._writer = pq.ParquetWriter(path, REJECTED_SCHEMA, compression="zstd")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def bad(self) -> int:
        """Number of rows to correct or drop."""
        return sum(count for reason, count in self.counts.items() if reason not in HARMLESS)

    def add(self, refusal: Refusal, record: Record) -> None:
        """Add one row to the list; see `Refusals`."""
        self.counts[refusal.reason] += 1
        if refusal.reason not in HARMLESS and len(self._first) < _SHOWN:
            self._first.append(refusal)
        self._pending.append((refusal.file, refusal.row, refusal.reason, _encodable(refusal.detail), _as_json(record)))
        if len(self._pending) >= _FLUSH_ROWS:
            self._flush()

    def close(self) -> None:
        """Write what is left and complete the file."""
        self._flush()
        self._writer.close()

    def failure(self, listed_in: Path | None = None) -> UserError:
        """Build the error: the count by reason, the first rows, the file with all of them, and remedies."""
        reasons = [(reason, count) for reason, count in self.counts.most_common() if reason not in HARMLESS]
        lines = [f"{_rows(self.bad)} cannot be used: " + self.said()]
        lines += [f"  {each.file}, row {each.row}: {each.reason} ({each.detail})" for each in self._first]
        remedies = [_REMEDIES[reason] for reason, _ in reasons if reason in _REMEDIES]
        if listed_in is not None:
            remedies.append(f"All of them are in {listed_in}.")
        remedies.append('Correct them, or leave them out with on_bad_rows="drop" (--on-bad-rows drop).')
        return UserError("\n".join(lines), remedy="\n".join(remedies))

    def said(self) -> str:
        """Describe the refused rows by reason, for the user."""
        return ", ".join(f"{n:,} × {reason}" for reason, n in self.counts.most_common() if reason not in HARMLESS)

    def _flush(self) -> None:
        if self._pending:
            columns = [list(column) for column in zip(*self._pending, strict=True)]
            self._writer.write_table(pa.table(columns, schema=REJECTED_SCHEMA))
            self._pending.clear()


def _rows(count: int) -> str:
    return f"{count:,} rows" if count != 1 else "1 row"


def _as_json(record: Record) -> str:
    if isinstance(record, Mapping):
        values: Any = {name: value and _encodable(value) for name, value in record.items()}
    else:
        values = [_encodable(value) for value in record]
    return json.dumps(values, ensure_ascii=False)


def _encodable(text: str) -> str:
    """Write bytes that are not UTF-8, which were read as surrogates, in hexadecimal."""
    if text.isascii():
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")
