"""The steps of `prepare`: a step maps pairs to pairs, and what it did is counted.

A step that drops or changes pairs is a function, a `Step`: it takes the pairs and `Refuse`, which moves dropped pairs
to the list of refused rows. A step that makes training pairs from judged ones is a `MakingStep`.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

import polars as pl
import pyarrow as pa

from zhichun.data.readers.rejected import Reason, Refusal, RejectedRows
from zhichun.data.readers.table import Table

# A row's place in the frame that was read, its number in the file, and which file that is, of several.
INDEX: Final = "index"
ROW: Final = "row"
SOURCE: Final = "source file"


def read_rows(
    table: Table,
    columns: Mapping[str, str],
    rejected: RejectedRows,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pl.DataFrame:
    """Read rows as they are: the columns as text, `INDEX` and `ROW`; `SOURCE` is 0."""
    parts = [pl.DataFrame(schema={**dict.fromkeys(columns, pl.String), ROW: pl.Int64})]
    for batch in table.batches(columns, rejected):
        parts.append(pl.DataFrame(pl.from_arrow(pa.table({**batch.columns, ROW: batch.rows_N}))))
        progress(batch.done, table.total)
    return pl.concat(parts).with_row_index(INDEX).with_columns(pl.lit(0, pl.UInt8).alias(SOURCE))


class Refuse:
    """Moves rows from a frame to the list of refused rows, and counts them by reason.

    Parameters
    ----------
    raw
        The rows as they were read, for the list; `INDEX` of a frame refers to them.
    rejected
        The list.
    files
        Names of the files that they come from; `SOURCE` refers to them.
    """

    def __init__(self, raw: pl.DataFrame, rejected: RejectedRows, *files: str) -> None:
        self._raw, self._rejected, self._files = raw.drop(INDEX, ROW, SOURCE), rejected, files
        self._source = raw[SOURCE]
        self.dropped: Counter[Reason] = Counter()
        self.noted: dict[str, int] = {}

    def __call__(
        self, frame: pl.DataFrame, condition: pl.Expr | pl.Series, reason: Reason, detail: pl.Expr
    ) -> pl.DataFrame:
        """Drop the rows for which a condition holds, and return the others.

        Parameters
        ----------
        frame
            Rows with `INDEX` and `ROW`.
        condition
            Which to drop. Null on missing values, which drops nothing.
        reason, detail
            One of `zhichun.data.readers.rejected`'s reasons, and the details; it sees the dropped rows
            only.
        """
        refused = frame.select(condition.fill_null(False)).to_series()
        if not refused.any():
            return frame
        gone = frame.filter(refused).with_columns(detail.fill_null("nothing").alias("detail"))
        records = self._raw[gone[INDEX]].iter_rows(named=True)
        sources = self._source[gone[INDEX]]
        for source, row, text, record in zip(sources, gone[ROW], gone["detail"], records, strict=True):
            self._rejected.add(Refusal(self._files[source], row, reason, text), record)
        self.dropped[reason] += len(gone)
        return frame.filter(~refused)

    def note(self, **counts: int) -> None:
        """Count what a step did besides dropping."""
        self.noted.update(counts)


# Takes pairs, and returns them without those that it passes to `Refuse`.
Step = Callable[[pl.DataFrame, Refuse], pl.DataFrame]


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """Training pairs that a step made, and the products that they need.

    Attributes
    ----------
    pairs
        ``example_id`` (of the judged pair it was made of), ``query``, ``product_id``, ``product_locale`` and ``weight``
        (a factor on the judged pair's own).
    products
        The columns of the catalogue; products that the pairs name and the catalogue lacks.
    """

    pairs: pl.DataFrame
    products: pl.DataFrame


class MakingStep(Protocol):
    """Makes training pairs from judged training pairs, which do not change.

    What is made is never validated or tested on. It keeps the label, fold and versions of its judged pair.
    """

    name: ClassVar[str]
    """The step's name in the manifest."""
    origin: ClassVar[str]
    """The value of ``origin`` in everything that it makes."""

    def options(self) -> dict[str, Any]:
        """Return the step's parameters, for the manifest: JSON, without paths and times."""

    def make(self, judged: pl.DataFrame, products: Path, marker: str, progress: Callable[[int, int], None]) -> Made:
        """Make the pairs.

        Parameters
        ----------
        judged
            The judged training pairs, with the columns of ``examples.parquet``.
        products
            The cleaned catalogue, ``products.parquet``.
        marker
            A text that no id of the catalogue contains: a made product is called ``<product_id><marker><anything>``.
        progress
            Called with (done, total).
        """


class Pairs:
    """The pairs between steps, and the counts of each step.

    Parameters
    ----------
    raw
        From `read_rows`.
    unreadable
        Rows that could not be read, by reason.
    rejected, files
        As of `Refuse`.

    Attributes
    ----------
    frame : polars.DataFrame
        The current pairs.
    steps : list of dict
        What the manifest says of each step so far: ``read + made == kept + sum(dropped.values())``, and what it noted.
    dropped : Counter[Reason]
        Dropped judged pairs; steps that make pairs drop only their own.
    """

    def __init__(
        self, raw: pl.DataFrame, unreadable: Mapping[Reason, int], rejected: RejectedRows, *files: str
    ) -> None:
        self.frame, self._raw, self._rejected, self._files = raw, raw, rejected, files
        self.steps: list[dict[str, Any]] = []
        self.dropped: Counter[Reason] = Counter()
        self._count("read", len(raw) + sum(unreadable.values()), unreadable)

    def take(self, name: str, step: Step) -> None:
        """Run one step."""
        read = len(self.frame)
        assert read == self.steps[-1]["kept"], f"pairs were lost before {name}"
        refuse = Refuse(self._raw, self._rejected, *self._files)
        self.frame = step(self.frame, refuse)
        self._count(name, read, refuse.dropped, **refuse.noted)

    def _count(self, step: str, read: int, dropped: Mapping[Reason, int], **noted: int) -> None:
        kept = len(self.frame)
        made = kept + sum(dropped.values()) - read
        assert made >= 0, f"{step} dropped pairs and did not say so"
        counts = {"step": step, "read": read, "made": made, "dropped": dict(sorted(dropped.items())), "kept": kept}
        self.steps.append({**counts, **noted})
        if not made:
            self.dropped.update(dropped)
