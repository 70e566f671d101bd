"""The pairs of a scoring job as parts: the same rows in each, whoever reads them and however many shards there are.

A part is of one file, so many rows or so many bytes long, and for models that read lists never ends within one.

Reads the texts of pairs to be scored: own columns or a catalogue's, with the rows that cannot be scored left out.

Legend: ``P`` pairs of a part.
"""

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zhichun.core import schema
from zhichun.core.arrays import Int64
from zhichun.core.errors import UserError
from zhichun.data.prepare.clean_catalogue import read_catalogue
from zhichun.data.readers import rejected as reasons
from zhichun.data.readers.pair_tables import ROW, numbered_chunks, texts
from zhichun.data.readers.rejected import FirstRefusal, OnBadRows, Reason, Record, Refusal, Refusals, Say
from zhichun.data.readers.sources import PAIRS, describe_columns, kept_columns, match_pairs
from zhichun.data.readers.table import Table
from zhichun.score.engine import LONGEST_LIST
from zhichun.score.rank import ProductLookup
from zhichun.text.clean import clean_text
from zhichun.text.fold import fold_locales, trim_ids
from zhichun.text.pairs import PairTexts, lists_of

# With as many files for each shard, a shard reads whole files, and none of the others'.
FILES_A_SHARD: Final = 4
_INDEX: Final = ("SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX")
_COUNT: Final = ("SLURM_ARRAY_TASK_COUNT", "JOB_COMPLETIONS")


@dataclass(frozen=True)
class Shard:
    """One of several processes that share a job's parts.

    Parameters
    ----------
    index
        Which, from 0.
    count
        How many there are.
    """

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str] = os.environ) -> Self:
        """Read ``i/n``, where i counts from 0 or from 1; ``auto`` and ``auto/n`` take them from Slurm or Kubernetes.

        Raises
        ------
        UserError
            For anything else, and where the scheduler does not say.
        """
        index, _, count = text.strip().partition("/")
        if index == "auto":
            index = next((environment[name] for name in _INDEX if name in environment), "")
            span = [environment.get(f"SLURM_ARRAY_TASK_{name}", "") for name in ("MIN", "MAX", "COUNT")]
            if not count and all(map(str.isdecimal, [index, *span])):
                if int(span[1]) - int(span[0]) + 1 != int(span[2]):
                    raise UserError(
                        f"--shard {text!r}: the Slurm array has {span[2]} tasks between {span[0]} and {span[1]}.",
                        remedy="Say how many shards the job has in all: --shard auto/16",
                    )
                index = str(int(index) - int(span[0]))
            count = count or next((environment[name] for name in _COUNT if name in environment), "")
            if not index or not count:
                known = "an index, but not of how many" if index else f"neither {' nor '.join(_INDEX)}"
                remedy = "Say how many: --shard auto/4" if index else "Give both: --shard 0/4"
                raise UserError(f"--shard {text!r}: the environment has {known}.", remedy=remedy)
        if not (index.isdecimal() and count.isdecimal() and int(count) and int(index) <= int(count)):
            raise UserError(
                f"--shard {text!r} is not of the form i/n" + f", but {index}/{count}." * (text != f"{index}/{count}"),
                remedy="Give 0/4 to 3/4 (or 1/4 to 4/4), or auto under Slurm or Kubernetes.",
            )
        return cls(int(index) % int(count), int(count))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def has(self, number: int) -> bool:
        """Tell whether a file or part is this one's."""
        return number % self.count == self.index


ALL: Final = Shard()


@dataclass
class Collected(Refusals):
    """Rows that are left out, with their reasons."""

    file: str
    found: list[tuple[Refusal, Record]] = field(default_factory=list)

    def add(self, refusal: Refusal, record: Record) -> None:
        """Add one row."""
        self.found.append((refusal._replace(file=self.file), record))


@dataclass(frozen=True, eq=False)
class Part:
    """Some rows of a file.

    Parameters
    ----------
    file
        The file.
    pairs
        Its rows, with all their columns.
    rows_N
        The number of each in the file.
    refused
        Rows that cannot be scored.
    rejected
        Takes further ones: the same, or the first one is an error.
    """

    file: Path
    pairs: pa.Table
    rows_N: Int64
    refused: Collected
    rejected: Refusals

    @property
    def rows(self) -> int:
        """How many rows were read for it."""
        return self.pairs.num_rows + len(self.refused.found)

    def refuse(self, place: int, reason: Reason, detail: str) -> None:
        """Refuse a row by its place."""
        record = {name: _text(self.pairs.column(name)[place]) for name in self.pairs.column_names}
        self.rejected.add(Refusal(self.file.name, int(self.rows_N[place]), reason, detail), record)

    @property
    def first(self) -> int:
        """The number of its first row; a file without rows has one part."""
        return int(self.rows_N[0]) if len(self.rows_N) else min((each.row for each, _ in self.refused.found), default=1)


