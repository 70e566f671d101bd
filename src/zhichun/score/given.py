"""What a caller in Python gives to be scored, under the rules of files and requests: gaps, numbers, folds.

The gaps of data frames (``None``, ``NaN``, ``pd.NA``) are no text, numbers are their digits, a lone text is one
product, and a query of which cleaning leaves nothing is refused.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from zhichun.core import schema
from zhichun.core.errors import UserError, suggest
from zhichun.text.clean import clean_text
from zhichun.text.fold import fold_locale, fold_locales, fold_name, is_missing, trim_ids, value_text

Product = str | Mapping[str, Any]
Products = Product | Iterable[Product | None]
DEFAULT_LOCALE: Final = "us"

# The columns that the names of a product's fields mean, and the same by their folded names.
COLUMN_OF_FIELD: Final = {
    **schema.COLUMN_OF,
    **{name: name for name in schema.PRODUCT_COLUMNS},
    "id": schema.PRODUCT_ID,
    "locale": schema.LOCALE,
}
COLUMN_OF_FOLD: Final = {fold_name(name): column for name, column in COLUMN_OF_FIELD.items()}


def query_of(query: Any) -> str:
    """Read a query."""
    text = _text(query, "the query")
    if hasattr(query, "__len__") and not isinstance(query, str):  # its items would be one text, as those of a field are
        raise UserError("several queries were given.", remedy="Score the products of one query at a time.")
    if not clean_text(text or ""):
        raise UserError("the query is empty.", remedy="Give one with a letter or a digit.")
    return text or ""


def locale_of(locale: Any, default: str = DEFAULT_LOCALE) -> str:
    """Read a locale, in the form under which the dataset knows it; the default where there is none."""
    return fold_locale(_text(locale, "the locale") or "") or fold_locale(default)


def columns_of(
    products: Any, locale: Any = None, own: Sequence[str] = ()
) -> tuple[dict[str, list[str | None]], list[str]]:
    """Give products as columns of texts and of the user's own, and their locales."""
    rows = _rows(products, own)
    locale = locale_of(locale)
    columns = {name: [row[name] for row in rows] for name in (*schema.TEXT_COLUMNS, *own)}
    return columns, [locale_of(row[schema.LOCALE], locale) for row in rows]


def catalogue_of(products: Any, locale: Any = None) -> pa.Table:
    """Give products as a catalogue, with `schema.PRODUCT_COLUMNS`; of a table that has them locales alone are read."""
    if isinstance(products, pa.Table) and set(schema.PRODUCT_COLUMNS) <= set(products.column_names):
        given = products.column(schema.LOCALE).combine_chunks()
        locales = fold_locales(given, locale_of(locale), len(given))
        return products.set_column(products.column_names.index(schema.LOCALE), schema.LOCALE, locales)
    rows = _rows(products)
    columns, of_rows = columns_of(rows, locale)
    given = {schema.PRODUCT_ID: [row[schema.PRODUCT_ID] for row in rows], **columns, schema.LOCALE: of_rows}
    made = {name: pa.array(of, pa.large_string()) for name, of in given.items()}
    made[schema.PRODUCT_ID] = ids = trim_ids(made[schema.PRODUCT_ID])
    if ids.null_count:
        place = ids.is_null().index(True).as_py() + 1
        raise UserError(f"product {place} has no product_id.", remedy="Give each one: {'id': …}.")
    return pa.table(made)


def _rows(products: Any, own: Sequence[str] = ()) -> list[dict[str, str | None]]:
    known = COLUMN_OF_FOLD | {fold_name(name): name for name in own}
    return [_row(product, place, known, own) for place, product in enumerate(_each(products), start=1)]


def _each(products: Any) -> Iterable[Any]:
    """Return the products one by one, whatever holds them."""
    if isinstance(products, str | Mapping):
        return [products]
    for rows in ("to_pylist", "to_dicts"):  # pyarrow; data frames of polars
        if hasattr(products, rows):
            return list(getattr(products, rows)())
    if hasattr(products, "columns") and hasattr(products, "to_dict"):  # data frames of pandas
        return list(products.to_dict("records"))
    if getattr(products, "ndim", 1) == 0:  # an array without a dimension
        return [products.item()]
    if is_missing(products) or isinstance(products, bytes) or not isinstance(products, Iterable):
        raise UserError(f"{products!r} are no products.", remedy="Give a list of texts, or of mappings of fields.")
    return products


def _row(product: Any, place: int, known: Mapping[str, str], own: Sequence[str]) -> dict[str, str | None]:
    """Return a product's texts by the catalogue's column names, and the user's own columns."""
    row: dict[str, str | None] = dict.fromkeys((*schema.TEXT_COLUMNS, schema.LOCALE, schema.PRODUCT_ID, *own))
    if not (hasattr(product, "keys") and hasattr(product, "items")):  # a mapping, or a row of a data frame
        return {**row, schema.TITLE: _text(product, f"product {place}")}
    for name, value in product.items():
        column = known.get(fold_name(str(name)))
        if column is None:
            remedy = suggest(str(name), COLUMN_OF_FIELD)
            raise UserError(f"product {place} has a field {name!r}, which is none.", remedy=remedy)
        text = _text(value, f"product {place}: its {name!r}")
        if text is not None and row[column] is not None:
            remedy = "Leave one of the two out."
            raise UserError(f"product {place} has a second {name!r} under another name.", remedy=remedy)
        row[column] = row[column] if text is None else text
    return row


def _text(value: Any, what: str) -> str | None:
    try:
        return value_text(value)
    except TypeError as error:
        raise UserError(f"{what} is {value!r}, which is no text.", remedy="Give a text, a number or None.") from error
