"""The folder of a scoring job, to which several processes write: parts that have the same name whoever makes them.

| name | what |
| --- | --- |
| ``_manifest.json`` | which job it is: another one is refused |
| ``part-FILE-ROW-FINGERPRINT.parquet`` | scored pairs; number of the file, first row, fingerprint of the job |
| ``_failed/`` | of each part with such rows: those that could not be scored, with their reasons |
| ``_shards/`` | of each shard that is done: a hash of the stamps, its parts with pairs scored and rows failed |
| ``_SUCCESS`` | written last: how many there are in all |

Scores of an earlier job are found by a hash of what they depend on: the model, the query and the product's texts. In
models that read lists a score depends on the whole list, and so does its key. Of each pair 16 bytes are held.

Legend: ``P`` pairs, ``K`` pairs of the earlier job.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from zhichun.core.arrays import Bools
from zhichun.core.errors import UserError, readable
from zhichun.core.storage import Folder, NotReached
from zhichun.data.readers.rejected import Record, Refusal, RejectedRows
from zhichun.score.parts import Shard
from zhichun.text.features import HASH_BYTES, hash_texts
from zhichun.text.pairs import PairTexts

MANIFEST: Final = "_manifest.json"
SUCCESS: Final = "_SUCCESS"
FAILED: Final = "_failed"
SHARDS: Final = "_shards"
KIND: Final = "zhichun scores"
FORMAT: Final = 2


class Totals(NamedTuple):
    """Pairs that were scored, rows that failed."""

    rows: int
    failed: int

    @classmethod
    def of(cls, parts: Iterable[Iterable[int]]) -> "Totals":
        """Add those of parts up."""
        return cls(*map(sum, zip((0, 0), *parts, strict=True)))


class JobFolder:
    """The folder of one job.

    Parameters
    ----------
    folder
        Where it is.
    job
        All that decides what its parts hold, by name: model, options, names of the files.
    stamps
        Of its files, and of the catalogue: tell them from themselves before a change.
    """

    def __init__(self, folder: Folder, job: Mapping[str, Any], stamps: Mapping[str, Any]) -> None:
        self._folder, self.stamps = folder, dict(stamps)
        self._identity: dict[str, Any] = {"kind": KIND, "format": FORMAT, "job": dict(job), "stamps": self.stamps}
        self._fingerprint = _hashed(self._identity["job"])
        self._names, self._failed = set[str](), set[str]()

    def claim(self, *, anew: bool = False, changed: str | None = None) -> None:
        """Write whose folder it is, or check it.

        Parameters
        ----------
        anew
            Whether what another job left is removed.
        changed
            A stamp that may differ.

        Raises
        ------
        UserError
            When it is another job's, says what differs; or when it holds something else.
        """
        # Names first: another shard may write the manifest, and then parts, meanwhile.
        names = self._folder.names()
        found = self._json(MANIFEST)
        if anew and (found is None or self._differences(found)):
            for name in names:
                self._folder.remove(name)
            found, names = None, []
        if found is None:
            if names:
                raise UserError("the folder holds something else.", file=str(self._folder), remedy="Name another one.")
            self._folder.create(MANIFEST, json.dumps(self._identity, indent=2, ensure_ascii=False) + "\n")
            found = self._json(MANIFEST) or {}
        if changed is not None and self._differences(found) == self._differences(found, only=changed) != []:
            self._write(MANIFEST, self._identity)
        elif differences := self._differences(found):
            raise UserError(
                f"the folder holds another job: {'; '.join(differences)}.",
                file=str(self._folder),
                remedy="Name another folder; --since this one takes over what is the same.",
            )
        self._names, self._failed = set(self._folder.names()), set(self._folder.names(FAILED))

    def _differences(self, found: Any, only: str | None = None) -> list[str]:
        """Say what differs in a job that was found."""
        if not isinstance(found, dict) or found.get("kind") != KIND or found.get("format") != FORMAT:
            return ["it was made by another version of zhichun"]
        said = []
        for part, text in (("job", "{} was {} and is {}"), ("stamps", "{} has changed")):
            before, now = found[part], self._identity[part]
            names = (name for name in sorted({*before, *now}) if before.get(name) != now.get(name))
            some = (name for name in names if only in (None, name))
            said += [text.format(name, _short(before.get(name)), _short(now.get(name))) for name in some]
        return said

    def agreed(self, name: str, find: Callable[[], Any]) -> Any:
        """Return what is the same for all shards: the first that needs it finds it, and writes it down."""
        if (found := self._json(name)) is None:
            self._folder.create(name, json.dumps(find()))
            found = self._json(name)
        return found

    def part_name(self, file: int, row: int) -> str:
        """Name a part by its file's number and its first row."""
        return f"part-{file:05d}-{row:012d}-{self._fingerprint}.parquet"

    def scored(self, name: str, rows: int, *, again: bool = False) -> int | None:
        """Return how many of a part's rows were scored; ``None`` where it is to be scored.

        That is where it is missing or not whole, or has rows that failed and are to be tried ``again``.
        """
        if name not in self._names or (again and name in self._failed) or (found := self._rows(name)) is None:
            return None
        listed = self._rows(f"{FAILED}/{name}") if name in self._failed else 0
        return found if listed is not None and found + listed == rows else None

    def write(self, name: str, pairs: pa.Table, failed: Iterable[tuple[Refusal, Record]]) -> None:
        """Write a part, after the list of its rows that failed."""
        listed = sorted(failed, key=lambda each: each[0].row)
        if listed:
            with self._folder.new(f"{FAILED}/{name}") as path, RejectedRows(path) as rejected:
                for refusal, record in listed:
                    rejected.add(refusal, record)
        with self._folder.new(name) as path:
            pq.write_table(pairs, path, compression="zstd", write_page_checksum=True)
        if not listed and name in self._failed:
            self._folder.remove(f"{FAILED}/{name}")

    def begin_again(self, shard: Shard) -> None:
        """Take back that the job is done, for a shard that tries again what failed."""
        self._folder.remove(SUCCESS)
        own = _record(shard)
        for name in self._folder.names(SHARDS):
            if name == own or name.partition("-of-")[2] != own.partition("-of-")[2]:
                self._folder.remove(f"{SHARDS}/{name}")

    def record(self, shard: Shard, parts: Mapping[str, Totals]) -> None:
        """Write that a shard is done."""
        self._write(f"{SHARDS}/{_record(shard)}", {"stamps": _hashed(self.stamps), "parts": parts})

    def finished(self) -> Totals | None:
        """Return the totals of a job that is done and whole; what is damaged is to be made again."""
        done = self._json(SUCCESS)
        if done is None:
            return None
        if all(self._rows(name) == rows for name, rows in self._all_parts()[0].items()):
            return Totals(done["rows"], done["failed"])
        self._folder.remove(SUCCESS)
        return None

    def is_complete(self) -> bool:
        """Return whether every shard is done."""
        return not self._all_parts()[2]

    def finish(self) -> Totals:
        """Write ``_SUCCESS`` where every shard is done.

        Raises
        ------
        UserError
            When one is not: says which.
        """
        parts, totals, lacking = self._all_parts()
        lost = [] if lacking else sorted(name for name, rows in parts.items() if self._rows(name) != rows)
        if lacking or lost:
            said = f"the job is not done: {lacking}" if lacking else f"{len(lost)} parts are missing or cut: {lost[0]}"
            raise UserError(said, file=str(self._folder), remedy="Run what is missing again: it goes on.")
        self._folder.tidy()
        self._write(SUCCESS, {"rows": totals.rows, "failed": totals.failed, "parts": len(parts)})
        return totals

    def _all_parts(self) -> tuple[dict[str, int], Totals, str]:
        """Return the parts of the shards that are done, with their rows, the totals, and which shards are not."""
        now = _hashed((self._json(MANIFEST) or {}).get("stamps"))
        by_count: dict[int, dict[int, dict[str, list[int]]]] = {}
        for name in self._folder.names(SHARDS):
            index, count = map(int, name.removesuffix(".json").split("-of-"))
            record = self._json(f"{SHARDS}/{name}")
            if record and record["stamps"] == now:  # and not of what the files or the catalogue were before
                by_count.setdefault(count, {})[index] = record["parts"]
        if not by_count:
            return {}, Totals(0, 0), "no shard is done."
        count = max(by_count, key=lambda each: (len(by_count[each]) / each, each))
        found = {name: rows for parts in by_count[count].values() for name, rows in parts.items()}
        lacking = ", ".join(f"{index}/{count}" for index in range(count) if index not in by_count[count])
        said = f"these shards are not: {lacking}." if lacking else ""
        return {name: rows for name, (rows, _) in found.items()}, Totals.of(found.values()), said

    def _rows(self, name: str) -> int | None:
        """Read how many pairs a part has; ``None`` where it was cut short."""
        try:
            with self._folder.open(name) as file:
                return int(pq.read_metadata(file).num_rows)
        except NotReached:  # which says nothing of the part
            raise
        except (pa.ArrowException, OSError, UserError):
            return None

    def _json(self, name: str) -> Any:
        """Read a file; ``None`` where there is none, whatever a store makes of that, or it is damaged."""
        try:
            with self._folder.open(name) as opened:
                return json.loads(opened.read())
        except NotReached:
            raise
        except (FileNotFoundError, NotADirectoryError, UserError, ValueError):
            return None

    def _write(self, name: str, value: Any) -> None:
        with self._folder.new(name) as path:
            path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _hashed(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def _record(shard: Shard) -> str:
    return f"{shard.index:05d}-of-{shard.count:05d}.json"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}…"


