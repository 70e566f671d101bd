"""Pairs in, the same pairs with scores out: streaming, resumable, in bounded memory, by one process or by many.

Files are read as parts (`zhichun.score.parts`), and each part's result is a file of its own in a folder
(`zhichun.score.job_folder`), so that a run that was killed goes on after the last whole part, and shards share a job.
Batches are made inside a part, so no score depends on how many shards there are. One file as the result is a job of one
shard, whose parts are joined at the end.

Legend: ``P`` pairs of a part.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa

import zhichun
from zhichun.core import schema
from zhichun.core.arrays import Int64
from zhichun.core.device import ahead
from zhichun.core.errors import UserError
from zhichun.core.files import NotWritten, in_use
from zhichun.core.storage import NotReached, Source, find_sources, is_url, open_folder, unpacked_name
from zhichun.data.prepare.clean_catalogue import products_file
from zhichun.data.readers.lines import JsonTable
from zhichun.data.readers.pair_tables import (
    KINDS,
    RUNS,
    append_columns,
    columns_of,
    join_parts,
    kind_of,
    let_keys_differ,
    prediction_table,
    require_alike,
    require_writable,
)
from zhichun.data.readers.rejected import NO_SCORE, OnBadRows, Say, silent
from zhichun.data.readers.sources import ENDINGS, open_table
from zhichun.data.readers.table import ParquetTable
from zhichun.data.readers.text_file import require_file
from zhichun.score.engine import AUTO, Progress
from zhichun.score.folders import fingerprint_of
from zhichun.score.job_folder import KEY, Earlier, JobFolder, Keys, Totals, key_column, pair_keys
from zhichun.score.parts import ALL, FILES_A_SHARD, PairReader, Part, Shard
from zhichun.score.scorer import PairScorer, load_scorer
from zhichun.text.pairs import PairTexts

CHUNK_ROWS: Final = 20_000
CHUNK_BYTES: Final = 1 << 26
ROW_ID: Final = "row_id"
COLUMNS: Final = "_columns.json"
KEYS: Final = "_keys-{:05d}.json"


@dataclass(frozen=True, eq=False)
class _Piece:
    """Some pairs of a part, and what was read of those that are to be scored; or how many of a part were."""

    name: str
    part: Part
    scored: int | None = None
    places_P: Int64 | None = None
    read: Any = None
    keys_P2: Keys | None = None
    known: tuple[Any, pa.Table] | None = None


@dataclass(frozen=True)
class ScoringJob:
    """Scores files of pairs.

    Parameters
    ----------
    scorer
        The model.
    pairs
        Tables with a query, and the product's texts or, with ``catalogue``, its id: a file, a folder or a pattern of
        CSV, TSV, JSON Lines or Parquet, on a disk or as a URL.
    out
        CSV, TSV, JSON Lines or Parquet to write, or a TREC run file (``.run``), for which pairs have a ``query_id``; or
        a folder of parts, on a disk or as a URL, in which rows that cannot be scored are listed instead of ending the
        work.
    model_fingerprint
        Of the model with its engine.
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
    since
        Folder of an earlier, finished job, from which the scores of pairs that are the same are taken.
    retry_failed
        Whether parts with rows that failed are scored again; the catalogue may have changed.
    """

    scorer: PairScorer
    pairs: Path | str
    out: Path | str
    model_fingerprint: str
    catalogue: Path | None = None
    columns: Mapping[str, str] | None = None
    locale: str = schema.LOCALES[0]
    prefix: str = ""
    on_bad_rows: OnBadRows = "fail"
    say: Say = silent
    chunk_rows: int = CHUNK_ROWS
    chunk_bytes: int = CHUNK_BYTES
    since: Path | str | None = None
    retry_failed: bool = False

    @classmethod
    def load(cls, run: Path, pairs: Path | str, out: Path | str, *, engine: str = AUTO, **options: Any) -> Self:
        """Load the model of a run, and take it for a job; the other arguments are the job's own."""
        scorer = load_scorer(run, engine=engine, products=options.get("catalogue"))
        return cls(scorer, pairs, out, f"{fingerprint_of(run)} {scorer.engine_name}", **options)

    def run(self, progress: Progress | None = None) -> int:
        """Score all rows; the result is a file.

        Returns
        -------
        int
            Rows written.

        Raises
        ------
        UserError
            For a file that cannot be read, a missing column, an empty query or an unknown product.
        """
        out = Path(self.out)
        kind_of(out, (*KINDS, *RUNS))
        if out.is_dir():
            raise UserError("is a folder, not a file.", file=out, remedy="Name a file.")
        parts = out.with_name(f"{out.name}.parts")
        with in_use(parts):
            folder = self._job_folder(parts)
            folder.claim(anew=True)
            try:
                done = self._write_parts(folder, ALL, progress)
                join_parts([parts / name for name in done], out)
            except (NotReached, NotWritten):  # which the next call may not meet: it goes on after the parts
                raise
            except UserError:  # what was given must change first, and the parts would then be of something else
                shutil.rmtree(parts)
                raise
            shutil.rmtree(parts)
        return Totals.of(done.values()).rows

    def run_shard(self, shard: Shard = ALL, progress: Progress | None = None) -> tuple[Totals, Totals | None]:
        """Score the parts of one shard; the result is a folder, to which others may write at the same time.

        Returns
        -------
        tuple
            Totals of this shard; and those of the whole job where every shard is done.

        Raises
        ------
        UserError
            For files that cannot be read, a missing column, or a folder of another job.
        """
        folder = self._job_folder(self.out)
        folder.claim(changed="catalogue" if self.retry_failed else None)
        if self.retry_failed:
            folder.begin_again(shard)
        elif (finished := folder.finished()) is not None:
            return Totals(0, 0), finished
        done = self._write_parts(folder, shard, progress)
        folder.record(shard, done)
        return Totals.of(done.values()), folder.finish() if folder.is_complete() else None

    def total(self, shard: Shard = ALL) -> int:
        """Rows to score, and 0 where only reading the files would tell."""
        if is_url(self.pairs):
            return 0
        tables = (open_table(Path(each.path)) for each in self._sources)
        return sum(each.total for each in tables if isinstance(each, ParquetTable)) // shard.count

    @cached_property
    def _in_parts(self) -> bool:
        return is_folder(self.out)

    @cached_property
    def _sources(self) -> list[Source]:
        found = sources_of(self.pairs, self.out)
        for source in () if is_url(self.pairs) else found:
            require_file(Path(source.path))
        return found

    @cached_property
    def _earlier(self) -> Earlier | None:
        earlier = None if self.since is None else Earlier(open_folder(self.since))
        if earlier is not None and earlier.model != self.model_fingerprint:
            self.say(f"{self.since} was scored by another model or engine: all pairs are scored again")
        return earlier

    def _job_folder(self, place: Path | str) -> JobFolder:
        job: dict[str, Any] = {
            "zhichun": zhichun.__version__,
            "model": self.model_fingerprint,
            "files": [source.name for source in self._sources],
            "since": None if self._earlier is None else self._earlier.fingerprint,
            "columns": dict(self.columns or {}),
            **{name: getattr(self, name) for name in ("locale", "prefix", "on_bad_rows", "chunk_rows", "chunk_bytes")},
        }
        stamps = {source.name: source.stamp() for source in self._sources}
        if self.catalogue is not None:
            file = products_file(self.catalogue)
            require_file(file)
            stamps["catalogue"] = [file.stat().st_size, file.stat().st_mtime_ns]
        return JobFolder(open_folder(place), job, stamps)

    def _write_parts(self, folder: JobFolder, shard: Shard, progress: Progress | None) -> dict[str, Totals]:
        """Score what is missing of a shard; gives all its parts, in order."""
        done: dict[str, Totals] = {}
        with closing(ahead(self._pieces(folder, shard), self.scorer.lookahead)) as pieces:
            for part, of_part in groupby(pieces, attrgetter("part")):
                tables = []
                for piece in of_part:
                    name = piece.name
                    if piece.scored is None:
                        tables.append(self._scored(piece, progress))
                    else:
                        done[name] = Totals(piece.scored, part.rows - piece.scored)
                        if progress:
                            progress(part.pairs.num_rows)
                if tables:
                    scored = pa.concat_tables(tables).combine_chunks()
                    folder.write(name, scored, part.refused.found)
                    done[name] = Totals(scored.num_rows, len(part.refused.found))
        return done

    def _pieces(self, folder: JobFolder, shard: Shard) -> Iterator[_Piece]:
        """Read a shard's parts piece by piece, with their texts; parts that are there already are left unread."""
        number, seen, keys, read = 0, set[int](), list[list[str]](), dict[str, str]()
        # A list in two files is seen only by who reads all of them.
        by_file = len(self._sources) >= FILES_A_SHARD * shard.count and not self.scorer.reads_lists
        for place, source in enumerate(self._sources):
            if by_file and not shard.has(place):
                continue
            with source.local() as path:
                _require_unchanged(source, folder)
                table = open_table(path)
                if isinstance(table, JsonTable) and len(self._sources) > 1:
                    keys = keys or self._keys(folder, shard)
                    table.names = list(dict.fromkeys(chain.from_iterable(keys)))
                    table.require_unique_names()
                columns = folder.agreed(COLUMNS, partial(columns_of, table))
                if len(self._sources) > 1:
                    require_alike(table, columns)
                elif isinstance(table, JsonTable):
                    table.names = list(columns)  # for which the first shard read it
                read = read or self._reader.match(table)
                if isinstance(table, JsonTable):
                    let_keys_differ(table, keys[place] if keys else table.names, read)
                for part in self._reader.parts(table, source.name, columns, read, seen):
                    number += 1
                    if not by_file and not shard.has(number - 1):
                        continue
                    name = folder.part_name(place, part.first)
                    if (scored := folder.scored(name, part.rows, again=self.retry_failed)) is not None:
                        yield _Piece(name, part, scored)
                    else:
                        yield from self._read(name, part, read)
                        _require_unchanged(source, folder)

    def _keys(self, folder: JobFolder, shard: Shard) -> list[list[str]]:
        """Find the keys of each file of JSON, which one shard reads for them, for all."""
        count = len(self._sources)
        begin = count * shard.index // shard.count  # those that begin at once have different ones to read first
        order = (*range(begin, count), *range(begin))
        found = {place: folder.agreed(KEYS.format(place), partial(_names, self._sources[place])) for place in order}
        return [found[place] for place in range(count)]

    @cached_property
    def _reader(self) -> PairReader:
        return PairReader(
            rows=self.chunk_rows,
            most_bytes=self.chunk_bytes,
            listing=self._in_parts,
            own=self.scorer.own,
            whole_lists=self.scorer.reads_lists,
            catalogue=self.catalogue,
            columns=self.columns or {},
            locale=self.locale,
            on_bad_rows=self.on_bad_rows,
            say=self.say,
        )

    def _read(self, name: str, part: Part, columns: Mapping[str, str]) -> Iterator[_Piece]:
        """Read the texts of a part that are not known yet."""
        nothing = self._identified(self._nothing, part, [], pair_keys("", PairTexts([], {}, []), None))
        empty = append_columns(part.pairs.slice(0, 0), nothing, self.prefix, part.file)
        if not self._in_parts:
            require_writable(empty, Path(self.out))
        for places_P, texts in self._reader.read(part, columns):
            keys_P2, known, unknown = None, None, texts
            if self._in_parts:
                lists = texts.of_lists if self.scorer.reads_lists else None
                keys_P2 = pair_keys(self.model_fingerprint, texts, lists)
                if self._earlier is not None:
                    known = self._earlier.find(keys_P2, self._nothing, lists)
                    new = np.flatnonzero(~known[0]).tolist()
                    products = {field: [of[place] for place in new] for field, of in texts.products.items()}
                    queries, locales = ([of[place] for place in new] for of in (texts.queries, texts.locales))
                    unknown = PairTexts(queries, products, locales)
            read = self.scorer.read(unknown) if unknown.queries else None
            yield _Piece(name, part, None, places_P, read, keys_P2, known)

    def _scored(self, piece: _Piece, progress: Progress | None) -> pa.Table:
        """Score a piece of a part; pairs without a score are left out."""
        assert piece.places_P is not None
        part, places_P, found = piece.part, piece.places_P, self._nothing
        if piece.read is not None:
            found = prediction_table(self.scorer.predict(piece.read, progress=progress))
        if piece.known is not None:
            known_P, of_known = piece.known
            order_P = np.argsort(np.concatenate([np.flatnonzero(~known_P), np.flatnonzero(known_P)]))
            found = pa.concat_tables([found, of_known]).take(pa.array(order_P))
            if progress:
                progress(len(of_known))
        numbers = [column for column in found.columns if pa.types.is_floating(column.type)]
        finite_P = np.all([np.isfinite(column.to_numpy()) for column in numbers], axis=0)
        for place in places_P[~finite_P].tolist():
            part.refuse(place, NO_SCORE, "by the model")
        found = self._identified(found, part, part.rows_N[places_P].tolist(), piece.keys_P2)
        whole = append_columns(part.pairs.take(pa.array(places_P)), found, self.prefix, part.file)
        return whole if finite_P.all() else whole.filter(pa.array(finite_P))

    def _identified(self, found: pa.Table, part: Part, rows: list[int], keys_P2: Keys | None) -> pa.Table:
        """Add ids and keys to scores; a file has none."""
        if not self._in_parts or keys_P2 is None:
            return found
        ids = pa.array([f"{part.refused.file}:{row}" for row in rows], pa.string())
        return found.append_column(ROW_ID, ids).append_column(KEY, key_column(keys_P2))

    @cached_property
    def _nothing(self) -> pa.Table:
        """The columns of a prediction, of no pair."""
        task = self.scorer.task
        return prediction_table(task.predict(np.zeros((0, task.outputs), np.float32)))


def is_folder(out: Path | str) -> bool:
    """Tell whether a result is a folder of parts: it is an address, or there already, or has no ending.

    Raises
    ------
    UserError
        For an address with the name of a file.
    """
    if is_url(out) and unpacked_name(Path(out)).endswith((*ENDINGS, *RUNS)):
        remedy = "Name a folder, without an ending, or a file on a disk."
        raise UserError("names a file; into a store, scores are written as a folder of parts.", file=out, remedy=remedy)
    return is_url(out) or (Path(out).is_dir() and Path(out).suffix not in KINDS) or not Path(out).suffix


def sources_of(pairs: Path | str, out: Path | str) -> list[Source]:
    """Find the files to score; the result and its parts may lie among them."""
    return find_sources(pairs, ENDINGS, but=(out, f"{out}.parts"))


def finish_job(out: Path | str) -> Totals:
    """Write ``_SUCCESS`` into the folder of a job of which every shard is done; see `JobFolder.finish`."""
    return JobFolder(open_folder(out), {}, {}).finish()


def _names(source: Source) -> list[str]:
    with source.local() as path:
        return list(open_table(path).names)


def _require_unchanged(source: Source, folder: JobFolder) -> None:
    """Refuse a file that is no longer the one that the job was claimed with."""
    if source.stamp() != folder.stamps[source.name]:
        problem = "was changed while it was read."
        raise UserError(problem, file=source.path, remedy="Score it again, into another folder.")
