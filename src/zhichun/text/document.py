"""What a product looks like to the model: which fields, in which order.

The paper writes a document as title, brand, color, bullets, description with the encoder's separator between fields;
two of its ensemble's members use other orders.
"""

from collections.abc import Sequence
from typing import Final

from zhichun import schema
from zhichun.errors import UserError, suggest

COLUMN_OF: Final = {
    "title": schema.TITLE,
    "brand": schema.BRAND,
    "color": schema.COLOR,
    "bullets": schema.BULLETS,
    "description": schema.DESCRIPTION,
}
FIELDS: Final = tuple(COLUMN_OF)

COUNTRIES: Final = (*schema.LOCALES, "other")


def check_fields(fields: Sequence[str]) -> tuple[str, ...]:
    """Check a field order as a user wrote it.

    Raises
    ------
    UserError
        For an unknown field, one named twice, or none at all.
    """
    for field in fields:
        if field not in COLUMN_OF:
            raise UserError(f"no product field is called {field!r}.", remedy=suggest(field, COLUMN_OF))
    if not fields or len(set(fields)) < len(fields):
        raise UserError(f"fields must name each field at most once and at least one, not {list(fields)}.")
    return tuple(fields)


def country_index(locale: str) -> int:
    """Row of a locale in the country table: us, es, jp, and one for all others."""
    return COUNTRIES.index(locale) if locale in schema.LOCALES else len(COUNTRIES) - 1
