"""Opens the user's input: a table of any format, judgements, or a folder in the official layout."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from zhichun.core.errors import UserError
from zhichun.core.schema import OFFICIAL_EXAMPLES_FILE, OFFICIAL_PRODUCTS_FILE
from zhichun.data.readers.columns import EXAMPLES, KNOWN_NAMES, PRODUCTS, describe_columns, match_columns
from zhichun.data.readers.delimited import DelimitedTable
from zhichun.data.readers.lines import JsonTable, QrelsTable, read_topics
from zhichun.data.readers.table import ParquetTable, Table
from zhichun.data.readers.text_file import PARQUET_MARK, TextFile, require_file

_PARQUET: Final = (".parquet", ".pq")
_JSON: Final = (".jsonl", ".ndjson", ".json")
_TABS: Final = (".tsv", ".tab", ".txt")
_CSV: Final = ".csv"
_QRELS: Final = (".qrels", ".qrel", ".trec")
_JSON_BEGINS: Final = re.compile(rb'\s*(?:\[\s*)?\{\s*"')
_BOTH_TABLES: Final = "with examples=… and products=… (--examples FILE --products FILE)."


@dataclass(frozen=True, kw_only=True, eq=False)
class Sources:
    """The two source tables of a dataset, `EXAMPLES` and `PRODUCTS`.

    Attributes
    ----------
    tables
        Both.
    columns
        Of both, official name to the table's column.
    files
        The source files by part; with TREC qrels also ``topics``.
    """

    tables: Mapping[str, Table]
    columns: Mapping[str, Mapping[str, str]]
    files: Mapping[str, Path]

    def described(self) -> list[str]:
        """Describe how the tables are read, and which columns are used for what."""
        return [
            line for kind, table in self.tables.items() for line in describe_columns(kind, self.columns[kind], table)
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
    files = _find_files(source, {EXAMPLES: examples, PRODUCTS: products})
    tables = {EXAMPLES: open_judgements(files[EXAMPLES], topics), PRODUCTS: open_table(files[PRODUCTS])}
    if topics is not None:
        files["topics"] = topics
    return Sources(tables=tables, columns=match_columns(columns or {}, tables), files=files)


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
    if _suffix(path) in _QRELS:
        raise UserError(
            "TREC qrels hold no query texts",
            remedy="Give them with topics=FILE (--topics FILE): an id, a tab and the query on each line.",
            file=path,
        )
    return open_table(path)


def _find_files(source: Path | None, given: Mapping[str, Path | None]) -> dict[str, Path]:
    """Find both tables: those that are given, and others in the folder."""
    own = {kind: path for kind, path in given.items() if path is not None}
    if source is None:
        if lacking := [kind for kind in given if kind not in own]:
            raise UserError(
                f"{' and '.join(lacking)} missing",
                remedy=f"Give a folder in the official layout, or both tables {_BOTH_TABLES}",
            )
        return own
    if not source.exists():
        raise UserError("there is no such folder", remedy="Name the folder of the dataset.", file=source)
    if not source.is_dir():
        remedy = f"Give your own tables {_BOTH_TABLES}"
        raise UserError("is a file, not a folder in the official layout", remedy=remedy, file=source)
    official = {EXAMPLES: source / OFFICIAL_EXAMPLES_FILE, PRODUCTS: source / OFFICIAL_PRODUCTS_FILE}
    if missing := [path.name for kind, path in official.items() if kind not in own and not path.is_file()]:
        raise UserError(
            f"lacks {' and '.join(missing)}",
            remedy=f"Name a folder that holds the Shopping Queries Dataset, or give your own tables {_BOTH_TABLES}",
            file=source,
        )
    return {**official, **own}


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix
