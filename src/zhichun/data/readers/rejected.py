"""Why rows are refused, what to do about it, and the list of those that were."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Protocol, Self, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from zhichun.core.errors import UserError, suggest

REJECTED_FILE: Final = "rejected.parquet"
_TEXT: Final = pa.string()
_SCHEMA: Final = pa.schema({"file": _TEXT, "row": pa.int64(), "reason": _TEXT, "detail": _TEXT, "record": _TEXT})
OnBadRows = Literal["fail", "drop"]
Say = Callable[[str], None]


class Reason(str):
    """Why a row is refused.

    Attributes
    ----------
    remedy
        What to do about it.
    harmless
        Counted and listed, but nobody's mistake: it never makes `prepare` fail.
    """

    remedy: str
    harmless: bool

    def __new__(cls, text: str, remedy: str = "", *, harmless: bool = False) -> Self:
        """Make a text that knows what to do."""
        reason = super().__new__(cls, text)
        reason.remedy, reason.harmless = remedy, harmless
        return reason


BROKEN_UTF8: Final = Reason(
    "broken UTF-8", "Save the file as UTF-8. In Excel that is 'CSV UTF-8'; Latin-1 and others cannot be told apart."
)
MALFORMED: Final = Reason("malformed row", "Check the separators: a value that holds one stands in quotes.")
OPEN_QUOTE: Final = Reason(
    "unbalanced quote",
    "Close the quote, or double a quote that belongs to the text; a text whose lines look like rows of the table must "
    "be given as JSON Lines or Parquet.",
)
TOO_LONG: Final = Reason("row too long", "Shorten it.")
NO_OBJECT: Final = Reason("not a JSON object", "Write one JSON object on each line.")
NO_TEXT: Final = Reason("value is no text", "Give a text, a number or a list of texts.")
BAD_NUMBER: Final = Reason("not a number", "A weight is a number from 0, such as 0.5; a version is 0 or 1.")
MISSING_ID: Final = Reason("missing product id")
DUPLICATE_PRODUCT: Final = Reason(
    "duplicate product id", "Keep one row for each product and locale; variants of a product need ids of their own."
)
EMPTY_QUERY: Final = Reason("empty query", "Fill the query in.")
NO_TOPIC: Final = Reason("query not in the topics", "Add the query's id and text to the file of topics.")
UNKNOWN_LABEL: Final = Reason(
    "unknown label",
    "Map your grades with labels={'3': 'E', '2': 'S', …} (--labels 3=E,2=S,…); one that means 'not judged' is mapped "
    "to skip.",
)
UNKNOWN_SPLIT: Final = Reason("unknown split", "A split is 'train' or 'test'.")
NO_PRODUCT: Final = Reason(
    "no such product",
    "Check that both files write ids and locales alike; locale=… is for files without a locale column.",
)
TWO_LABELS: Final = Reason(
    "two labels for one pair",
    "Keep one of them, or aggregate several judges with judges='majority' (--judges majority), mean or distribution.",
)
ONE_JUDGE_TWO_LABELS: Final = Reason("two labels by one judge", "Keep one judgement of each judge.")
NO_EXAMPLE: Final = Reason(
    "no such example", "List ids of the examples.parquet of a dataset made of the same files, each id in one list only."
)
NOT_TRAINING: Final = Reason(
    "not a training example", "Labels are corrected in training alone; the test pairs stay as they are."
)
PREDICTED: Final = Reason(
    "predicted by a model, not judged",
    "A run has learnt the labels of the pairs that it was trained on, and judges them no second time: leave out its "
    "predictions of pairs that the examples judge.",
)
OF_TEST_QUERY: Final = Reason("further judgement of a test query", harmless=True)
NOT_JUDGED: Final = Reason("not judged", harmless=True)
ONE_OF_SEVERAL: Final = Reason("one of several judgements", harmless=True)
DUPLICATE: Final = Reason("duplicate", harmless=True)
LEAKAGE: Final = Reason("query in test too", harmless=True)
# Only of pairs to be scored.
LONG_LIST: Final = Reason("list too long", "Choose candidates first, such as the best 100 by BM25.")
NO_SCORE: Final = Reason("score is not a number", "Try another engine; if it stays so, the model is damaged.")
# Only of lists of pairs to be corrected.
VALIDATION: Final = Reason("a validation example", harmless=True)
# Only of pairs that a step made.
OTHER_FOLD: Final = Reason("query in another fold", harmless=True)
VALIDATED: Final = Reason("made of a validation query", harmless=True)
MADE_TWO_LABELS: Final = Reason("made with two labels", harmless=True)

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
    reason: Reason
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
        raise UserError(problem, file=self._path, row=refusal.row, remedy=refusal.reason.remedy)


class RejectedRows:
    """Counts refused rows by reason and writes them to a Parquet file as they come, in bounded memory.

    Parameters
    ----------
    path
        The file to write; it is there, possibly empty, once this is closed. ``None`` only counts.

    Attributes
    ----------
    counts : Counter[Reason]
        Rows by reason.
    """

    def __init__(self, path: Path | None) -> None:
        self.counts: Counter[Reason] = Counter()
        self._first: list[Refusal] = []
        self._pending: list[tuple[str, int, str, str, str]] = []
        self._writer = None if path is None else pq.ParquetWriter(path, _SCHEMA, compression="zstd")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Write what is left and complete the file."""
        self._flush()
        if self._writer is not None:
            self._writer.close()

    @property
    def bad(self) -> int:
        """Number of rows to correct or drop."""
        return sum(count for reason, count in self.counts.items() if not reason.harmless)

    def add(self, refusal: Refusal, record: Record) -> None:
        """Add one row to the list; see `Refusals`."""
        self.counts[refusal.reason] += 1
        if not refusal.reason.harmless and len(self._first) < _SHOWN:
            self._first.append(refusal)
        self._pending.append((refusal.file, refusal.row, refusal.reason, _encodable(refusal.detail), _as_json(record)))
        if len(self._pending) >= _FLUSH_ROWS:
            self._flush()

    def failure(self, listed_in: Path | None = None) -> UserError:
        """Build the error: the count by reason, the first rows, the file with all of them, and remedies."""
        lines = [f"{self.bad:,} row{'s' * (self.bad != 1)} cannot be used: {self.said()}"]
        lines += [f"  {each.file}, row {each.row}: {each.reason} ({each.detail})" for each in self._first]
        remedies = [reason.remedy for reason, _ in self.counts.most_common() if reason.remedy]
        if listed_in is not None:
            remedies.append(f"All of them are in {listed_in}.")
        remedies.append('Correct them, or leave them out with on_bad_rows="drop" (--on-bad-rows drop).')
        return UserError("\n".join(lines), remedy="\n".join(remedies))

    def said(self) -> str:
        """Describe the refused rows by reason, for the user."""
        return ", ".join(f"{n:,} × {reason}" for reason, n in self.counts.most_common() if not reason.harmless)

    def _flush(self) -> None:
        if self._pending and self._writer is not None:
            columns = [list(column) for column in zip(*self._pending, strict=True)]
            self._writer.write_table(pa.table(columns, schema=_SCHEMA))
        self._pending.clear()


def check_on_bad_rows(given: str) -> None:
    """Refuse what is neither ``fail`` nor ``drop``."""
    if given not in get_args(OnBadRows):
        raise UserError(f"on_bad_rows={given!r} means nothing", remedy=suggest(given, get_args(OnBadRows)))


def silent(line: str) -> None:
    """Say nothing."""


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
