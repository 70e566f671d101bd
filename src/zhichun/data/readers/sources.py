"""Opens the user's input: a table of any format, judgements, or a folder in the official layout."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from zhichun.core.errors import UserError
from zhichun.core.schema import OFFICIAL_EXAMPLES_FILE, OFFICIAL_PRODUCTS_FILE
from zhichun.data.readers.columns import EXAMPLES, KNOWN_NAMES, PRODUCTS, describe_columns, match_columns
from zhichun.data.readers.delimited import DelimitedTable
from zhichun.data.readers.lines import JsonTable, QrelsTable, read_topics
from zhichun.data.readers.parquet_table import ParquetTable
from zhichun.data.readers.table import Table
from zhichun.data.readers.text_file import PARQUET_MARK, TextFile, require_file

_PARQUET: Final = (".parquet", ".pq")
_JSON: Final = (".jsonl", ".ndjson", ".json")
_TABS: Final = (".tsv", ".tab", ".txt")
_CSV: Final = ".csv"
_JSON_BEGINS: Final = re.compile(rb'\s*(?:\[\s*)?\{\s*"')
_OWN_TABLES: Final = "your own tables with examples=… and products=… (--examples FILE --products FILE)."


@dataclass(frozen=True, kw_only=True, eq=False)
class Sources:
    """The two source tables of a dataset.

    Attributes
    ----------
    examples, products
        The tables.
    example_columns, product_columns
        Official name to the table's column.
    files
        The source files by part: ``examples``, ``products`` and, with TREC qrels, ``topics``.
    """

    examples: Table
    products: Table
    example_columns: Mapping[str, str]
    product_columns: Mapping[str, str]
    files: Mapping[str, Path]

    def described(self) -> list[str]:
        """Describe how the tables are read, and which columns are used for what."""
        return [
            *describe_columns(EXAMPLES, self.example_columns, self.examples),
            *describe_columns(PRODUCTS, self.product_columns, self.products),
        ]


def open_sources(
    source: Path | None,
    *,
    examples: Path | None = None,
    products: Path | None = None,
    topics: Path | None = None,
    columns: Mapping[str, str] | None = None,
) -> Sources:
    """Open the tables and match their columns; only headers are read yet."""
    files = _find_files(source, examples, products)
    if topics is not None:
        files["topics"] = topics
    tables = {EXAMPLES: open_judgements(files[EXAMPLES], topics), PRODUCTS: open_table(files[PRODUCTS])}
    matched = match_columns(columns or {}, tables)
    return Sources(
        examples=tables[EXAMPLES],
        products=tables[PRODUCTS],
        example_columns=matched[EXAMPLES],
        product_columns=matched[PRODUCTS],
        files=files,
    )


def open_table(path: Path) -> Table:
    """Open a table by its file ending and first bytes.

    Parameters
    ----------
    path
        A ``.parquet``, ``.csv``, ``.tsv``, ``.jsonl`` or ``.ndjson`` file; the text formats also with ``.gz`` after it.

    Raises
    ------
    UserError
        If there is no such file, its format is unknown, or it is damaged.
    """
    require_file(path)
    suffix = _suffix(path)
    with path.open("rb") as raw:
        is_parquet = raw.read(len(PARQUET_MARK)) == PARQUET_MARK
    if suffix in _PARQUET or is_parquet:
        table = ParquetTable(path)
        if suffix not in _PARQUET:
            table.notes.append("is a Parquet file, and was read as that")
        return table
    file = TextFile(path)
    if suffix in _JSON:
        return JsonTable(file)
    if suffix in (_CSV, *_TABS):
        if _JSON_BEGINS.match(file.head):
            file.notes.append("holds JSON, and was read as that")
            return JsonTable(file)
        return DelimitedTable(file, tabs=suffix in _TABS, known=KNOWN_NAMES)
    raise UserError(
        f"the ending {suffix!r} names no known format",
        remedy="Possible: .parquet, .csv, .tsv, .jsonl, .ndjson, .csv.gz and so on; .qrels for judgements.",
        file=path,
    )


def open_judgements(path: Path, topics: Path | None = None) -> Table:
    """Open a table of judgements: any that `open_table` knows, or TREC qrels."""
    if topics is not None:
        return QrelsTable(TextFile(path), read_topics(topics))
    if _suffix(path) in QrelsTable.suffixes:
        raise UserError(
            "TREC qrels hold no query texts",
            remedy="Give them with topics=FILE (--topics FILE): an id, a tab and the query on each line.",
            file=path,
        )
    return open_table(path)


def describe_files(files: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Describe the source files of a dataset: part, file name, bytes and SHA-256, without the folder."""
    described = []
    for part, path in files.items():
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        described.append({"part": part, "file": path.name, "bytes": path.stat().st_size, "sha256": digest})
    return described


def _find_files(source: Path | None, examples: Path | None, products: Path | None) -> dict[str, Path]:
    if source is None:
        if examples is None or products is None:
            lacking = " and ".join(name for name, path in ((EXAMPLES, examples), (PRODUCTS, products)) if path is None)
            raise UserError(
                f"{lacking} missing",
                remedy="Give a folder in the official layout, or both tables with examples=… and products=… "
                "(--examples FILE --products FILE).",
            )
        return {EXAMPLES: examples, PRODUCTS: products}
    if not source.exists():
        raise UserError("there is no such folder", remedy="Name the folder of the dataset.", file=source)
    if not source.is_dir():
        raise UserError("is a file, not a folder in the official layout", remedy=f"Give {_OWN_TABLES}", file=source)
    files = {
        EXAMPLES: examples or source / OFFICIAL_EXAMPLES_FILE,
        PRODUCTS: products or source / OFFICIAL_PRODUCTS_FILE,
    }
    missing = [path.name for path in files.values() if path.parent == source and not path.is_file()]
    if missing:
        raise UserError(
            f"lacks {' and '.join(missing)}",
            remedy=f"Name a folder that holds the Shopping Queries Dataset, or give {_OWN_TABLES}",
            file=source,
        )
    return files


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix
