"""Whatever ranks the judged pairs of a dataset: a model's folder, a scored file, or a ranking of any other system.

A model has a score for every pair. A ranking holds what a system returned: a TREC run file, or a table with a query, a
product and a ``score`` or ``rank``. What it returned without being judged is left out and counted (a condensed list).

Segments are parts of these pairs that a change may hurt while the whole gains: locale, length of the query, and more.

Legend: ``E`` examples of the dataset, ``R`` rows of it that are compared.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zhichun.core import schema
from zhichun.core.arrays import Bools, Int64
from zhichun.core.console import Stages
from zhichun.core.errors import UserError
from zhichun.core.tasks import TASKS
from zhichun.data.dataset import Dataset
from zhichun.data.readers.lines import RunTable
from zhichun.data.readers.rejected import Say, silent
from zhichun.data.readers.sources import (
    ALIASES,
    PAIRS,
    find_column,
    match_columns,
    open_ranking,
    open_table,
    require_known,
)
from zhichun.data.readers.table import Table
from zhichun.measure.evaluate import rows_of, score_rows, trained_pairs
from zhichun.metrics import Judged
from zhichun.metrics.significance import Floats
from zhichun.score.engine import AUTO
from zhichun.score.folders import has_members
from zhichun.score.scorer import Scorer
from zhichun.text.fold import fold_query
from zhichun.text.vocabulary import terms, word_counts

# What a table may rank by, the first that it has; of a rank, less is better.
RANKED_BY: Final = {"gain": 1, "score": 1, "rank": -1, "position": -1}
_OF_PRODUCT: Final = (schema.PRODUCT_ID, schema.LOCALE)
# In place of an example, where a table does not say which of several it means.
AMBIGUOUS: Final = -1


@dataclass(frozen=True, eq=False)
class System:
    """What is compared.

    Parameters
    ----------
    name
        Its folder or file.
    is_ranking
        Whether it holds what was returned; a model has a score for whatever it is asked.
    score_E
        What to rank the examples by; NaN where it has none.
    probabilities_EC
        Of the four labels, where it has them.
    unjudged, elsewhere
        Rows that it ranks without a judgement in the dataset, and with one that is not compared.
    """

    name: str
    is_ranking: bool
    score_E: Floats
    probabilities_EC: Floats | None
    unjudged: int = 0
    elsewhere: int = 0

    @property
    def has_E(self) -> np.ndarray:
        """Which examples it has a score of."""
        return ~np.isnan(self.score_E)

    def judged(self, dataset: Dataset, rows: Int64) -> Judged:
        """Put judgements beside its answers; classes are answered only where all pairs have probabilities."""
        probabilities = None if self.probabilities_EC is None else self.probabilities_EC[rows]
        return Judged(
            dataset.column(schema.QUERY_ID)[rows],
            dataset.labels[rows],
            scores=self.score_E[rows],
            predictions=None if probabilities is None else probabilities.argmax(axis=1),
            probabilities=probabilities,
        )


def read_systems(
    places: Sequence[Path],
    dataset: Dataset,
    rows: Int64,
    *,
    columns: Mapping[str, str] | None = None,
    topics: Path | None = None,
    shown: bool = True,
) -> list[System]:
    """Score the rows with models' folders, or read what files say of them.

    Parameters
    ----------
    places
        Each a folder of `zhichun train`, `export` or `ensemble`; a table of `zhichun score` or of a ranking, with a
        query, a product id and ``score`` or ``rank``; or a TREC run file: ``.run``, ``.trec``, or any with ``Q0`` in
        its first line.
    dataset, rows
        What is compared.
    columns
        Own column names of tables, each of which one of the tables has.
    topics
        Query texts of a run file; otherwise its query ids are those of the dataset.
    shown
        Whether to show progress.

    Raises
    ------
    UserError
        For what cannot be read, or speaks of none of the rows.
    """
    tables = [None if place.is_dir() else open_ranking(place, topics) for place in places]
    known = [name for table in tables if table and not isinstance(table, RunTable) for name in table.names]
    require_known(columns or {}, known)
    return [
        _read(table, dataset, rows, columns or {}, by_text=topics is not None)
        if table
        else _scored(place, dataset, rows, shown)
        for place, table in zip(places, tables, strict=True)
    ]


def _scored(place: Path, dataset: Dataset, rows: Int64, shown: bool) -> System:
    """Score the rows with the model of a folder."""
    scorer = None if has_members(place) else Scorer.load(place)
    with Stages("pairs", shown=shown) as stages:
        prediction, _, _ = score_rows(scorer, place, dataset, rows, AUTO, stages)
    if prediction.task.name == "substitute":
        remedy = "Compare models of all labels."
        raise UserError("labels substitutes only, and does not rank.", file=place, remedy=remedy)
    if not np.isfinite(prediction.score).all():
        raise UserError("the model's scores are not finite numbers.", file=place, remedy="Train it again in fp32.")
    score_E = np.full(dataset.examples.num_rows, np.nan)
    score_E[rows] = prediction.score
    if prediction.probabilities is None:
        return System(str(place), False, score_E, None)
    probabilities_EC = np.zeros((len(score_E), len(schema.LABELS)))
    probabilities_EC[rows] = prediction.probabilities
    return System(str(place), False, score_E, probabilities_EC)


def _read(table: Table, dataset: Dataset, rows: Int64, columns: Mapping[str, str], *, by_text: bool) -> System:
    place, is_run = table.path, isinstance(table, RunTable)
    by_id = is_run and not by_text
    mapped = {name: named for name, named in columns.items() if find_column(named, table.names)}  # or of the other side
    own = {} if is_run else match_columns(mapped, {PAIRS: table})[PAIRS]
    own = {name: own.get(name, name) for name in (schema.QUERY_ID if by_id else schema.QUERY, schema.PRODUCT_ID)} | {
        name: own[name] for name in (schema.LOCALE,) if name in own
    }
    found = {name: find_column(name, table.names) for name in (*schema.PROBABILITIES, *RANKED_BY)}
    is_model = found["gain"] is not None or all(found[name] for name in schema.PROBABILITIES)
    values = schema.PROBABILITIES if all(found[name] for name in schema.PROBABILITIES) else ()
    ranked_by = next((name for name in RANKED_BY if found[name]), None)
    if ranked_by is None and not values:
        remedy = f"It needs a column {', '.join(RANKED_BY)}, or p_E and so on, as `zhichun score` writes."
        raise UserError("has nothing to rank by.", file=place, remedy=remedy)
    wanted = (*values, *((ranked_by,) if ranked_by else ()))
    columns = own | {name: str(found[name]) for name in wanted}
    place_of = _places(dataset, rows, by_id, schema.LOCALE in own)
    value_EX = np.full((dataset.examples.num_rows, len(wanted)), np.nan)
    others: set[tuple[str, ...]] | None = None
    unjudged = elsewhere = 0
    for row, key, numbers in _rows(table, columns, wanted, dataset.manifest["options"]["locale"]):
        example = place_of.get(key)
        if example is None:
            if others is None:
                others = set(_places(dataset, rows_of(dataset, "all"), by_id, schema.LOCALE in own))
            elsewhere += key in others
            unjudged += key not in others
        elif example == AMBIGUOUS:
            remedy = "Name the column of locales: --columns locale=NAME."
            if is_run:
                remedy = "Leave out --topics, and name queries by the ids of the dataset."
            raise UserError("names a pair that is judged in several locales.", file=place, row=row, remedy=remedy)
        elif not np.isnan(value_EX[example, 0]):
            raise UserError("names a pair a second time.", file=place, row=row, remedy="Keep one row for each pair.")
        else:
            value_EX[example] = numbers
    if np.isnan(value_EX).all():
        remedy = "Check query and product ids, --split, and for a run file --topics."
        raise UserError("speaks of none of the judged pairs.", file=place, remedy=remedy)
    probabilities_EC = value_EX[:, : len(schema.LABELS)] if values else None
    if ranked_by is None:
        assert probabilities_EC is not None
        score_E = TASKS["esci"].of_probabilities(probabilities_EC).score.astype(np.float64)
    else:
        score_E = RANKED_BY[ranked_by] * value_EX[:, -1]
    return System(str(place), not is_model, score_E, probabilities_EC, unjudged, elsewhere)


def _places(dataset: Dataset, rows: Int64, by_id: bool, by_locale: bool) -> dict[tuple[str, ...], int]:
    """Find an example, or `AMBIGUOUS`, by the query's text or id, the product, and the locale if the table has one."""
    queries = dataset.column(schema.QUERY_ID if by_id else schema.QUERY)[rows]
    texts = [str(query) if by_id else fold_query(query) for query in queries.tolist()]
    keys = [texts, dataset.column(schema.PRODUCT_ID)[rows].tolist()]
    keys += [dataset.column(schema.LOCALE)[rows].tolist()] if by_locale else []
    place_of: dict[tuple[str, ...], int] = {}
    for key, row in zip(zip(*keys, strict=True), rows.tolist(), strict=True):
        place_of[key] = AMBIGUOUS if key in place_of else row
    return place_of


