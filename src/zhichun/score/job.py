"""A file of pairs in, the same file with scores out: streaming, resumable, in bounded memory.

The file is read in chunks; each chunk's result is a part beside the final file, so that a run that was killed goes on
after the last whole part. The parts become one file at the end, under its name at once.
"""

import itertools
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zhichun.core import schema
from zhichun.core.arrays import Int64
from zhichun.core.device import ahead
from zhichun.core.errors import UserError
from zhichun.core.files import NotWritten, in_use, new_file, write_json
from zhichun.core.tasks import Prediction
from zhichun.data.prepare.clean_catalogue import products_file, read_catalogue
from zhichun.data.readers.pair_tables import (
    append_columns,
    join_parts,
    kind_of,
    read_chunks,
    require_writable,
    texts,
)
from zhichun.data.readers.rejected import OnBadRows, Say, silent
from zhichun.data.readers.sources import PAIRS, describe_columns, kept_columns, match_pairs, open_table
from zhichun.data.readers.table import ParquetTable, Table
from zhichun.data.readers.text_file import require_file
from zhichun.score.engines.engine import Progress
from zhichun.score.rank import ProductLookup
from zhichun.score.scorer import PairScorer
from zhichun.text.clean import clean_text
from zhichun.text.fold import fold_locales, trim_ids

CHUNK_ROWS = 20_000
PARTS = "part-*.parquet"
CHUNK_BYTES = 1 << 26
OF_CATALOGUE = "products."


@dataclass(frozen=True)
class _Piece:
    """Pairs of one part, and what was read of their texts; nothing where the part is there already."""

    path: Path
    pairs: pa.Table
    read: Any | None


