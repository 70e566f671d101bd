"""Opens the user's input: a table of any format, judgements, or a folder in the official layout; matches its columns.

A column is found by the user's name for it (``columns={"query": "search_term"}``), else by the official name
(``product_title``), else by the short one (``title``), else by one of the names that shops, Quepid and the contest's
files use. Names are the same in any case, and with or without spaces, underscores and hyphens.
"""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from zhichun.core import schema
from zhichun.core.errors import UserError, suggest
from zhichun.core.storage import DATASET, unpacked_name
from zhichun.data.readers.delimited import DelimitedTable
from zhichun.data.readers.lines import JsonTable, QrelsTable, RunTable, read_topics
from zhichun.data.readers.table import ParquetTable, Table
from zhichun.data.readers.text_file import PARQUET_MARK, TextFile, require_file
from zhichun.text.fold import fold_name

_PARQUET: Final = (".parquet", ".pq")
_JSON: Final = (".jsonl", ".ndjson", ".json")
_TABS: Final = (".tsv", ".tab", ".txt")
_CSV: Final = ".csv"
ENDINGS: Final = (*_PARQUET, *_JSON, *_TABS[:2], _CSV)
_QRELS: Final = (".qrels", ".qrel", ".trec")
_RUN_BEGINS: Final = re.compile(rb"\s*\S+[ \t]+Q0([ \t]+\S+){4}[ \t]*\r?(\n|$)")
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

    def described(self, keep: Sequence[str] = ()) -> list[str]:
        """Describe how the tables are read, and which columns are used for what; those of products may be kept."""
        return [
            line
            for kind, table in self.tables.items()
            for line in describe_columns(kind, self.columns[kind], table, keep=keep if kind == PRODUCTS else ())
        ]


def open_sources(
    source: Path | None,
    *,
    examples: Path | None = None,
    products: Path | None = None,
    topics: Path | None = None,
    columns: Mapping[str, str] | None = None,
) -> Sources:
    """Open the tables and match their columns; only headers are read yet. A source `hf:OWNER/DATASET` is fetched."""
    if source is not None and str(source).startswith(DATASET):
        from zhichun.data.readers.hub import hub_folder  # which opens tables as this module does

        source, columns = hub_folder(str(source).removeprefix(DATASET), columns or {}), None
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
    if suffix in _PARQUET or _is_parquet(path):
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
    more = ".qrels for judgements, .run for rankings"
    remedy = f"Possible: .parquet, .csv, .tsv, .jsonl, .ndjson, .csv.gz and so on; {more}."
    raise UserError(f"the ending {suffix!r} names no known format", file=path, remedy=remedy)


def open_judgements(path: Path, topics: Path | None = None) -> Table:
    """Open a table of judgements: any that `open_table` knows, or TREC qrels."""
    if topics is not None:
        return QrelsTable(TextFile(path), read_topics(topics))
    if _suffix(path) in _QRELS:
        remedy = "Give them with topics=FILE (--topics FILE): an id, a tab and the query on each line."
        raise UserError("TREC qrels hold no query texts", file=path, remedy=remedy)
    return open_table(path)


def open_ranking(path: Path, topics: Path | None = None) -> Table:
    """Open a ranking: a TREC run file, known by its ending or the Q0 of its first line, or any table."""
    require_file(path)
    may_be_run = _suffix(path) not in ENDINGS and not _is_parquet(path)
    if _suffix(path) in RunTable.suffixes or (may_be_run and _RUN_BEGINS.match(TextFile(path).head)):
        return RunTable(TextFile(path), None if topics is None else read_topics(topics))
    return open_table(path)


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as raw:
        return raw.read(len(PARQUET_MARK)) == PARQUET_MARK


def _find_files(source: Path | None, given: Mapping[str, Path | None]) -> dict[str, Path]:
    """Find both tables: those that are given, and others in the folder."""
    own = {kind: path for kind, path in given.items() if path is not None}
    if source is None:
        if lacking := [kind for kind in given if kind not in own]:
            remedy = f"Give a folder in the official layout, or both tables {_BOTH_TABLES}"
            raise UserError(f"{' and '.join(lacking)} missing", remedy=remedy)
        return own
    if not source.exists():
        raise UserError("there is no such folder", remedy="Name the folder of the dataset.", file=source)
    if not source.is_dir():
        remedy = f"Give your own tables {_BOTH_TABLES}"
        raise UserError("is a file, not a folder in the official layout", remedy=remedy, file=source)
    official = {EXAMPLES: source / schema.OFFICIAL_EXAMPLES_FILE, PRODUCTS: source / schema.OFFICIAL_PRODUCTS_FILE}
    if missing := [path.name for kind, path in official.items() if kind not in own and not path.is_file()]:
        remedy = f"Name a folder that holds the Shopping Queries Dataset, or give your own tables {_BOTH_TABLES}"
        raise UserError(f"lacks {' and '.join(missing)}", file=source, remedy=remedy)
    return {**official, **own}