def _rows(
    table: Table, columns: Mapping[str, str], wanted: tuple[str, ...], locale: str
) -> Iterator[tuple[int, tuple[str, ...], list[float]]]:
    """Read each row: its number, its key as in `_places`, and its values; one without a locale is of the dataset's."""
    by_query, names = schema.QUERY in columns, [name for name in _OF_PRODUCT if name in columns]
    for row, texts in table.rows(columns, locale):
        query = fold_query(texts[schema.QUERY] or "") if by_query else (texts[schema.QUERY_ID] or "").strip()
        try:
            values = [float(texts[name] or "nan") for name in wanted]
        except ValueError:
            values = [np.nan]
        if not np.isfinite(values).all():
            shown = ", ".join(f"{name} = {texts[name]!r}" for name in wanted)
            remedy = "Correct it, or drop the row."
            raise UserError(f"{shown} is no number.", file=table.path, row=row, remedy=remedy)
        said = values[: len(schema.LABELS)] if wanted[0] == schema.PROBABILITIES[0] else [1.0]
        if min(said) < 0 or abs(sum(said) - 1) > 1e-3:
            shown = ", ".join(f"{name} = {value:g}" for name, value in zip(schema.PROBABILITIES, said, strict=True))
            remedy = "Probabilities lie between 0 and 1 and add up to 1."
            raise UserError(f"{shown} cannot be.", file=table.path, row=row, remedy=remedy)
        yield row, (query, *(texts[name] or "" for name in names)), values


