"""Opening what the user gave: a folder in the official layout, single tables, or both."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from zhichun.core.errors import UserError
from zhichun.data.readers.columns import EXAMPLES, PRODUCTS, match_columns
from zhichun.data.readers.esci import official_files, require_official
from zhichun.data.readers.judgements import QrelsTable, read_topics
from zhichun.data.readers.table import ParquetTable, Table, require_file
from zhichun.data.readers.text_table import GZIP, CsvTable, JsonLinesTable, TsvTable

_FORMATS: Final = (ParquetTable, CsvTable, TsvTable, JsonLinesTable)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sources:
    """The two tables that a dataset is made of.

    Attributes
    ----------
    examples, products
        The tables.
    example_columns, product_columns
        Official name to the table's column.
    files
        What is read, by its part: ``examples``, ``products`` and, with TREC qrels, ``topics``.
    """

    examples: Table
    products: Table
    example_columns: Mapping[str, str]
    product_columns: Mapping[str, str]
    files: Mapping[str, Path]


def open_sources(
    source: Path | None,
    *,
    examples: Path | None = None,
    products: Path | None = None,
    topics: Path | None = None,
    columns: Mapping[str, str] | None = None,
) -> Sources:
    """Open the tables and match their columns.

    Parameters
    ----------
    source
        A folder in the official layout, for the tables that are not given.
    examples, products
        Tables of one's own.
    topics
        Query texts for TREC qrels.
    columns
        The user's names; see `zhichun.data.readers.columns.match_columns`.

    Returns
    -------
    Sources
        Nothing but headers is read yet.

    Raises
    ------
    UserError
        If a table is missing, unreadable or lacks a column.
    """
    files = _find_files(source, examples, products)
    if topics is not None:
        files["topics"] = topics
    tables = {
        EXAMPLES: open_judgements(files[EXAMPLES], topics),
        PRODUCTS: open_table(files[PRODUCTS]),
    }
    matched = match_columns(columns or {}, {name: table.names for name, table in tables.items()}, files)
    return Sources(
        examples=tables[EXAMPLES],
        products=tables[PRODUCTS],
        example_columns=matched[EXAMPLES],
        product_columns=matched[PRODUCTS],
        files=files,
    )


def open_table(path: Path) -> Table:
    """Open a table by the ending of its name.

    Parameters
    ----------
    path
        A ``.parquet``, ``.csv``, ``.tsv``, ``.jsonl`` or ``.ndjson`` file; the text formats also with ``.gz`` after it.

    Returns
    -------
    Table
        Ready to be read.

    Raises
    ------
    UserError
        If there is no such file, its format is unknown, or it is damaged.
    """
    require_file(path)
    suffix = _suffix(path)
    for table in _FORMATS:
        if suffix in table.suffixes and not (table is ParquetTable and path.suffix.lower() == GZIP):
            return table(path)
    raise UserError(
        f"the ending {suffix!r} names no known format",
        remedy="Possible: .parquet, .csv, .tsv, .jsonl, .ndjson, .csv.gz and so on; .qrels for judgements.",
        file=path,
    )


def open_judgements(path: Path, topics: Path | None = None) -> Table:
    """Open a table of judgements: any that `open_table` knows, or TREC qrels.

    Parameters
    ----------
    path
        The file. It holds qrels if it ends with ``.qrels``, ``.qrel`` or ``.trec``, or if topics are given.
    topics
        Query texts for qrels.

    Returns
    -------
    Table
        Ready to be read.

    Raises
    ------
    UserError
        As `open_table`; or if qrels come without topics.
    """
    if topics is not None:
        require_file(path)
        return QrelsTable(path, read_topics(topics))
    if _suffix(path) in QrelsTable.suffixes:
        raise UserError(
            "TREC qrels hold no query texts",
            remedy="Give them with topics=FILE (--topics FILE): an id, a tab and the query on each line.",
            file=path,
        )
    return open_table(path)


def describe_files(files: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Record what a dataset was made of.

    Parameters
    ----------
    files
        Files by their part.

    Returns
    -------
    list of dict
        Part, file name, bytes and SHA-256 of each, without the folder, so that the same files give the same record.
    """
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
    official_examples, official_products = official_files(source)
    needed = [official_examples] * (examples is None) + [official_products] * (products is None)
    require_official(source, tuple(needed))
    return {EXAMPLES: examples or official_examples, PRODUCTS: products or official_products}


def _suffix(path: Path) -> str:
    name = path.name.lower().removesuffix(GZIP)
    return Path(name).suffix
