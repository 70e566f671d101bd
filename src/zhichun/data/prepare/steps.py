"""What a step of `prepare` is: it takes the pairs and gives them back, fewer or more, and what it did is counted.

A step that drops pairs is a function of the pairs and of `Refuse`, which takes what it drops onto the list of refused
rows. A step that makes training pairs out of judged ones is a `MakingStep`.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from zhichun.data.prepare.pair_values import INDEX, ROW
from zhichun.data.readers.rejected import Refusal, RejectedRows


@dataclass(frozen=True, kw_only=True)
class StepCounts:
    """What a step did: ``read + made == kept + all that was dropped``.

    Attributes
    ----------
    step
        Its name.
    read
        Pairs that came in.
    made
        Pairs that it made of them; those come in addition.
    dropped
        Pairs that did not come out, by reason.
    changed
        Pairs that came out with another label.
    """

    step: str
    read: int
    made: int = 0
    dropped: Mapping[str, int]
    changed: int | None = None

    @property
    def kept(self) -> int:
        """Pairs that came out; the next step reads as many."""
        return self.read + self.made - sum(self.dropped.values())

    def to_json(self) -> dict[str, Any]:
        """Give the entry in the manifest."""
        dropped = dict(sorted(self.dropped.items()))
        counts = {"step": self.step, "read": self.read, "made": self.made, "dropped": dropped, "kept": self.kept}
        return counts if self.changed is None else {**counts, "changed": self.changed}


class Refuse:
    """Moves pairs from a frame to the list of refused rows.

    Parameters
    ----------
    raw
        The pairs as they stand in the file, for the list; `INDEX` of a frame counts in it.
    rejected
        The list.
    file
        Name of the file that they come from.

    Attributes
    ----------
    dropped : Counter[str]
        How many pairs were moved, by reason.
    """

    def __init__(self, raw: pl.DataFrame, rejected: RejectedRows, file: str) -> None:
        self._raw, self._rejected, self._file = raw.drop(ROW), rejected, file
        self.dropped: Counter[str] = Counter()

    def __call__(self, frame: pl.DataFrame, condition: pl.Expr, reason: str, detail: pl.Expr) -> pl.DataFrame:
        """Drop the pairs for which a condition holds.

        Parameters
        ----------
        frame
            Pairs with `INDEX` and `ROW`.
        condition
            Which to drop. On a missing value it is null; a pair is dropped only for what is known of it.
        reason, detail
            One of `zhichun.data.readers.rejected`'s reasons, and what exactly was found; it sees the dropped pairs
            only.

        Returns
        -------
        polars.DataFrame
            The other pairs.
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


Step = Callable[[pl.DataFrame, Refuse], pl.DataFrame]


class StepLog:
    """Takes pairs through steps and counts what each does.

    Parameters
    ----------
    read
        What reading the file did.
    refuse
        Takes what steps drop.

    Attributes
    ----------
    counts : list of StepCounts
        One for each step so far, in order.
    """

    def __init__(self, read: StepCounts, refuse: Refuse) -> None:
        self.counts, self._refuse = [read], refuse

    def run(self, name: str, step: Step, frame: pl.DataFrame, *, changed: int | None = None) -> pl.DataFrame:
        """Take the pairs through one step.

        Parameters
        ----------
        name
            What the manifest calls the step.
        step
            The step.
        frame
            What the step before gave.
        changed
            How many labels the step changes, if that is what it does.

        Returns
        -------
        polars.DataFrame
            What this step gives.
        """
        before = Counter(self._refuse.dropped)
        result = step(frame, self._refuse)
        dropped = self._refuse.dropped - before
        made = len(result) + dropped.total() - len(frame)
        assert len(frame) == self.counts[-1].kept, f"pairs were lost before {name}"
        assert made >= 0, f"{name} dropped pairs and did not say so"
        self.counts.append(StepCounts(step=name, read=len(frame), made=made, dropped=dropped, changed=changed))
        return result


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
    """Makes training pairs out of judged training pairs, which all stay as they are.

    What is made is never validated or tested on. It keeps the label, fold and versions of its judged pair.
    """

    @property
    def name(self) -> str:
        """What the manifest calls the step."""

    @property
    def origin(self) -> str:
        """What stands in the column ``origin`` of all that it makes."""

    def options(self) -> dict[str, Any]:
        """Give all that decides what is made, for the manifest: JSON, without paths and times."""

    def make(self, judged: pl.DataFrame, products: Path, marker: str, progress: Callable[[int, int], None]) -> Made:
        """Make the pairs.

        Parameters
        ----------
        judged
            The judged training pairs, with the columns of `zhichun.data.prepare.judged_pairs.EXAMPLES_SCHEMA`.
        products
            The cleaned catalogue, ``products.parquet``.
        marker
            A text that no id of the catalogue contains: a made product is called ``<product_id><marker><anything>``.
        progress
            Called with how much is done and how much there is.

        Returns
        -------
        Made
            The pairs, and the products that they name and the catalogue lacks.
        """
