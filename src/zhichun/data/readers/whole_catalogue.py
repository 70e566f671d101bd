"""A catalogue read whole into memory, for ranking and for looking products up."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from zhichun.core import schema
from zhichun.data.dataset.dataset import read_parquet
from zhichun.data.dataset.dataset_folder import MANIFEST_FILE
from zhichun.data.prepare.clean_catalogue import write_products
from zhichun.data.readers.columns import PRODUCTS, match_columns
from zhichun.data.readers.rejected import REJECTED_FILE, RejectedRows
from zhichun.data.readers.sources import open_table


def products_file(path: Path) -> Path:
    """Find the table of products in a dataset folder or one in the official layout; a file is itself."""
    if not path.is_dir():
        return path
    names = (schema.PRODUCTS_FILE, schema.OFFICIAL_PRODUCTS_FILE)
    return next((path / name for name in names if (path / name).is_file()), path / names[0])


def read_catalogue(path: Path, *, locale: str = "us", columns: Mapping[str, str] | None = None) -> pa.Table:
    """Read products, cleaned as `prepare` cleans them.

    Parameters
    ----------
    path
        CSV, TSV, JSON Lines or Parquet; or a dataset folder, or one in the official layout.
    locale
        Locale of products without one.
    columns
        Own column names: ``{"title": "name"}``.

    Returns
    -------
    pyarrow.Table
        With `schema.PRODUCT_COLUMNS` and ``origin``.

    Raises
    ------
    UserError
        For a file that cannot be read, and for rows that cannot be used; their list is left beside the file.
    """
    # A dataset folder is cleaned already, and says which products steps made.
    if not columns and (path / MANIFEST_FILE).is_file():
        return read_parquet(products_file(path))
    path = products_file(path)
    table = open_table(path)
    matched = match_columns(columns or {}, {PRODUCTS: table.names}, {PRODUCTS: path})[PRODUCTS]
    listed_in = path.with_name(f"{path.name}.{REJECTED_FILE}")
    with tempfile.TemporaryDirectory() as folder:
        cleaned, refused = Path(folder) / schema.PRODUCTS_FILE, Path(folder) / REJECTED_FILE
        with RejectedRows(refused) as rejected:
            write_products(table, matched, cleaned, locale=locale, rejected=rejected, progress=lambda done, total: None)
        if rejected.bad:
            listed_in.write_bytes(refused.read_bytes())
            raise rejected.failure(listed_in)
        return pq.read_table(cleaned)
