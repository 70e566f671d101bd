"""A catalogue in memory, for ranking and look-ups."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from zhichun.core import schema
from zhichun.core.errors import UserError, suggest
from zhichun.core.schema import MANIFEST_FILE
from zhichun.data.dataset.dataset import read_parquet
from zhichun.data.prepare.clean_catalogue import write_products
from zhichun.data.readers.columns import PRODUCTS, describe_columns, match_columns
from zhichun.data.readers.rejected import REJECTED_FILE, RejectedRows
from zhichun.data.readers.sources import open_table

OnBadRows = Literal["fail", "drop"]
Say = Callable[[str], None]
_FAIL: Final = "fail"


def silent(line: str) -> None:
    """Say nothing."""


def check_on_bad_rows(given: str) -> None:
    """Refuse what is neither ``fail`` nor ``drop``."""
    if given not in get_args(OnBadRows):
        raise UserError(f"on_bad_rows={given!r} means nothing", remedy=suggest(given, get_args(OnBadRows)))


def products_file(path: Path) -> Path:
    """Find the table of products in a dataset folder or one in the official layout; a file is returned as it is."""
    if not path.is_dir():
        return path
    names = (schema.PRODUCTS_FILE, schema.OFFICIAL_PRODUCTS_FILE)
    return next((path / name for name in names if (path / name).is_file()), path / names[0])


def read_catalogue(
    path: Path,
    *,
    locale: str = "us",
    columns: Mapping[str, str] | None = None,
    on_bad_rows: OnBadRows = "fail",
    say: Say = silent,
) -> pa.Table:
    """Read products, cleaned as `prepare` cleans them.

    Parameters
    ----------
    path
        CSV, TSV, JSON Lines or Parquet; or a dataset folder, or one in the official layout.
    locale
        Locale of products without one.
    columns
        Column names: ``{"title": "name"}``.
    on_bad_rows
        Whether invalid products are an error (``fail``) or are left out and counted (``drop``).
    say
        Called with lines for the user: which columns are used for what, and how many products are left out.

    Returns
    -------
    pyarrow.Table
        With `schema.PRODUCT_COLUMNS` and ``origin``.

    Raises
    ------
    UserError
        For a file that cannot be read, and for rows that cannot be used.
    """
    check_on_bad_rows(on_bad_rows)
    # A dataset folder is cleaned already, and says which products steps made.
    if not columns and (path / MANIFEST_FILE).is_file():
        return read_parquet(products_file(path))
    table = open_table(products_file(path))
    matched = match_columns(columns or {}, {PRODUCTS: table})[PRODUCTS]
    for line in describe_columns(PRODUCTS, matched, table):
        say(line)
    with tempfile.TemporaryDirectory() as folder:
        cleaned = Path(folder) / schema.PRODUCTS_FILE
        with RejectedRows(Path(folder) / REJECTED_FILE) as rejected:
            counts = write_products(
                table, matched, cleaned, locale=locale, rejected=rejected, progress=lambda done, total: None
            )
        if rejected.bad and on_bad_rows == _FAIL:
            raise rejected.failure()
        for line in (*counts.described(), *([f"left out: {rejected.said()}"] if rejected.bad else [])):
            say(f"{table.path.name}: {line}")
        return pq.read_table(cleaned)