@dataclass(frozen=True)
class ScoringJob:
    """Scores a file of pairs.

    Parameters
    ----------
    scorer
        The model.
    pairs
        CSV, TSV or Parquet with a query, and the product's texts or, with ``catalogue``, its id.
    out
        CSV, TSV or Parquet to write.
    model_fingerprint
        Of the model: parts of another one are thrown away.
    catalogue
        Table or folder to look products up in.
    columns
        Own column names: ``{"query": "search_term"}``; those of the catalogue with ``products.`` before the key.
    locale
        Locale of rows without one.
    prefix
        Prefix of the new columns.
    on_bad_rows
        Whether products of the catalogue that cannot be used stop the work (``fail``) or are left out (``drop``).
    say
        Called with lines for the user: which columns are used for what.
    chunk_rows
        Rows of a part at most.
    chunk_bytes
        Texts that are held at once, about; long ones make parts of fewer rows.
    """

    scorer: PairScorer
    pairs: Path
    out: Path
    model_fingerprint: str
    catalogue: Path | None = None
    columns: Mapping[str, str] | None = None
    locale: str = schema.LOCALES[0]
    prefix: str = ""
    on_bad_rows: OnBadRows = "fail"
    say: Say = silent
    chunk_rows: int = CHUNK_ROWS
    chunk_bytes: int = CHUNK_BYTES

    def run(self, progress: Progress | None = None) -> int:
        """Score all rows.

        Returns
        -------
        int
            Rows written.

        Raises
        ------
        UserError
            For a file that cannot be read, a missing column, an empty query or an unknown product.
        """
        kind_of(self.out)
        if self.out.is_dir():
            raise UserError("is a folder, not a file.", file=self.out, remedy="Name a file.")
        require_file(self.pairs)
        parts = self.out.with_name(f"{self.out.name}.parts")
        with in_use(parts):
            self._open_parts(parts)
            try:
                rows, paths = self._write_parts(parts, progress)
                join_parts(paths, self.out)
            except NotWritten as error:
                done = len(list(parts.glob(PARTS)))
                raise NotWritten(
                    f"{error.problem} {done} parts are done and lie in {parts}.",
                    file=error.file,
                    remedy="Free some disk space and run the command again: it goes on after them.",
                ) from error
            except UserError:  # what was given must change first, and the parts would then be of something else
                shutil.rmtree(parts)
                raise
            shutil.rmtree(parts)
        return rows

    def _write_parts(self, parts: Path, progress: Progress | None) -> tuple[int, list[Path]]:
        rows, paths = 0, []
        with closing(ahead(self._pieces(parts), self.scorer.lookahead)) as pieces:
            for path, of_part in groupby(pieces, attrgetter("path")):
                scored = []
                for piece in of_part:
                    rows += piece.pairs.num_rows
                    if piece.read is not None:
                        some = piece.pairs.num_rows > 0
                        prediction = self.scorer.predict(piece.read, progress=progress) if some else self._nothing
                        scored.append(append_columns(piece.pairs, prediction, self.prefix, self.pairs))
                    elif progress:
                        progress(piece.pairs.num_rows)
                if scored:
                    with new_file(path) as partial:
                        pq.write_table(pa.concat_tables(scored), partial)
                paths.append(path)
        return rows, paths

    def total(self) -> int:
        """Rows to score, and 0 where only reading the file would tell."""
        return self._table.total if isinstance(self._table, ParquetTable) else 0

    def _open_parts(self, parts: Path) -> None:
        job = {
            "pairs": _stamp(self.pairs),
            "catalogue": None if self.catalogue is None else _stamp(products_file(self.catalogue)),
            "model": self.model_fingerprint,
            "columns": dict(self.columns or {}),
            **{name: getattr(self, name) for name in ("locale", "prefix", "chunk_rows", "chunk_bytes")},
        }
        plan = parts / "job.json"
        if not plan.is_file() or json.loads(plan.read_text("utf-8")) != job:
            for part in parts.glob(PARTS):
                part.unlink()
            write_json(plan, job)

    def _pieces(self, parts: Path) -> Iterator[_Piece]:
        """Read the pairs piece by piece, with their texts; those of a part that is there already are left unread."""
        before = 0
        chunks = read_chunks(self._table, self.chunk_rows, self.chunk_bytes)
        for number, chunk in enumerate(self._whole_lists(chunks) if self.scorer.reads_lists else chunks):
            path = parts / f"part-{number:06d}.parquet"
            if path.is_file():
                yield _Piece(path, chunk, None)
            else:
                yield from (_Piece(path, pairs, read) for pairs, read in self._read(chunk, before))
            before += chunk.num_rows

    def _whole_lists(self, chunks: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Move the rows of each chunk's last query to the next chunk, so that no list is in two."""
        held: list[pa.Table] = []
        seen, before = set[int](), 0
        for chunk in itertools.chain(chunks, [None]):  # the last query's rows come at the end
            table = pa.concat_tables(held if chunk is None else [*held, chunk])
            keys = list(zip(*(texts(table, column, self.pairs, before) for column in self._list_columns), strict=True))
            starts = [row for row in range(len(keys)) if not row or keys[row] != keys[row - 1]]
            for row in starts if chunk is None else starts[:-1]:
                if hash(keys[row]) in seen:
                    raise UserError(
                        f"the rows of the query {keys[row][0]!r} are not together; this model reads them as one list.",
                        file=self.pairs,
                        row=before + row + 1,
                        remedy="Sort the file by query.",
                    )
                seen.add(hash(keys[row]))
            cut = len(keys) if chunk is None or not starts else starts[-1]
            held = [table.slice(cut)]
            before += cut
            if cut or chunk is None:
                yield table.slice(0, cut)

    @property
    def _list_columns(self) -> list[str]:
        """Name the columns that say which list a row belongs to."""
        return [self._columns[name] for name in (schema.QUERY, schema.LOCALE) if name in self._columns]

    def _read(self, chunk: pa.Table, before: int) -> Iterator[tuple[pa.Table, Any]]:
        """Read a chunk's texts, no more at once than are to be held; gives pairs, and what was read of them."""
        require_writable(append_columns(chunk.slice(0, 0), self._nothing, self.prefix, self.pairs), self.out)

        given = {name: texts(chunk, column, self.pairs, before) for name, column in self._columns.items()}
        queries = [query or "" for query in given.pop(schema.QUERY)]
        for row, query in enumerate(queries, start=before + 1):
            if not clean_text(query):
                raise UserError("the query is empty.", file=self.pairs, row=row, remedy="Fill or drop it.")
        locales = fold_locales(_column(given.pop(schema.LOCALE, None)), self.locale, chunk.num_rows)
        if not chunk.num_rows:
            yield chunk, ()
            return
        if self.catalogue is None:
            yield chunk, self.scorer.read(queries, given, locales.to_pylist())
            return
        products, ids = self._products, trim_ids(_column(given[schema.PRODUCT_ID]))
        rows = products.rows(locales, ids)
        self._require_found(rows, ids, locales, before)
        whole = [slice(0, len(rows))]  # with whole lists
        for piece in whole if self.scorer.reads_lists else products.pieces(rows, self.chunk_bytes):
            start, count = piece.start, piece.stop - piece.start
            of_piece = queries[piece], products.texts(rows[piece]), locales.slice(start, count).to_pylist()
            yield chunk.slice(start, count), self.scorer.read(*of_piece)

    @property
    def _nothing(self) -> Prediction:
        """The prediction of no pair: its columns are those of the result."""
        task = self.scorer.task
        return task.predict(np.zeros((0, task.outputs), np.float32))

    @cached_property
    def _table(self) -> Table:
        return open_table(self.pairs)

    @cached_property
    def _columns(self) -> dict[str, str]:
        """Which column of the pairs holds what is needed of them."""
        own = {name: column for name, column in (self.columns or {}).items() if not name.startswith(OF_CATALOGUE)}
        columns = match_pairs(own, self._table, catalogue=self.catalogue is not None)
        if self.catalogue is None:
            columns |= kept_columns(self.scorer.own, self._table)
        for line in describe_columns(PAIRS, columns, self._table):
            self.say(line)
        return columns

    @cached_property
    def _products(self) -> ProductLookup:
        assert self.catalogue is not None
        columns = {name: column for name, column in (self.columns or {}).items() if name.startswith(OF_CATALOGUE)}
        products = read_catalogue(
            self.catalogue,
            locale=self.locale,
            columns=columns,
            on_bad_rows=self.on_bad_rows,
            keep=self.scorer.own,
            say=self.say,
        )
        return ProductLookup(products, self.scorer.own)

    def _require_found(self, rows: Int64, ids: pa.Array, locales: pa.Array, before: int) -> None:
        if len(missing := np.flatnonzero(rows < 0)):
            place = int(missing[0])
            raise UserError(
                f"there is no product {ids[place].as_py()!r} in the locale {locales[place].as_py()!r}.",
                file=self.pairs,
                row=before + place + 1,
                remedy="Add it to the catalogue given with --products.",
            )


def _column(values: list[str | None] | None) -> pa.Array | None:
    return None if values is None else pa.array(values, pa.large_string())


def _stamp(path: Path) -> list[Any]:
    """Tell a file from another of that name, and from itself before a change."""
    require_file(path)
    stat = path.stat()
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns]
