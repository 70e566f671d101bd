"""Further sources of judgements, such as an LLM's: each has a weight, and none is tested by unless that is wanted.

The first source is the table of examples. A judgement of a further one counts its weight where several judges of a pair
become one, and in the loss where the first source has not judged the pair.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.data.prepare.split import KEY, PAIR
from zhichun.data.prepare.steps import INDEX, SOURCE, Refuse, read_rows
from zhichun.data.readers import rejected as reasons
from zhichun.data.readers.rejected import RejectedRows
from zhichun.data.readers.sources import EXAMPLES, describe_columns, find_column, match_columns, open_judgements
from zhichun.data.readers.table import Table

# What `zhichun score` and runs write beside a label.
_PREDICTION: Final = tuple(f"p_{label}" for label in schema.LABELS)
_READ: Final = (schema.QUERY, schema.PRODUCT_ID, schema.LOCALE, schema.LABEL, schema.JUDGE, schema.WEIGHT)
Given = Sequence[tuple[Path, float]]


@dataclass(frozen=True)
class Further:
    """Further sources, in order; `SOURCE` of the first is 1.

    Attributes
    ----------
    tables
        The sources.
    weights
        What a judgement of each counts.
    in_test
        Whether they may judge pairs of test queries.
    """

    tables: Sequence[Table]
    weights: Sequence[float]
    in_test: bool

    @classmethod
    def open(cls, given: Given, *, in_test: bool) -> "Further":
        """Open the files; only headers are read yet."""
        for path, weight in given:
            if not (math.isfinite(weight) and weight > 0):
                remedy = "A weight is a number above 0, such as 0.5."
                raise UserError(f"weight {weight:g} is not possible.", file=path, remedy=remedy)
        return cls([open_judgements(path) for path, _ in given], [weight for _, weight in given], in_test)

    def described(self) -> list[str]:
        """Describe how the tables are read."""
        return [line for table in self.tables for line in describe_columns(EXAMPLES, _columns(table), table)]

    def read(self, first: pl.DataFrame, rejected: RejectedRows) -> pl.DataFrame:
        """Put the rows of all sources after those of the first."""
        parts = [first]
        for number, table in enumerate(self.tables, start=1):
            columns = {name: column for name, column in _columns(table).items() if name in _READ}
            rows = read_rows(table, columns, rejected).with_columns(pl.lit(number, pl.UInt8).alias(SOURCE))
            name = pl.lit(table.path.stem)
            known = pl.col(schema.JUDGE).replace("", None).fill_null(name) if schema.JUDGE in columns else name
            parts.append(rows.with_columns(known.alias(schema.JUDGE)))
        return pl.concat([part.drop(INDEX) for part in parts], how="diagonal").with_row_index(INDEX)

    def place(self, frame: pl.DataFrame, refuse: Refuse, *, split_named: bool) -> pl.DataFrame:
        """Weigh the judgements, put each where its query is, and refuse those that may not judge.

        Parameters
        ----------
        frame, refuse
            As of every step; after the split.
        split_named
            Whether the first source names the split, so that other queries are none for testing.
        """
        further = pl.col(SOURCE) > 0
        first = frame.filter(~further)
        tested = first.group_by(KEY).agg((pl.col(schema.SPLIT) == schema.TEST).any().alias("tested"))
        frame = frame.join(tested, on=KEY, how="left", maintain_order="left")
        drawn = pl.lit(schema.TRAIN) if split_named else pl.col(schema.SPLIT)
        place = pl.when("tested").then(pl.lit(schema.TEST)).when(~pl.col("tested")).then(pl.lit(schema.TRAIN))
        weights = pl.lit(pl.Series([1.0, *self.weights])).gather(pl.col(SOURCE))
        frame = frame.with_columns(
            pl.when(further).then(place.otherwise(drawn)).otherwise(schema.SPLIT).alias(schema.SPLIT),
            (pl.col(schema.WEIGHT) * weights).cast(pl.Float32),
        ).drop("tested")
        if not self.in_test:
            is_tested = further & (pl.col(schema.SPLIT) == schema.TEST)
            frame = refuse(frame, is_tested, reasons.OF_TEST_QUERY, pl.format("'{}'", schema.QUERY))
        predicting = [number for number, table in enumerate(self.tables, start=1) if _predicts(table)]
        frame = frame.join(
            first.select(PAIR).unique().with_columns(known=True), on=PAIR, how="left", maintain_order="left"
        )
        learnt = pl.col(SOURCE).is_in(predicting) & pl.col("known")
        return refuse(frame, learnt, reasons.PREDICTED, pl.format("'{}'", schema.PRODUCT_ID)).drop("known")


def _columns(table: Table) -> dict[str, str]:
    return match_columns({}, {EXAMPLES: table})[EXAMPLES]


def _predicts(table: Table) -> bool:
    """Tell predictions of a run from judgements, which may have probabilities too but name the judge."""
    has = {name: find_column(name, table.names) is not None for name in (*_PREDICTION, "gain", schema.JUDGE)}
    return all(has[name] for name in _PREDICTION) and (has["gain"] or not has[schema.JUDGE])