def untrained_rows(places: Sequence[Path], dataset: Dataset, rows: Int64, say: Say) -> Int64:
    """Leave out what one of the systems was trained on, and say so.

    Raises
    ------
    UserError
        When nothing is left.
    """
    kept_R = np.ones(len(rows), bool)
    for place in places if (dataset.column(schema.SPLIT)[rows] == schema.TRAIN).any() else ():
        trained_E = trained_pairs(place, dataset)
        if trained_E is None and place.is_dir():
            say(f"{place}: it is not known whether it was trained on these pairs; if so, it looks better than it is")
        elif trained_E is not None and (count := int(trained_E[rows].sum())):
            say(f"{place}: {count:,} of {len(rows):,} pairs are left out, since it was trained on them")
            kept_R &= ~trained_E[rows]
    if len(rows) and not kept_R.any():
        remedy = "Compare runs on what they held out: --split test, or the runs of: zhichun train RECIPE --folds K."
        raise UserError("the systems were trained on all of these pairs.", file=dataset.folder, remedy=remedy)
    return rows[kept_R]


def count_left_out(system: System, rows: Int64, say: Say) -> dict[str, int]:
    """Count what a system ranks that is not compared, and what it has no score for, and say so."""
    missing = int((~system.has_E[rows]).sum())
    if system.unjudged:
        say(f"{system.name}: {system.unjudged:,} rows are not judged, and were left out")
    if system.elsewhere:
        say(f"{system.name}: {system.elsewhere:,} rows are judged but not among the pairs compared, and were left out")
    if missing:
        say(f"{system.name}: {missing:,} of {len(rows):,} pairs are missing")
    return {"unjudged": system.unjudged, "elsewhere": system.elsewhere, "missing": missing}


def common_rows(one: System, other: System, dataset: Dataset, rows: Int64) -> Int64:
    """Choose what two systems are compared on, of some rows.

    Models are compared on what both scored. A model beside a ranking orders what that returned. Two rankings are
    compared on all judged pairs of the queries that either answered: what one of them missed counts against it.

    Raises
    ------
    UserError
        When that is less than two queries.
    """
    query_E = dataset.column(schema.QUERY_ID)
    if one.is_ranking and other.is_ranking:
        common = rows[np.isin(query_E[rows], query_E[rows[(one.has_E | other.has_E)[rows]]])]
    else:
        common = rows[(one.has_E & other.has_E)[rows]]
    if len(np.unique(query_E[common])) < 2:
        remedy = "Both must have scores for the same judged pairs; see --split."
        raise UserError("the two have less than two queries in common.", file=dataset.folder, remedy=remedy)
    return common


# Queries of a segment that is tested, at least; a bootstrap over fewer says little.
LEAST_QUERIES: Final = 20
# Of the user's own columns: the values of most rows. Prices and ids are no segments.
MOST_VALUES: Final = 20
LENGTHS: Final = {1: "1 word", 2: "2 words", 3: "3 to 4 words", 5: "5 words or more"}