def _suffix(path: Path) -> str:
    return Path(unpacked_name(path)).suffix


# Other names by which a column is found where its official name is absent; the first is what users type.
ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    schema.QUERY: ("query", "search_term", "search_query", "query_text", "keyword"),
    schema.PRODUCT_ID: ("product_id", "docid", "asin", "sku", "item_id"),
    schema.LOCALE: ("locale", "query_locale"),
    schema.LABEL: ("label", "rating", "grade", "relevance"),
    schema.TITLE: ("title", "name", "product_name", "item_name"),
    schema.DESCRIPTION: ("description", "body_html", "body (html)", "long_description"),
    schema.BULLETS: ("bullets", "bullet_points", "product_bullets", "bullet_point", "product_highlight", "features"),
    schema.BRAND: ("brand", "brand_name", "product_brand_name", "vendor", "manufacturer"),
    schema.COLOR: ("color", "colour", "color_name", "product_color_name"),
    schema.JUDGE: ("judge", "rater", "annotator", "assessor", "user"),
    schema.SPLIT: ("split",),
    schema.QUERY_ID: ("query_id",),
    schema.EXAMPLE_ID: ("example_id",),
    schema.WEIGHT: ("weight",),
    schema.SMALL: ("small_version",),
    schema.LARGE: ("large_version",),
}
EXAMPLES: Final = "examples"
PRODUCTS: Final = "products"
PAIRS: Final = "pairs"
# In a table of judgements it is the row's.
_IDS_OF_PRODUCTS: Final = ("id",)
_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    EXAMPLES: (*schema.EXAMPLE_COLUMNS, schema.WEIGHT, schema.JUDGE),
    PRODUCTS: schema.PRODUCT_COLUMNS,
    PAIRS: (schema.QUERY, *schema.PRODUCT_COLUMNS),
}
_REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    EXAMPLES: (schema.QUERY, schema.PRODUCT_ID, schema.LABEL),
    PRODUCTS: (schema.PRODUCT_ID,),
    PAIRS: (schema.QUERY,),
}
KNOWN_NAMES: Final = frozenset(
    fold_name(name) for official, names in ALIASES.items() for name in (official, *names, *_IDS_OF_PRODUCTS)
)
_NEAR: Final = 0.75
_SHOWN: Final = 30


def match_columns(given: Mapping[str, str], tables: Mapping[str, Table]) -> dict[str, dict[str, str]]:
    """Find the columns of tables."""
    matched: dict[str, dict[str, str]] = {kind: {} for kind in tables}
    asked: set[tuple[str, str]] = set()
    for key, column in sorted(given.items(), key=lambda item: "." in item[0]):  # a name for one table goes before
        kinds, field = _read_key(key, tables)
        if (asking := (key.rpartition(".")[0], field)) in asked:
            raise UserError(f"two columns are named for {key!r}", remedy="Leave one of the two out.")
        asked.add(asking)
        found = {kind: own for kind in kinds if (own := find_column(column, tables[kind].names)) is not None}
        if not found:
            table = tables[kinds[0]]
            wanted = f"{column!r}, which was named for {ALIASES[field][0]!r}"
            raise no_column(wanted, table, suggest(column, table.names))
        for kind in found:
            matched[kind][field] = found[kind]
    for kind, table in tables.items():
        columns = matched[kind]
        for field in _FIELDS[kind]:
            default = next(filter(None, (find_column(name, table.names) for name in _names_of(field, kind))), None)
            if field not in columns and default is not None:
                columns[field] = default
        for field in _REQUIRED[kind]:
            if field not in columns:
                raise _missing(field, kind, table)
        if kind == PRODUCTS and not any(field in columns for field in schema.TEXT_COLUMNS):
            raise _missing(schema.TITLE, kind, table)
    return matched


def require_known(given: Mapping[str, str], names: Sequence[str]) -> None:
    """Refuse the user's name of a column that none of several tables has."""
    for own in given.values():
        if find_column(own, names) is None:
            raise UserError(f"no table has a column {own!r}.", remedy=suggest(own, names))


def match_pairs(given: Mapping[str, str], table: Table, *, catalogue: bool) -> dict[str, str]:
    """Find the columns of pairs to score: their products' texts, or ids where a catalogue has the texts.

    Raises
    ------
    UserError
        As `match_columns`.
    """
    columns = match_columns(given, {PAIRS: table})[PAIRS]
    wanted, needed = ((schema.PRODUCT_ID,), schema.PRODUCT_ID) if catalogue else (schema.TEXT_COLUMNS, schema.TITLE)
    if needed not in columns:
        raise _missing(needed, PAIRS, table, "" if catalogue else " Or give the catalogue with --products.")
    return {name: column for name, column in columns.items() if name in (schema.QUERY, schema.LOCALE, *wanted)}


