"""The interface of the steps of `prepare`: a step maps pairs to pairs, and counts what it did.

A step that drops or changes pairs is a `Step`: it is called with the pairs and with `Refuse`, which moves
dropped pairs to the list of refused rows. A step that makes training pairs from judged ones is a `MakingStep`.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import polars as pl

from zhichun.data.readers.rejected import Refusal, RejectedRows

# A pair's place in the file, as read, and the number of its row.
INDEX: Final = "index"
ROW: Final = "row"


@dataclass(frozen=True, kw_only=True)
class StepCounts:
    """Counts of a step: ``read + made == kept + dropped``.

    Attributes
    ----------
    step
        Its name.
    read
        Input pairs.
    made
        New pairs, in addition to the input.
    dropped
        Dropped pairs, by reason.
    noted
        Other counts, such as the pairs with a changed label.
    """

    step: str
    read: int
    made: int = 0
    dropped: Mapping[str, int]
    noted: Mapping[str, int] = field(default_factory=dict)

    @property
    def kept(self) -> int:
        """Output pairs; the next step reads as many."""
        return self.read + self.made - sum(self.dropped.values())

    def to_json(self) -> dict[str, Any]:
        """Return the entry in the manifest."""
        dropped = dict(sorted(self.dropped.items()))
        counts = {"step": self.step, "read": self.read, "made": self.made, "dropped": dropped, "kept": self.kept}
        return {**counts, **self.noted}


class Refuse:
    """Moves pairs from a frame to the list of refused rows, and counts them by reason.

    Parameters
    ----------
    raw
        The raw pairs, for the list; `INDEX` of a frame refers to its rows.
    rejected
        The list.
    file
        Name of the file that they come from.
    """

    def __init__(self, raw: pl.DataFrame, rejected: RejectedRows, file: str) -> None:
        self._raw, self._rejected, self._file = raw.drop(ROW), rejected, file
        self.dropped: Counter[str] = Counter()
        self.noted: dict[str, int] = {}

    def __call__(self, frame: pl.DataFrame, condition: pl.Expr, reason: str, detail: pl.Expr) -> pl.DataFrame:
        """Drop the pairs for which a condition holds, and return the others.

        Parameters
        ----------
        frame
            Pairs with `INDEX` and `ROW`.
        condition
            Which to drop. Null on missing values, which drops nothing.
        reason, detail
            One of `zhichun.data.readers.rejected`'s reasons, and the details; it sees the dropped pairs
            only.
        """
        refused = frame.select(condition.fill_null(False)).to_series()
        if not refused.any():
            return frame
        gone = frame.filter(refused).with_columns(detail.fill_null("nothing").alias("detail"))
        records = self._raw[gone[INDEX]].iter_rows(named=True)
        for row, text, record in zip(gone[ROW], gone["detail"], records, strict=True):
            self._rejected.add(Refusal(self._file, row, reason, text), record)
        self.dropped[reason] += len(gone)
        return frame.filter(~refused)

    def note(self, **counts: int) -> None:
        """Count what a step did besides dropping."""
        self.noted.update(counts)


class Step(Protocol):
    """Returns the pairs, without those that it passes to ``refuse``."""

    @property
    def name(self) -> str:
        """The step's name in the manifest."""

    def __call__(self, frame: pl.DataFrame, refuse: Refuse) -> pl.DataFrame:
        """Take the pairs."""


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

    @property
    def name(self) -> str:
        """The step's name in the manifest."""

    @property
    def origin(self) -> str:
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

    Attributes
    ----------
    frame : polars.DataFrame
        The current pairs.
    counts : list of StepCounts
        One for each step so far, in order.
    """

    def __init__(self, raw: pl.DataFrame, unreadable: Mapping[str, int], refuse: Refuse) -> None:
        self.frame, self._refuse = raw, refuse
        read = len(raw) + sum(unreadable.values())
        self.counts = [StepCounts(step="read", read=read, dropped=unreadable)]

    def take(self, step: Step) -> None:
        """Run one step."""
        refuse, read = self._refuse, len(self.frame)
        refuse.dropped, refuse.noted = Counter(), {}
        frame = step(self.frame, refuse)
        made = len(frame) + refuse.dropped.total() - read
        assert read == self.counts[-1].kept, f"pairs were lost before {step.name}"
        assert made >= 0, f"{step.name} dropped pairs and did not say so"
        counts = StepCounts(step=step.name, read=read, made=made, dropped=refuse.dropped, noted=refuse.noted)
        self.frame = frame
        self.counts.append(counts)

    @property
    def dropped(self) -> Counter[str]:
        """Dropped judged pairs, by reason; making steps drop only their own pairs."""
        return sum((Counter(step.dropped) for step in self.counts if not step.made), Counter())