def _text(value: Any) -> str | None:
    try:
        given = value.as_py()
    except UnicodeDecodeError:  # Parquet files do not promise that their strings are UTF-8
        given = value.as_buffer().to_pybytes().decode("utf-8", "surrogateescape")
    return None if given is None else str(given)


def list_keys(table: pa.Table, columns: Sequence[str], locale: str, file: Path) -> list[tuple[str, str]]:
    """Return what tells the list of each row; one without a query, refused elsewhere, parts no list."""
    aside = Collected(file.name)
    queries, *locales = (texts(table, column, file, 0, aside) for column in columns)
    given = pa.array(locales[0], pa.large_string()) if locales else None
    keys = lists_of(queries, fold_locales(given, locale, len(queries)).to_pylist())
    for row in range(1, len(keys)):
        keys[row] = keys[row] if keys[row][0] else keys[row - 1]
    return keys


OF_CATALOGUE = "products."


@dataclass(frozen=True)
class PairReader:
    """Reads files of pairs as parts, and the texts of parts.

    Parameters
    ----------
    rows, most_bytes
        Of a part at most.
    listing
        Whether rows that cannot be read or scored are listed; the first one is an error otherwise.
    own
        Further columns that the model reads.
    whole_lists
        Whether the model reads lists.
    catalogue, columns, locale, on_bad_rows, say
        As for `zhichun.score.job.ScoringJob`.
    """

    rows: int
    most_bytes: int
    listing: bool
    own: Sequence[str]
    whole_lists: bool
    catalogue: Path | None
    columns: Mapping[str, str]
    locale: str
    on_bad_rows: OnBadRows
    say: Say

    def match(self, table: Table) -> dict[str, str]:
        """Find which column of the pairs holds what is needed of them."""
        columns = match_pairs(of_pairs(self.columns), table, catalogue=self.catalogue is not None)
        if self.catalogue is None:
            columns |= kept_columns(self.own, table)
        for line in describe_columns(PAIRS, columns, table):
            self.say(line)
        return columns

    def parts(
        self, table: Table, name: str, columns: Iterable[str], found: Mapping[str, str], seen: set[int]
    ) -> Iterator[Part]:
        """Read a file part by part.

        Parameters
        ----------
        table, name
            The file, and its name for users.
        columns
            Those of all files, in the order of all parts.
        found
            Of `match`.
        seen
            Hashes of the lists before this file.
        """
        unread, first = Collected(name), FirstRefusal(table.path)
        chunks = numbered_chunks(table, self.rows, self.most_bytes, unread if self.listing else first)
        lists = [found[each] for each in (schema.QUERY, schema.LOCALE) if self.whole_lists and each in found]

        def part(chunk: pa.Table) -> Part:
            refused, unread.found = Collected(name, unread.found), []
            rejected = refused if self.listing else first
            return Part(table.path, chunk.select(list(columns)), chunk.column(ROW).to_numpy(), refused, rejected)

        for chunk in self._with_whole_lists(chunks, lists, table.path, seen) if lists else chunks:
            yield part(chunk)
        if unread.found:  # behind the last row that could be read
            yield part(chunk.slice(0, 0))

    def _with_whole_lists(
        self, chunks: Iterable[pa.Table], lists: Sequence[str], file: Path, seen: set[int]
    ) -> Iterator[pa.Table]:
        """Move the rows of each chunk's last query to the next chunk, so that no list is in two."""
        held: list[pa.Table] = []
        for chunk in itertools.chain(chunks, [None]):  # the last query's rows come at the end
            table = pa.concat_tables(held if chunk is None else [*held, chunk])
            keys = list_keys(table, lists, self.locale, file)
            starts = [row for row in range(len(keys)) if not row or keys[row] != keys[row - 1]]
            for row in starts if chunk is None else starts[:-1]:
                if keys[row][0] and hash(keys[row]) in seen:
                    raise UserError(
                        f"the rows of the query {keys[row][0]!r} are not together; this model reads them as one list.",
                        file=file,
                        row=table.column(ROW)[row].as_py(),
                        remedy="Sort the file by query and locale.",
                    )
                seen.add(hash(keys[row]))
            cut = len(keys) if chunk is None or not starts else starts[-1]
            held = [table.slice(cut)]
            if cut or chunk is None:
                yield table.slice(0, cut)

    def read(self, part: Part, columns: Mapping[str, str]) -> Iterator[tuple[Int64, PairTexts]]:
        """Read the texts of a part, no more at once than are to be held; rows that cannot be scored are refused.

        Returns
        -------
        iterator
            Places in the part, ``[P]``, and their texts.
        """
        bad = _Bad(part)
        given = {field: texts(part.pairs, of, part.file, part.rows_N, bad) for field, of in columns.items()}
        queries = [query or "" for query in given.pop(schema.QUERY)]
        empty = {query for query in {*queries} if not clean_text(query)}
        for place, query in enumerate(queries):
            if query in empty:
                bad.refuse(place, reasons.EMPTY_QUERY, repr(query))
        locales = fold_locales(_column(given.pop(schema.LOCALE, None)), self.locale, len(queries))
        rows_P: Int64 | None = None
        if self.catalogue is not None:
            rows_P = self._rows(given[schema.PRODUCT_ID], locales, bad)

        def texts_at(places_P: Int64) -> PairTexts:
            at = places_P.tolist()
            products = (
                {field: [of[place] for place in at] for field, of in given.items()}
                if rows_P is None
                else self._products.texts(rows_P[places_P])
            )
            return PairTexts([queries[place] for place in at], products, locales.take(pa.array(places_P)).to_pylist())

        if self.whole_lists:
            _refuse_long_lists(lists_of(queries, locales.to_pylist()), texts_at, bad)
        kept_P = np.flatnonzero(~bad.bad_P)
        for piece in self._pieces(rows_P, kept_P):
            yield kept_P[piece], texts_at(kept_P[piece])

    def _rows(self, given: list[str | None], locales: pa.Array, bad: "_Bad") -> Int64:
        """Find the catalogue's row of each product."""
        ids = trim_ids(_column(given))
        rows_P = self._products.rows(locales, ids) if len(ids) else np.zeros(0, np.int64)
        for place in np.flatnonzero(rows_P < 0).tolist():
            bad.refuse(place, reasons.NO_PRODUCT, f"{ids[place].as_py()!r} in the locale {locales[place].as_py()!r}")
        return rows_P

    def _pieces(self, rows_P: Int64 | None, kept_P: Int64) -> Iterator[slice]:
        if rows_P is None or self.whole_lists or not len(kept_P):
            yield slice(None)
        else:
            yield from self._products.pieces(rows_P[kept_P], self.most_bytes)

    @cached_property
    def _products(self) -> ProductLookup:
        assert self.catalogue is not None
        return look_up(self.catalogue, self.columns, self.locale, self.on_bad_rows, self.own, self.say)


