"""The input of the page, parsed and checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from typing import Final
from urllib.parse import parse_qsl

from zhichun.serve.api.refusal import invalid
from zhichun.text.clean import clean_text
from zhichun.text.fold import fold_locale

QUERY_LIMIT: Final = 500
LINES_LIMIT: Final = 100
LINE_LIMIT: Final = 2000
# Characters beyond U+FFFF take twelve in a form.
FORM_LIMIT: Final = 12 * LINES_LIMIT * LINE_LIMIT
FORM_FIELDS: Final = 8
TOPS: Final = (10, 20, 50, 100)
USUAL_TOP: Final = 20
# In place of a number: the products that were judged for the query, and no others.
JUDGED: Final = "judged"

Fields = dict[str, str | None]


@dataclass(frozen=True)
class Asked:
    """A search, or a user's list to rank.

    Parameters
    ----------
    query
        The query, cleaned; empty on the start page.
    locale
        One of those that the page offers.
    top
        How many products to rerank, one of `TOPS`; or `JUDGED`.
    lines
        The user's products as typed, one per line; empty for a search.
    """

    query: str = ""
    locale: str = "us"
    top: int | str = USUAL_TOP
    lines: str = ""


def read_asked(values: Mapping[str, str], locales: Sequence[str]) -> Asked:
    """Read the form's values."""
    typed = values.get("q", "")
    if len(typed) > QUERY_LIMIT:
        raise invalid(f"The query has {len(typed):,} characters; {QUERY_LIMIT} are possible.")
    locale = fold_locale(values.get("locale", "")) or locales[0]
    if locale not in locales:
        raise invalid(f"There is no such locale. There are: {', '.join(locales)}.")
    top = values.get("top", "")
    tops: dict[str, int | str] = {str(each): each for each in (*TOPS, JUDGED)}
    return Asked(clean_text(typed), locale, tops.get(top, USUAL_TOP), values.get("products", ""))


def form_values(body: bytes) -> dict[str, str]:
    """Read a form; one with unknown fields is rejected as empty."""
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=FORM_FIELDS))
    except ValueError:
        return {}


def own_products(lines: str, locale: str) -> list[Fields]:
    """Read the user's products: one title per line, or an id, a tab and a title."""
    products = []
    written = islice(filter(None, map(str.strip, StringIO(lines, newline=None))), LINES_LIMIT + 1)
    for line in written:
        if len(line) > LINE_LIMIT:
            raise invalid(f"A product has {len(line):,} characters; {LINE_LIMIT:,} are possible.")
        name, tab, title = line.partition("\t")
        title = clean_text(title if tab else line)
        if title:
            products.append({"title": title, "product_id": name.strip() if tab else title, "locale": locale})
    if not products:
        raise invalid("There is no product to rank. Write one on each line.")
    if len(products) > LINES_LIMIT:
        raise invalid(f"There are more than {LINES_LIMIT} products.")
    missing: Fields = dict.fromkeys(("brand", "color", "bullets", "description"))
    return [{**missing, **product} for product in products]