KEY: Final = "pair_key"
_PARTS_HELD: Final = 8
REMEDY: Final = "Run the earlier job again, which makes the part anew, or leave --since out."
Keys = npt.NDArray[np.uint64]


def pair_keys(model: str, texts: PairTexts, lists: Sequence[Any] | None) -> Keys:
    """Hash what each pair's score depends on, ``[P, 2]``.

    Parameters
    ----------
    model
        The model with its engine.
    texts
        Of the pairs, as they are scored.
    lists
        List of each pair, for models that read lists.
    """
    names = sorted(texts.products)
    columns = zip(texts.queries, texts.locales, *(texts.products[name] for name in names), strict=True)
    keys = [hash_texts((model, *names, *each)) for each in columns]
    if lists is not None:
        of_list: dict[Any, set[bytes]] = {}
        for name, key in zip(lists, keys, strict=True):
            of_list.setdefault(name, set()).add(key)
        whole = {name: b"".join(sorted(found)) for name, found in of_list.items()}
        keys = [
            hashlib.blake2b(key + whole[name], digest_size=HASH_BYTES).digest()
            for name, key in zip(lists, keys, strict=True)
        ]
    return np.frombuffer(b"".join(keys), np.uint64).reshape(-1, 2)


def key_column(keys_P2: Keys) -> pa.Array:
    """Return keys as a column."""
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(HASH_BYTES), len(keys_P2), [None, pa.py_buffer(np.ascontiguousarray(keys_P2))]
    )