def describe_columns(
    kind: str, columns: Mapping[str, str], table: Table, *, keep: Sequence[str] | None = None
) -> list[str]:
    """Describe which columns of a table are used for what, which are kept (of pairs all by default), and the others."""
    lines = [f"{table.path.name} {note}" for note in table.notes]
    used = []
    for field in _FIELDS[kind]:
        if field in columns:
            short, name = ALIASES[field][0], columns[field]
            used.append(short if name in (short, field) else f"{short} ({name})")
    line = f"{table.path.name}: uses {', '.join(used)}"
    unused = [name for name in table.names if name and name not in columns.values()]
    kept = unused if keep is None and kind == PAIRS else [find_column(name, table.names) for name in keep or ()]
    left = [name for name in unused if name not in kept]
    for what, of in (("keeps", [name for name in unused if name in kept]), ("leaves unused", left)):
        line += f"; {what}: {_some(of)}" if of else ""
    meant = [f"{ALIASES[near][0]}={name}" for name in unused if (near := _meant(name, kind, columns))]
    if meant:
        line += f". Did you mean --columns {','.join(meant)}?"
    return [*lines, line]


def _names_of(field: str, kind: str) -> tuple[str, ...]:
    more = _IDS_OF_PRODUCTS if field == schema.PRODUCT_ID and kind == PRODUCTS else ()
    return (field, *ALIASES[field], *more)


def kept_columns(names: Sequence[str], table: Table) -> dict[str, str]:
    """Find columns that are kept as they are."""
    found = {name: find_column(name, table.names) for name in names}
    for name, column in found.items():
        if column is None:
            raise no_column(repr(name), table, suggest(name, table.names))
    return {name: column for name, column in found.items() if column is not None}


def find_column(wanted: str, names: Sequence[str]) -> str | None:
    """Find a column by its name, ignoring case, spaces, underscores and hyphens."""
    if wanted in names:
        return wanted
    folded = fold_name(wanted)
    return next((name for name in names if fold_name(name) == folded), None)


def _meant(unused: str, kind: str, columns: Mapping[str, str]) -> str | None:
    """Guess which missing field a column may be."""
    names = {fold_name(name): field for field in _FIELDS[kind] if field not in columns for name in ALIASES[field]}
    folded = fold_name(unused)
    if folded in KNOWN_NAMES:  # it was found, and is not wanted
        return None
    near = difflib.get_close_matches(folded, names, n=1, cutoff=_NEAR) or [name for name in names if name in folded]
    return names[near[0]] if near else None


def _read_key(key: str, read: Collection[str]) -> tuple[tuple[str, ...], str]:
    """Split ``products.title`` into those of the tables read that it may stand for, and the official name."""
    kind, dot, name = key.rpartition(".")
    officials = {fold_name(each): field for field, names in ALIASES.items() for each in (names[0], field)}
    field = officials.get(fold_name(name))
    if field is None:
        known = {*ALIASES, *(names[0] for names in ALIASES.values())}
        raise UserError(f"there is no column {name!r} to map", remedy=suggest(name, known))
    if dot and kind not in _FIELDS:
        raise UserError(f"there is no table {kind!r} in {key!r}", remedy=suggest(kind, _FIELDS))
    kinds = tuple(each for each in read if field in _FIELDS[each] and kind in ("", each))
    if not kinds:
        raise UserError(f"{kind or ' and '.join(read)} have no column {name!r}", remedy=f"Leave out {key!r}.")
    return kinds, field


def _missing(field: str, kind: str, table: Table, remedy: str = "") -> UserError:
    short = ALIASES[field][0]
    # Catalogues are read beside other tables, by which a bare name would be taken.
    key = f"{kind}.{short}" if kind == PRODUCTS else short
    if field == schema.LABEL:
        remedy += " Judges with a column each: write a row for each, with the columns judge and label."
    if KNOWN_NAMES.isdisjoint(map(fold_name, table.names)):
        remedy += " No name is known: the names must be the first line (in JSON, the keys of each object)."
    wanted = repr(field) if field == short else f"{field!r} (or {short!r})"
    return no_column(wanted, table, f"Name it with columns={{'{key}': …}} (--columns {key}=…).{remedy}")


def no_column(wanted: str, table: Table, remedy: str) -> UserError:
    """Build the error for a column that a table lacks: it lists those that there are."""
    has = _some([repr(name) for name in table.names]) or "no column at all"
    return UserError(f"no column {wanted}; the file has {has}", remedy=remedy, file=table.path)


def _some(names: Sequence[str]) -> str:
    """List names, of very many the first."""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
