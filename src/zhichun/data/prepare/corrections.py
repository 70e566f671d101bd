"""What is to be corrected in the training pairs: judgements to leave out, and others to relabel."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from zhichun.data.prepare import drop_issues, relabel
from zhichun.data.prepare.listed_pairs import open_list
from zhichun.data.prepare.steps import StepLog
from zhichun.data.readers.rejected import RejectedRows
from zhichun.data.readers.table import Table


@dataclass(frozen=True, kw_only=True, eq=False)
class Corrections:
    """Lists of training pairs; None where there is none.

    Attributes
    ----------
    drop
        Pairs to leave out.
    relabel
        Pairs with their new label.
    """

    drop: Table | None = None
    relabel: Table | None = None

    @classmethod
    def open(cls, *, drop: Path | None, relabel_as: Path | None) -> "Corrections":
        """Open the lists.

        Raises
        ------
        UserError
            If a file is missing or lacks a column.
        """
        return cls(
            drop=None if drop is None else open_list(drop, drop_issues.COLUMNS),
            relabel=None if relabel_as is None else open_list(relabel_as, relabel.COLUMNS),
        )

    @property
    def files(self) -> dict[str, Path]:
        """The lists by their part, for the manifest."""
        named = {"issues": self.drop, "relabel": self.relabel}
        return {part: table.path for part, table in named.items() if table is not None}

    def apply(
        self, frame: pl.DataFrame, log: StepLog, rejected: RejectedRows, labels: Mapping[str, str], folder: Path
    ) -> pl.DataFrame:
        """Take the pairs through both steps.

        Parameters
        ----------
        frame
            Pairs with ids, a split and labels.
        log
            Takes them through the steps.
        rejected
            Takes the rows of the lists that cannot be used.
        labels
            From `zhichun.data.readers.judgements.grade_labels`.
        folder
            Where ``relabelled.parquet`` goes, if pairs are to be relabelled.

        Returns
        -------
        polars.DataFrame
            The corrected pairs.
        """
        if self.drop is not None:
            step = partial(drop_issues.drop_issues, issues=self.drop, rejected=rejected)
            frame = log.run("drop issues", step, frame)
        if self.relabel is not None:
            changes = relabel.read_changes(frame, self.relabel, labels, rejected)
            changes.write_parquet(folder / relabel.RELABELLED_FILE)
            frame = log.run("relabel", lambda pairs, _: relabel.relabel(pairs, changes), frame, changed=len(changes))
        return frame