class Earlier:
    """The parts of a finished job.

    Parameters
    ----------
    folder
        Where it is.

    Raises
    ------
    UserError
        When no finished job is there.
    """

    def __init__(self, folder: Folder) -> None:
        names = folder.names()
        if MANIFEST not in names or SUCCESS not in names:
            problem = "is not finished." if MANIFEST in names else "holds no scored parts."
            raise UserError(problem, file=str(folder), remedy="Give the folder of a finished zhichun score.")
        self._folder = folder
        with folder.open(MANIFEST) as first, folder.open(SUCCESS) as second:
            manifest = first.read()
            self.fingerprint = hashlib.sha256(manifest + second.read()).hexdigest()[:16]
        with readable(f"{folder}/{MANIFEST}", REMEDY, KeyError):
            self.model = json.loads(manifest)["job"]["model"]
        self._parts = [name for name in names if name.startswith("part-") and name.endswith(".parquet")]
        firsts = [self._keys(part)[:, 0].copy() for part in range(len(self._parts))]
        part_K = np.repeat(np.arange(len(firsts), dtype=np.int32), list(map(len, firsts)))
        row_K = np.concatenate([np.zeros(0, np.int32), *(np.arange(len(of), dtype=np.int32) for of in firsts)])
        first_K = np.concatenate([np.zeros(0, np.uint64), *firsts])
        del firsts  # of 10^8 pairs 800 MB
        order_K = np.argsort(first_K, kind="stable")
        self._first_K, self._part_K, self._row_K = first_K[order_K], part_K[order_K], row_K[order_K]
        self._scores = lru_cache(_PARTS_HELD)(self._read)

    def find(self, keys_P2: Keys, columns: pa.Table, lists: Sequence[Any] | None) -> tuple[Bools, pa.Table]:
        """Find pairs: which are known, ``[P]``, and the scores of these.

        Parameters
        ----------
        keys_P2
            Of `pair_keys`.
        columns
            The columns that scores have.
        lists
            List of each pair, for models that read lists: one of which a pair had no score is not known.
        """
        place_P = np.searchsorted(self._first_K, keys_P2[:, 0])
        known_P = place_P < len(self._first_K)
        known_P[known_P] = self._first_K[place_P[known_P]] == keys_P2[known_P, 0]
        found, places = [columns.slice(0, 0)], [np.zeros(0, np.int64)]
        for part in np.unique(self._part_K[place_P[known_P]]).tolist():
            scores, of_part_R2 = self._scores(part, tuple(columns.column_names))
            at = np.flatnonzero(known_P)
            at = at[self._part_K[place_P[at]] == part]
            row = self._row_K[place_P[at]]
            same = of_part_R2[row, 1] == keys_P2[at, 1]
            known_P[at[~same]] = False
            found.append(scores.take(pa.array(row[same])).cast(columns.schema))
            places.append(at[same])
        scores = pa.concat_tables(found).take(pa.array(np.argsort(np.concatenate(places))))
        if lists is None:
            return known_P, scores
        lacking = set(itertools.compress(lists, ~known_P))
        whole_P = np.array([name not in lacking for name in lists], np.bool_)
        return known_P & whole_P, scores.filter(pa.array(whole_P[known_P]))

    @contextmanager
    def _opened(self, part: int) -> Iterator[pq.ParquetFile]:
        name = self._parts[part]
        with (
            readable(f"{self._folder}/{name}", REMEDY, pa.ArrowException, StopIteration),
            self._folder.open(name) as file,
        ):
            yield pq.ParquetFile(file)

    def _keys(self, part: int) -> Keys:
        with self._opened(part) as found:
            name = next(name for name in reversed(found.schema_arrow.names) if name.endswith(KEY))
            column = found.read([name]).column(0).combine_chunks()
            return np.frombuffer(b"".join(column.to_pylist()), np.uint64).reshape(-1, 2)

    def _read(self, part: int, columns: tuple[str, ...]) -> tuple[pa.Table, Keys]:
        with self._opened(part) as found:
            prefix = found.schema_arrow.names[-1].removesuffix(KEY)
            scores = found.read([prefix + name for name in columns])
        return scores.rename_columns(list(columns)), self._keys(part)
