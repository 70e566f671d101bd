"""Tables of ratings: one row for each rater and pair, any format of judgements with a column that says who judged."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from zhichun.core import schema
from zhichun.core.arrays import Int64
from zhichun.core.errors import UserError, suggest
from zhichun.data.readers.sources import EXAMPLES, find_column, match_columns, open_judgements, require_known
from zhichun.metrics.agreement import NO_RATING, Ratings
from zhichun.text.fold import NOT_JUDGED, fold_judge, fold_query, grade_labels, label_of

# Folded query, locale, product id.
Pair = tuple[str, str, str]


@dataclass(frozen=True, eq=False)
class RatedPairs:
    """Ratings with the names of what they are about.

    Parameters
    ----------
    ratings
        Grades as places in `schema.LABELS`.
    raters
        Their names, in the order of the columns of the ratings.
    pairs
        What each row of the ratings is about.
    passed_over
        Rows of the files without a grade, or with one that means 'not judged'.
    judged
        The raters that are compared with the others: an LLM, a model.
    reasons
        What a rater wrote of a pair, where its file has a column for it.
    """

    ratings: Ratings
    raters: tuple[str, ...]
    pairs: tuple[Pair, ...]
    passed_over: int = 0
    judged: tuple[str, ...] = ()
    reasons: Mapping[tuple[Pair, str], str] = field(default_factory=dict)

    def among(self, pairs: Sequence[Pair]) -> tuple[Int64, "RatedPairs"]:
        """Find which of some pairs were rated: their places there, and their ratings in that order."""
        place_of = {pair: place for place, pair in enumerate(self.pairs)}
        place_P = np.array([place_of.get(pair, -1) for pair in pairs], np.int64)
        return np.flatnonzero(place_P >= 0), self.select(place_P[place_P >= 0])

    def shared(self) -> "RatedPairs":
        """Take the pairs that two raters or more rated."""
        return self.select(np.flatnonzero(self.ratings.counts_PK.sum(axis=1) > 1))

    def judging(self, names: Collection[str]) -> "RatedPairs":
        """Hold further raters against the others.

        Raises
        ------
        UserError
            For a name that is no rater's, and where nobody is left.
        """
        judged = tuple(sorted({*self.judged, *map(fold_judge, names)}))
        if unknown := [name for name in judged if name not in self.raters]:
            raise UserError(f"there is no rater {unknown[0]!r}.", remedy=suggest(unknown[0], self.raters))
        if len(judged) == len(self.raters):
            remedy = "Name fewer of them, and put what people rated into the first table."
            raise UserError("no rater is left to hold the others against.", remedy=remedy)
        return replace(self, judged=judged)

    def by(self, raters: Sequence[int]) -> "RatedPairs":
        """Take what some raters said."""
        codes_PJ, names = self.ratings.codes_PJ[:, list(raters)], tuple(self.raters[place] for place in raters)
        return replace(self, ratings=replace(self.ratings, codes_PJ=codes_PJ), raters=names)

    def select(self, rows: Int64) -> "RatedPairs":
        """Take some pairs."""
        return replace(self, ratings=self.ratings.select(rows), pairs=tuple(self.pairs[row] for row in rows))


def read_ratings(
    path: Path,
    *more: Path,
    columns: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    locale: str = schema.LOCALES[0],
) -> RatedPairs:
    """Read a table of ratings, and further ones of an LLM or a model.

    Parameters
    ----------
    path
        Columns query, product_id, judge and label, and locale where there are several.
    more
        Tables of others who judged the same pairs: of `zhichun judge`, or a scored file, of which the label that the
        model gives is taken. One without a column of judges is of one, named by the file.
    columns, labels, locale
        As for `zhichun.prepare`.

    Raises
    ------
    UserError
        When one cannot be read, no column names the judges, or nobody rated a pair that another rated too.
    """
    places: dict[Pair, int] = {}
    found: dict[tuple[int, str], int] = {}
    passed_over, added, reasons = 0, set[str](), dict[tuple[Pair, str], str]()
    known = [name for table in (path, *more) for name in open_judgements(table).names]
    if more:  # of one table alone, its reader says more
        require_known(columns or {}, known)
    for table in (path, *more):
        called = table.name if [each.name for each in (path, *more)].count(table.name) == 1 else str(table)
        read = _rows(table, columns or {}, grade_labels(labels), locale, called if more else None)
        for row, pair, judge, label, reason in read:
            if label == NOT_JUDGED:
                passed_over += 1
                continue
            key = places.setdefault(pair, len(places)), judge
            if found.setdefault(key, schema.LABELS.index(label)) != schema.LABELS.index(label):
                remedy = "Keep one judgement of each judge."
                raise UserError(f"{judge!r} judged this pair twice, differently.", file=table, row=row, remedy=remedy)
            if reason:
                reasons[pair, judge] = reason
            if table != path:
                added.add(judge)
    raters = tuple(sorted({judge for _, judge in found}))
    column_of = {judge: column for column, judge in enumerate(raters)}
    codes_PJ = np.full((len(places), len(raters)), NO_RATING, np.intp)
    for (pair_row, judge), code in found.items():
        codes_PJ[pair_row, column_of[judge]] = code
    query_P = np.unique([f"{where}\n{query}" for query, where, _ in places], return_inverse=True)[1]
    rated = RatedPairs(Ratings(codes_PJ, query_P), raters, tuple(places), passed_over, reasons=reasons)
    if not rated.shared().pairs:
        remedy = "Give a row for each judge and pair: agreement needs pairs that two judges rated."
        raise UserError("no pair was rated by two judges.", file=path, remedy=remedy)
    return rated.judging(added)


def _rows(
    path: Path, columns: Mapping[str, str], meaning: Mapping[str, str], locale: str, called: str | None
) -> Iterator[tuple[int, Pair, str, str, str | None]]:
    """Read each row: number, pair, judge, label, and what the judge wrote; ``called`` judged where no column says."""
    table = open_judgements(path)
    if called:  # the names may be those of another table
        columns = {name: own for name, own in columns.items() if find_column(own, table.names)}
    label = find_column("label", table.names)
    if label is not None and find_column("p_E", table.names):  # a scored file may have the judgements beside
        columns = {**columns, "label": label}
    own = match_columns(columns, {EXAMPLES: table})[EXAMPLES]
    if schema.JUDGE not in own and not called:
        raise UserError("no column says who judged.", file=path, remedy="Name it: --columns judge=NAME.")
    wanted = (schema.QUERY, schema.PRODUCT_ID, schema.LOCALE, schema.LABEL, schema.JUDGE)
    used = {name: own[name] for name in wanted if name in own}
    if reason := find_column("reason", table.names):
        used["reason"] = reason
    # A calibrated model that promises a precision leaves the label empty where it is not sure; it judged all the same.
    chances = {name: column for name in schema.PROBABILITIES if (column := find_column(name, table.names))}
    used |= chances if len(chances) == len(schema.LABELS) else {}
    for row, texts in table.rows(used, locale):
        if not texts[schema.LABEL] and all(texts.get(name) for name in schema.PROBABILITIES):
            try:
                said = [float(texts[name] or "nan") for name in schema.PROBABILITIES]
            except ValueError as error:
                remedy = "Score the pairs again, or leave the column out."
                raise UserError(f"a probability is no number ({error}).", file=path, row=row, remedy=remedy) from error
            if not np.isnan(said).any():
                texts = {**texts, schema.LABEL: schema.LABELS[int(np.argmax(said))]}
        label, judge = label_of(texts[schema.LABEL], meaning), fold_judge(texts.get(schema.JUDGE, called))
        query, where, product = fold_query(texts[schema.QUERY] or ""), texts[schema.LOCALE], texts[schema.PRODUCT_ID]
        if label is None:
            remedy = "Map your grades with --labels, such as --labels 3=E,2=S,1=C,0=I."
            raise UserError(f"unknown label {texts[schema.LABEL]!r}.", file=path, row=row, remedy=remedy)
        if not (query and product and judge):
            remedy = "Fill it in, or drop the row."
            raise UserError("the query, the product or the judge is missing.", file=path, row=row, remedy=remedy)
        yield row, (query, where or "", product), judge, label, texts.get("reason")