def segments_of(dataset: Dataset, rows: Int64, table: Path | None = None, say: Say = silent) -> dict[str, Bools]:
    """Find the segments with enough queries.

    Parameters
    ----------
    dataset, rows
        What is compared.
    table
        The user's own: a column with the query, the product id, or both; each other column makes segments.
    say
        Takes a line on what of these is left out.

    Returns
    -------
    dict
        ``locale: es`` and the like, with which rows belong to it, ``[R]``. A segment of products holds a part of a
        query's list.
    """
    queries = np.array(dataset.queries.to_pylist(), object)
    length_Q = word_counts(queries.tolist())
    names_Q = np.array(
        [LENGTHS[max(least for least in LENGTHS if least <= max(1, words))] for words in length_Q], object
    )
    query_R, id_R = dataset.query_row[rows], dataset.column(schema.QUERY_ID)[rows]
    products, trained = dataset.product_row, dataset.column(schema.SPLIT) == schema.TRAIN
    seen_R = np.isin(products[rows], products[np.setdiff1d(np.flatnonzero(trained), rows)])
    kinds: dict[str, Sequence[Any] | NDArray[Any]] = {
        "locale": dataset.column(schema.LOCALE)[rows],
        "query": names_Q[query_R],
        "brand": np.where(_names_brand(dataset, rows, queries)[query_R], "named in the query", "not named"),
        "product": np.where(seen_R, "seen in training", "not seen"),
    }
    own: dict[str, Sequence[Any] | NDArray[Any]] = {}
    if table is not None:
        given = _own(table, queries[query_R].tolist(), dataset.column(schema.PRODUCT_ID)[rows].tolist())
        own = {f"own {name}" if name in kinds else name: values for name, values in given.items()}
    found = {}
    for kind, values in (kinds | own).items():
        counts = Counter(value for value in values if value)
        blank, tested = len(values) - counts.total(), 0
        is_parted = len(counts) + (blank > 0) > 1  # a value, and rows without one, are two parts
        for value in sorted(name for name, _ in counts.most_common(MOST_VALUES)) if is_parted else ():
            mask_R = np.array([each == value for each in values])
            if len(np.unique(id_R[mask_R])) >= LEAST_QUERIES:
                found[f"{kind}: {value}"] = mask_R
                tested += 1
        if kind in own and (blank or tested < len(counts)):
            few = f"the {MOST_VALUES} commonest with {LEAST_QUERIES} queries or more"
            say(f"segments of {kind}: {tested:,} of {len(counts):,} values ({few}); {blank:,} pairs have none")
    return found


def _names_brand(dataset: Dataset, rows: Int64, queries: NDArray[Any]) -> Bools:
    """Return which queries name the brand of a product in their list."""
    brands = pq.read_table(dataset.folder / schema.PRODUCTS_FILE, columns=[schema.BRAND]).column(0)
    of_rows = brands.take(pa.array(dataset.product_row[rows])).to_pylist()
    named_Q = np.zeros(len(queries), bool)
    words_of: dict[str, str] = {}
    for query, brand in set(zip(dataset.query_row[rows].tolist(), of_rows, strict=True)):
        for text in (queries[query], brand or ""):
            words_of.setdefault(text, f" {' '.join(terms(text))} ")
        named_Q[query] |= words_of[brand or ""].strip() != "" and words_of[brand] in words_of[queries[query]]
    return named_Q


def _own(path: Path, queries: list[str], products: list[str]) -> dict[str, list[str | None]]:
    """Read the user's own columns: the value of each row, by query, by product, or by both."""
    table = open_table(path)
    keys = {
        field: own
        for field in (schema.QUERY, schema.PRODUCT_ID)
        for own in [next(filter(None, (find_column(name, table.names) for name in (field, *ALIASES[field]))), None)]
        if own is not None
    }
    own = [name for name in table.names if name not in keys.values()]
    if not keys or not own:
        remedy = "It needs a column query or product_id, and one or more whose values are segments."
        raise UserError("holds no segments.", file=path, remedy=remedy)
    wanted = list(zip(map(fold_query, queries), products, strict=True))
    parts = [place for place, field in enumerate((schema.QUERY, schema.PRODUCT_ID)) if field in keys]
    value_of: dict[str, dict[tuple[str, ...], str | None]] = {name: {} for name in own}
    # Under names of their own: a column of the user's that is called as a locale is, is read as it stands.
    for _, texts in table.rows({**keys, **{f"own:{name}": name for name in own}}):
        key = tuple(fold_query(texts[field] or "") if field == schema.QUERY else texts[field] or "" for field in keys)
        for name in own:
            value_of[name][key] = texts[f"own:{name}"]
    return {
        name: [values.get(tuple(key[part] for part in parts)) for key in wanted] for name, values in value_of.items()
    }
