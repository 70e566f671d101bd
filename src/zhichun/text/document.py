"""The document that the model reads of a product: which fields, in which order.

In the paper a document is title, brand, color, bullets, description with the encoder's separator between fields;
two of its ensemble's members use other orders.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from zhichun.core import schema
from zhichun.core.errors import UserError, suggest
from zhichun.text.fold import fold_locale

COLUMN_OF: Final = {
    "title": schema.TITLE,
    "brand": schema.BRAND,
    "color": schema.COLOR,
    "bullets": schema.BULLETS,
    "description": schema.DESCRIPTION,
}
FIELDS: Final = tuple(COLUMN_OF)

COUNTRIES: Final = (*schema.LOCALES, "other")

Rows = npt.NDArray[np.int64]
Columns = Mapping[str, Sequence[str | None]]


class PairTexts(NamedTuple):
    """The texts of P pairs, the one shape in which they are scored.

    Parameters
    ----------
    queries
        Query of each pair.
    products
        Texts of each pair's product by the catalogue's column names, and what else a model reads of it; a missing
        column counts as empty.
    locales
        Locale of each pair.
    lists
        List of each pair, for models that read lists; the pairs of a query and locale if not given.
    """

    queries: Sequence[str]
    products: Columns
    locales: Sequence[str]
    lists: Sequence[Hashable] | None = None


@dataclass(frozen=True)
class ProductTexts:
    """Texts of some products, by column name of the catalogue; cleaned, an absent field is empty.

    Parameters
    ----------
    rows
        Their rows in the catalogue, which seed the random numbers of their examples.
    locales
        `us`, `es`, `jp`, or another.
    columns
        Texts by column name (`schema.TEXT_COLUMNS`).
    brands, colors
        Rows in the vocabularies of `data.vocabularies`; 0 is unknown or absent.
    """

    rows: Rows
    locales: list[str]
    columns: dict[str, list[str]]
    brands: Rows
    colors: Rows

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, places: Sequence[int]) -> "ProductTexts":
        """Pick some of the products, by place; one may be picked more than once."""
        return ProductTexts(
            rows=self.rows[list(places)],
            locales=[self.locales[place] for place in places],
            columns={name: [texts[place] for place in places] for name, texts in self.columns.items()},
            brands=self.brands[list(places)],
            colors=self.colors[list(places)],
        )


def check_fields(fields: Sequence[str]) -> tuple[str, ...]:
    """Check a user's field order.

    Raises
    ------
    UserError
        For an unknown, repeated or missing field.
    """
    for field in fields:
        if field not in COLUMN_OF:
            raise UserError(f"there is no product field {field!r}.", remedy=suggest(field, COLUMN_OF))
    if not fields or len(set(fields)) < len(fields):
        raise UserError(f"fields must list one or more distinct fields, not {list(fields)}.")
    return tuple(fields)


def country_index(locale: str) -> int:
    """Row of a locale, in any spelling, in the country table: us, es, jp, and one for all others."""
    folded = fold_locale(locale)
    return COUNTRIES.index(folded) if folded in schema.LOCALES else len(COUNTRIES) - 1