def of_pairs(columns: Mapping[str, str]) -> dict[str, str]:
    """Leave out the own column names that are of the catalogue."""
    return {name: column for name, column in columns.items() if not name.startswith(OF_CATALOGUE)}


def of_products(columns: Mapping[str, str]) -> dict[str, str]:
    """Keep the own column names that are of the catalogue."""
    return {name: column for name, column in columns.items() if name.startswith(OF_CATALOGUE)}


def look_up(
    catalogue: Path, columns: Mapping[str, str], locale: str, on_bad_rows: OnBadRows, own: Sequence[str], say: Say
) -> ProductLookup:
    """Read a catalogue to look products up in, by those of the columns that are named for it."""
    named = of_products(columns)
    products = read_catalogue(catalogue, locale=locale, columns=named, on_bad_rows=on_bad_rows, keep=own, say=say)
    return ProductLookup(products, own)


class _Bad(Refusals):
    """The rows of a part that cannot be scored, each refused once."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self.bad_P: npt.NDArray[np.bool_] = np.zeros(part.pairs.num_rows, np.bool_)

    def add(self, refusal: Refusal, record: Any) -> None:
        """Refuse a row by its number."""
        self.refuse(int(np.searchsorted(self._part.rows_N, refusal.row)), refusal.reason, refusal.detail)

    def refuse(self, place: int, reason: Reason, detail: str) -> None:
        """Refuse a row by its place."""
        if not self.bad_P[place]:
            self.bad_P[place] = True
            self._part.refuse(place, reason, detail)


def _refuse_long_lists(lists: Sequence[Any], texts_at: Callable[[Int64], PairTexts], bad: _Bad) -> None:
    """Refuse lists of too many candidates; pairs that are written alike are one."""
    kept = np.flatnonzero(~bad.bad_P).tolist()
    for name, pairs in Counter(lists[place] for place in kept).items():
        if pairs > LONGEST_LIST:
            places = [place for place in kept if lists[place] == name]
            queries, products, *_ = texts_at(np.array(places))
            read = zip(queries, *products.values(), strict=True)
            size = len({tuple(clean_text(each or "") for each in pair) for pair in read})
            for place in places if size > LONGEST_LIST else ():
                bad.refuse(place, reasons.LONG_LIST, f"{size:,} candidates, and {LONGEST_LIST:,} are read at most")


def _column(values: list[str | None] | None) -> pa.Array | None:
    return None if values is None else pa.array(values, pa.large_string())
