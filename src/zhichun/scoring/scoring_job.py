"""A file of pairs in, the same file with scores out: streaming, resumable, in bounded memory.

The file is read in chunks; each chunk's result is a part beside the final file, so that a run that was killed goes on
after the last whole part. The parts become one file at the end, under its name at once.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zhichun import schema
from zhichun.data.dataset import product_keys, read_parquet
from zhichun.errors import UserError
from zhichun.files import replacing, write_json
from zhichun.scoring.pair_tables import KINDS, append_columns, find_columns, join_parts, read_chunks
from zhichun.scoring.scorer import Scorer

CHUNK_ROWS = 20_000
Progress = Callable[[int], None]


@dataclass(frozen=True)
class ScoringJob:
    """Scores a file of pairs.

    Parameters
    ----------
    scorer
        The model.
    pairs
        CSV, TSV or Parquet with a query, and the product's texts or, with ``products``, its id.
    out
        CSV, TSV or Parquet to write.
    model_fingerprint
        What a part made by another model is told by.
    products
        Catalogue to look products up in.
    columns
        Own column names: ``{"query": "search_term"}``.
    prefix
        Put before the names of the new columns.
    chunk_rows
        Rows of a part.
    """

    scorer: Scorer
    pairs: Path
    out: Path
    model_fingerprint: str
    products: pa.Table | None = None
    columns: Mapping[str, str] | None = None
    prefix: str = ""
    chunk_rows: int = CHUNK_ROWS

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
        if self.out.suffix not in KINDS:
            raise UserError(
                "is of no known kind.", file=self.out, remedy=f"Name a file that ends with {', '.join(KINDS)}."
            )
        parts = self.out.with_name(f"{self.out.name}.parts")
        self._open_parts(parts)
        row, paths = 0, []
        for number, chunk in enumerate(read_chunks(self.pairs, self.chunk_rows)):
            path = parts / f"part-{number:06d}.parquet"
            if not path.is_file():
                scored = self._score(chunk, row, progress)
                with replacing(path) as partial:
                    pq.write_table(scored, partial)
            elif progress:
                progress(chunk.num_rows)
            paths.append(path)
            row += chunk.num_rows
        if not paths:
            raise UserError("there is no pair to score.", file=self.pairs)
        join_parts(paths, self.out)
        shutil.rmtree(parts)
        return row

    def total(self) -> int:
        """Rows to score where the file says so, and 0 where only reading it would tell."""
        if self.pairs.suffix != ".parquet" or not self.pairs.is_file():
            return 0
        return int(read_parquet(self.pairs, columns=[]).num_rows)

    def _open_parts(self, parts: Path) -> None:
        stat = self.pairs.stat() if self.pairs.is_file() else None
        job = {
            "pairs": [str(self.pairs.resolve()), stat and stat.st_size, stat and stat.st_mtime_ns],
            "model": self.model_fingerprint,
            "columns": dict(self.columns or {}),
            "prefix": self.prefix,
            "chunk_rows": self.chunk_rows,
        }
        plan = parts / "job.json"
        if parts.is_dir() and (not plan.is_file() or json.loads(plan.read_text("utf-8")) != job):
            shutil.rmtree(parts)
        if not parts.is_dir():
            parts.mkdir(parents=True)
            write_json(plan, job)

    def _score(self, chunk: pa.Table, before: int, progress: Progress | None) -> pa.Table:
        columns = find_columns(chunk.column_names, self.columns or {}, self.pairs, catalogue=self.products is not None)
        queries = _texts(chunk, columns[schema.QUERY])
        for place, query in enumerate(queries):
            if not query or not query.strip():
                raise UserError(
                    "the query is empty.", file=self.pairs, row=before + place + 1, remedy="Fill or drop it."
                )
        rows = chunk.num_rows
        locales = _texts(chunk, columns[schema.LOCALE]) if schema.LOCALE in columns else [schema.LOCALES[0]] * rows
        if self.products is None:
            texts = {name: _texts(chunk, columns[name]) for name in schema.TEXT_COLUMNS if name in columns}
        else:
            texts = self._look_up(_texts(chunk, columns[schema.PRODUCT_ID]), locales, before)
        filled = [locale or schema.LOCALES[0] for locale in locales]
        prediction = self.scorer.score_pairs([query or "" for query in queries], texts, filled, progress=progress)
        return append_columns(chunk, prediction, self.prefix, self.pairs)

    def _look_up(self, ids: list[Any], locales: list[Any], before: int) -> dict[str, list[Any]]:
        assert self.products is not None
        wanted = pa.table(
            {schema.LOCALE: pa.array(locales, pa.string()), schema.PRODUCT_ID: pa.array(ids, pa.string())}
        )
        rows = pc.index_in(product_keys(wanted), value_set=product_keys(self.products))
        if rows.null_count:
            place = rows.to_pylist().index(None)
            raise UserError(
                f"there is no product {ids[place]!r} in the locale {locales[place]!r}.",
                file=self.pairs,
                row=before + place + 1,
                remedy="Add it to the catalogue given with --products.",
            )
        found = self.products.take(rows)
        return {name: found.column(name).to_pylist() for name in schema.TEXT_COLUMNS if name in found.column_names}


def _texts(table: pa.Table, name: str) -> list[Any]:
    column = table.column(name)
    return pc.cast(column, pa.large_string()).to_pylist()


def fingerprint(model: Path) -> str:
    """Hash of a model folder's weights and configuration."""
    digest = hashlib.sha256((model / "config.json").read_bytes())
    with (model / "model.safetensors").open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]
