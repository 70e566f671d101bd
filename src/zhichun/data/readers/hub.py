"""A dataset of the hub as a folder in the official layout: its own files, or one joined table taken apart.

Copies of the Shopping Queries Dataset hold a row for each pair with the product's texts, in Parquet files named for
their split, and write labels in full (``Exact``).
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.files import cache_folder, new_folder
from zhichun.core.storage import fetched
from zhichun.data.readers.rejected import FirstRefusal
from zhichun.data.readers.sources import EXAMPLES, PRODUCTS, match_columns, open_table

OFFICIAL: Final = {EXAMPLES: schema.OFFICIAL_EXAMPLES_FILE, PRODUCTS: schema.OFFICIAL_PRODUCTS_FILE}


def hub_folder(name: str, columns: Mapping[str, str], cache: Path | None = None) -> Path:
    """Fetch a dataset and return a folder in the official layout; what was taken apart is kept.

    Parameters
    ----------
    name
        `OWNER/DATASET`, or with a revision `OWNER/DATASET@v1`.
    columns
        Short or official names to those of the dataset.
    cache
        Where it is kept; ``hub`` in `cache_folder` if not given.

    Raises
    ------
    UserError
        When there is no such dataset, or it has no Parquet files of pairs.
    """
    source = fetched(name, "dataset", ["*.parquet"])
    if all((source / file).is_file() for file in OFFICIAL.values()):
        return source
    files = sorted(source.rglob("*.parquet"))
    if not files:
        remedy = "Name one that has Parquet files, or give your own tables with --examples and --products."
        raise UserError(f"the dataset {name!r} has no Parquet files.", remedy=remedy)
    names = [file.relative_to(source) for file in files]
    about = [f"{name} {file.stat().st_size} {_split_of(name)}" for name, file in zip(names, files, strict=True)]
    taken = hashlib.sha256(repr([*sorted(columns.items()), *about]).encode()).hexdigest()
    folder = (cache or cache_folder() / "hub") / f"{source.name[:12]}-{taken[:12]}"
    if not folder.is_dir():
        with new_folder(folder, first_wins=True) as partial:
            _take_apart(source, files, columns, partial)
    return folder


def _split_of(name: Path) -> str | None:
    """Find the one split that is a word of a file's name, or else of the name of a folder that it is in."""
    for part in (name.stem, *reversed(name.parent.parts)):
        words = {schema.TEST, schema.TRAIN}.intersection(re.findall(r"[a-z]+", part.casefold()))
        if len(words) == 1:
            return words.pop()
    return None


def _take_apart(source: Path, files: Sequence[Path], columns: Mapping[str, str], folder: Path) -> None:
    """Write the pairs, with the split that a file is named for, and each product once, the first time it comes."""
    parts, fields = [], {kind: dict[str, None]() for kind in OFFICIAL}
    for file in files:
        table, split = open_table(file), _split_of(file.relative_to(source))
        found = match_columns(columns, {EXAMPLES: table, PRODUCTS: table})
        parts.append((table, found[EXAMPLES] | found[PRODUCTS], split))
        fields[EXAMPLES] |= dict.fromkeys([*found[EXAMPLES], *([schema.SPLIT] if split else [])])
        fields[PRODUCTS] |= dict.fromkeys(found[PRODUCTS])
    text, seen = pa.large_string(), set[tuple[str | None, ...]]()
    with ExitStack() as stack:
        writers = {}
        for kind, of in fields.items():
            kinds = pa.schema([(name, text) for name in of])
            writers[kind] = stack.enter_context(pq.ParquetWriter(folder / OFFICIAL[kind], kinds, compression="zstd"))
        for table, both, split in parts:
            for batch in table.batches(both, FirstRefusal(table.path)):
                count, read = len(batch.rows_N), {schema.SPLIT: pa.repeat(pa.scalar(split, text), len(batch.rows_N))}
                read |= batch.columns
                new, keys = [], [read[name].to_pylist() for name in (schema.LOCALE, schema.PRODUCT_ID) if name in read]
                for place, key in enumerate(zip(*keys, strict=True)):
                    if key not in seen:
                        new.append(place)
                        seen.add(key)
                for kind, of in fields.items():
                    rows = pa.table({name: read.get(name, pa.nulls(count, text)) for name in of})
                    writers[kind].write_table(rows.take(pa.array(new, pa.int64())) if kind == PRODUCTS else rows)
