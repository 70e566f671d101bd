"""Which column of a user's table holds what.

A column is found by the name that the user gave (``columns={"query": "search_term"}``), else by the official name
(``product_title``), else by the short one (``title``), else, for judgements, by the one that Quepid writes.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from zhichun.core import schema
from zhichun.core.errors import UserError, suggest

# Other names by which a column is found where its official name is absent; the first is what users type.
SHORT_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    schema.QUERY: ("query",),
    schema.PRODUCT_ID: ("product_id", "docid"),
    schema.LOCALE: ("locale",),
    schema.LABEL: ("label", "rating"),
    schema.TITLE: ("title",),
    schema.DESCRIPTION: ("description",),
    schema.BULLETS: ("bullets",),
    schema.BRAND: ("brand",),
    schema.COLOR: ("color",),
    schema.SPLIT: ("split",),
    schema.QUERY_ID: ("query_id",),
    schema.EXAMPLE_ID: ("example_id",),
    schema.WEIGHT: ("weight",),
    schema.SMALL: ("small_version",),
    schema.LARGE: ("large_version",),
}
EXAMPLES: Final = "examples"
PRODUCTS: Final = "products"
_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    EXAMPLES: (*schema.EXAMPLE_COLUMNS, schema.WEIGHT),
    PRODUCTS: schema.PRODUCT_COLUMNS,
}
_REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    EXAMPLES: (schema.QUERY, schema.PRODUCT_ID, schema.LABEL),
    PRODUCTS: (schema.PRODUCT_ID,),
}


def match_columns(
    given: Mapping[str, str], names: Mapping[str, Sequence[str]], files: Mapping[str, Path]
) -> dict[str, dict[str, str]]:
    """Find the columns of both tables.

    Parameters
    ----------
    given
        The user's mapping: short or official name to the file's column. ``examples.`` or ``products.`` before the name
        binds it to one table; without it, it holds for each table that has such a column.
    names, files
        The columns that each table (``examples``, ``products``) has, and its file.

    Returns
    -------
    dict
        For each table: official name to the file's column. What the file lacks and may lack is left out.

    Raises
    ------
    UserError
        If a name is unknown, a file's column does not exist or one that is needed is missing.
    """
    matched: dict[str, dict[str, str]] = {table: {} for table in names}
    for key, column in given.items():
        tables, field = _read_key(key, names)
        found = [table for table in tables if column in names[table]]
        if not found:
            raise _no_such_column(column, field, names[tables[0]], files[tables[0]])
        for table in found:
            matched[table][field] = column
    for table, columns in matched.items():
        for field in _FIELDS[table]:
            default = next((name for name in (field, *SHORT_NAMES[field]) if name in names[table]), None)
            if field not in columns and default is not None:
                columns[field] = default
        _check_complete(table, columns, names[table], files[table])
    return matched


def _read_key(key: str, read: Collection[str]) -> tuple[tuple[str, ...], str]:
    """Split ``products.title`` into those of the tables read that it may stand for, and the official name."""
    table, dot, name = key.rpartition(".")
    officials = {short[0]: field for field, short in SHORT_NAMES.items()}
    field = officials.get(name, name)
    if field not in SHORT_NAMES:
        raise UserError(f"there is no column {name!r} to map", remedy=suggest(name, {*officials, *SHORT_NAMES}))
    if dot and table not in _FIELDS:
        raise UserError(f"there is no table {table!r} in {key!r}", remedy=suggest(table, _FIELDS))
    tables = tuple(each for each in read if field in _FIELDS[each] and table in ("", each))
    if not tables:
        raise UserError(f"{table or ' and '.join(read)} have no column {name!r}", remedy=f"Leave out {key!r}.")
    return tables, field


def _check_complete(table: str, columns: Mapping[str, str], names: Sequence[str], file: Path) -> None:
    for field in _REQUIRED[table]:
        if field not in columns:
            raise _missing(field, table, names, file)
    if table == PRODUCTS and not any(field in columns for field in schema.TEXT_COLUMNS):
        raise _missing(schema.TITLE, table, names, file)


def _missing(field: str, table: str, names: Sequence[str], file: Path) -> UserError:
    short = SHORT_NAMES[field][0]
    wanted = repr(field) if field == short else f"{field!r} (or {short!r})"
    return UserError(
        f"no column {wanted}; the file has {_listed(names)}",
        remedy=f"Name it with columns={{'{table}.{short}': …}} (--columns {short}=…).",
        file=file,
    )


def _no_such_column(column: str, field: str, names: Sequence[str], file: Path) -> UserError:
    return UserError(
        f"no column {column!r}, which was named for {SHORT_NAMES[field][0]!r}; the file has {_listed(names)}",
        remedy=suggest(column, names),
        file=file,
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names) or "no column at all"
