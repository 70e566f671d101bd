"""The step that aggregates several judgements of a pair into one.

A pair is a query in any spelling, a locale and a product. Its copies in training and test are both kept here; another
step removes leaks. Several judgements of a pair are aggregated by one of `MODES`:

strict        all copies of a pair that was given two labels are refused, and all but the first where they agree
majority      the label that most chose; of several, the least relevant one
mean          the label of the named grade that is nearest to the mean grade, of two the lower one; the mean of the
              judges' gains is kept as ``judged_gain``, which regressors are trained on
distribution  as majority; the share of each label is kept as ``label_shares``, a soft target

Further sources of judgements, such as an LLM's, have a weight each, and none is tested by unless that is wanted. The
first source is the table of examples. A judgement of a further one counts its weight where several judges of a pair
become one, and in the loss where the first source has not judged the pair.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import polars as pl

from zhichun.core import schema
from zhichun.core.arrays import Doubles
from zhichun.core.errors import UserError, suggest
from zhichun.core.schema import GAINS, JUDGE, JUDGED_GAIN, LABEL, LABEL_SHARES, LABELS, PRODUCT_ID, SPLIT, WEIGHT
from zhichun.data.prepare.clean_pairs import GRADE
from zhichun.data.prepare.split import KEY, PAIR
from zhichun.data.prepare.steps import INDEX, SOURCE, Refuse, read_rows
from zhichun.data.readers import rejected as reasons
from zhichun.data.readers.rejected import RejectedRows
from zhichun.data.readers.sources import EXAMPLES, describe_columns, find_column, match_columns, open_judgements
from zhichun.data.readers.table import Table
from zhichun.text.fold import fold_grade, grade_labels, label_of

Mode = Literal["majority", "mean", "distribution", "strict"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)
# Grades of labels that the user gave no number: the scale of Quepid and of most others.
_USUAL: Final = {"E": 3.0, "S": 2.0, "C": 1.0, "I": 0.0}
_GAINS_C: Final = np.array([GAINS["esci"][label] for label in LABELS])
_ROUNDING: Final = 1e-9


def choose_mode(judges: Mode | None, named: bool) -> Mode:
    """Check the mode; the default is `majority` if the table names the judges, otherwise `strict`."""
    if judges is None:
        return "majority" if named else "strict"
    if judges not in MODES:
        raise UserError(f"judges={judges!r} means nothing", remedy=suggest(judges, MODES))
    return judges


@dataclass(frozen=True, kw_only=True)
class SettleJudges:
    """Gives every pair one label.

    Attributes
    ----------
    mode
        How; see the module.
    labels
        Grades and their labels, from `zhichun.text.fold.grade_labels`.
    named
        Those of them that the user named, which define the scale of `mean`.
    votes
        What a judgement of each source counts beside others of its pair.
    """

    mode: Mode
    labels: Mapping[str, str]
    named: Mapping[str, str]
    votes: Sequence[float] = (1.0,)

    def __post_init__(self) -> None:
        if not all(0 < vote < math.inf for vote in self.votes):
            raise UserError(f"weights of judgements are {[*self.votes]}; each must be a finite number above 0.")

    @classmethod
    def of(cls, mode: Mode, given: Mapping[str, Any] | None, votes: Sequence[float] = (1.0,)) -> "SettleJudges":
        """Build it from the user's grades."""
        labels = grade_labels(given)
        named = {grade: labels[grade] for grade in map(fold_grade, given or {}) if labels[grade]}
        return cls(mode=mode, labels=labels, named=named, votes=votes)

    def label_of(self, grade: str) -> str | None:
        """Return the label of one grade; under `mean` also of one between two that have one, as averages are."""
        label, number, scale = label_of(grade, self.labels), _number(grade), self._scale()
        if label is None and self.mode == "mean" and number is not None and min(scale) <= number <= max(scale):
            return self._nearest(np.array([number]))[0]
        return label

    @property
    def column(self) -> str | None:
        """The column that it adds."""
        return {"mean": JUDGED_GAIN, "distribution": LABEL_SHARES}.get(self.mode)

    def __call__(self, frame: pl.DataFrame, refuse: Refuse) -> pl.DataFrame:
        """Take pairs with key and split; afterwards every pair is there once in each split."""
        if frame.select(pl.struct(PAIR).is_duplicated().any()).item():
            frame = self._one_of_each_judge(frame, refuse)
            frame = self._refuse_conflicts(frame, refuse) if self.mode == "strict" else self._settle(frame, refuse)
        return with_targets(frame, self.column)

    def _one_of_each_judge(self, frame: pl.DataFrame, refuse: Refuse) -> pl.DataFrame:
        known, judge = pl.col(JUDGE).is_not_null(), [*PAIR, JUDGE]
        labels = pl.col(LABEL).n_unique().over(judge)
        said = pl.format("'{}' by '{}'", PRODUCT_ID, JUDGE)
        frame = refuse(frame, known & (labels > 1), reasons.ONE_JUDGE_TWO_LABELS, said)
        return refuse(frame, known & ~pl.struct(*judge, SPLIT).is_first_distinct(), reasons.DUPLICATE, said)

    def _refuse_conflicts(self, frame: pl.DataFrame, refuse: Refuse) -> pl.DataFrame:
        labels = pl.col(LABEL).unique().sort().str.join(" and ").over(PAIR)
        frame = refuse(frame, pl.col(LABEL).n_unique().over(PAIR) > 1, reasons.TWO_LABELS, labels)
        first = pl.struct(*PAIR, SPLIT).is_first_distinct()
        return refuse(frame, ~first, reasons.DUPLICATE, pl.format("'{}'", PRODUCT_ID))

    def _settle(self, frame: pl.DataFrame, refuse: Refuse) -> pl.DataFrame:
        vote = pl.col("vote")
        votes = [vote.filter(pl.col(LABEL) == label).sum().alias(f"votes {label}") for label in LABELS]
        # The weight of the pair is that of its first source.
        first = pl.col(SOURCE) == pl.col(SOURCE).min().over(*PAIR, SPLIT)
        frame = frame.with_columns(
            self._values(frame).alias("value"),
            pl.when(first).then(WEIGHT).mean().over(*PAIR, SPLIT).alias(WEIGHT),
            pl.lit(pl.Series(self.votes)).gather(pl.col(SOURCE)).alias("vote"),
        )
        value = (pl.col("value") * vote).sum() / vote.sum()
        pairs = frame.group_by(PAIR, maintain_order=True).agg(*votes, value.alias("value"))
        votes_NC = pairs.select(pl.col("^votes .$")).to_numpy()
        shares_NC = votes_NC / votes_NC.sum(axis=1, keepdims=True)
        labels = self._nearest(pairs["value"].to_numpy()) if self.mode == "mean" else _majority(votes_NC)
        settled = pairs.select(PAIR).with_columns(pl.Series("settled", labels), _shares(shares_NC))
        refuse.note(settled=int(((votes_NC > 0).sum(axis=1) > 1).sum()))
        frame = frame.join(settled, on=PAIR, how="left", maintain_order="left")
        frame = frame.with_columns(pl.col("settled").alias(LABEL)).drop("settled", "value", "vote")
        first = pl.struct(*PAIR, SPLIT).is_first_distinct()
        return refuse(frame, ~first, reasons.ONE_OF_SEVERAL, pl.format("'{}'", PRODUCT_ID))

    def _scale(self) -> dict[float, str]:
        """Return the numbers of the grades that the user named, with their labels."""
        numbers = {number: label for grade, label in self.named.items() if (number := _number(grade)) is not None}
        for label in {*self.named.values()} - {*numbers.values()} if self.named else _USUAL:
            numbers.setdefault(_USUAL[label], label)
        return numbers

    def _values(self, frame: pl.DataFrame) -> pl.Series:
        """Return the number of each judgement's grade; that of a grade in letters is its label's highest."""
        of_label = {**_USUAL, **{label: number for number, label in sorted(self._scale().items())}}
        numbers = {grade: _number(grade) for grade in frame[GRADE].unique()}
        written = pl.col(GRADE).replace_strict(numbers, default=None, return_dtype=pl.Float64)
        meant = pl.col(LABEL).replace_strict(of_label, return_dtype=pl.Float64)
        return frame.select(pl.coalesce(written, meant)).to_series()

    def _nearest(self, means_N: Doubles) -> list[str]:
        scale = sorted(self._scale().items())
        away_NG = np.abs(means_N[:, None] - np.array([number for number, _ in scale]))
        nearest_NG = away_NG <= away_NG.min(axis=1, keepdims=True) + _ROUNDING
        return [scale[place][1] for place in nearest_NG.argmax(axis=1).tolist()]


def with_targets(frame: pl.DataFrame, column: str | None) -> pl.DataFrame:
    """Return the column of the judges' shares; without judges, it follows from the label."""
    if column is not None and LABEL_SHARES not in frame.columns:
        of_label = np.eye(len(LABELS))[[LABELS.index(label) for label in frame[LABEL]]]
        frame = frame.with_columns(_shares(of_label.reshape(-1, len(LABELS))))
    if column == JUDGED_GAIN:
        frame = frame.with_columns(pl.Series(JUDGED_GAIN, frame[LABEL_SHARES].to_numpy() @ _GAINS_C, pl.Float32))
    return frame if column == LABEL_SHARES else frame.drop(LABEL_SHARES, strict=False)


def renew_targets(frame: pl.DataFrame, changed: pl.Expr) -> pl.DataFrame:
    """Update the judges' column where the label was changed."""
    for column in {JUDGED_GAIN, LABEL_SHARES} & {*frame.columns}:
        renewed = with_targets(frame.drop(column), column)[column]
        frame = frame.with_columns(pl.when(changed).then(renewed).otherwise(column).alias(column))
    return frame


def _shares(shares_NC: Doubles) -> pl.Series:
    return pl.Series(LABEL_SHARES, shares_NC.astype(np.float32), pl.Array(pl.Float32, len(LABELS)))


def _majority(votes_NC: Doubles) -> list[str]:
    """Return the label with most votes; of several, the least relevant."""
    last = len(LABELS) - 1 - votes_NC[:, ::-1].argmax(axis=1)
    return [LABELS[place] for place in last.tolist()]


def _number(grade: Any) -> float | None:
    try:
        return float(fold_grade(grade) or "x")
    except ValueError:
        return None


# What `zhichun score` and runs write beside a label.
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
    has = {name: find_column(name, table.names) is not None for name in (*schema.PROBABILITIES, "gain", schema.JUDGE)}
    return all(has[name] for name in schema.PROBABILITIES) and (has["gain"] or not has[schema.JUDGE])
