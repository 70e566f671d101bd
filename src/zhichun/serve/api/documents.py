"""Documents of requests as products: plain texts, objects, YAML texts of objects, and ids of a catalogue."""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

import yaml

from zhichun.core import schema
from zhichun.score.given import Product
from zhichun.serve.api.refusal import invalid
from zhichun.serve.api.requests import Document
from zhichun.serve.page.catalogue_search import Catalogue
from zhichun.text.document import COLUMN_OF
from zhichun.text.fold import number_text

TEXT_FIELDS: Final = (*COLUMN_OF, *schema.TEXT_COLUMNS)
ID_FIELDS: Final = ("id", schema.PRODUCT_ID)
LOCALE_FIELDS: Final = ("locale", schema.LOCALE)
FIELDS: Final = frozenset({"text", *TEXT_FIELDS, *ID_FIELDS, *LOCALE_FIELDS})
# What `yaml.dump` makes of a dictionary begins so, with dashes where Elasticsearch does. Most texts do not, and are not
# looked at twice.
_MAPPING: Final = re.compile(rf"(?:---[ \n])?(?:{'|'.join(sorted(FIELDS))}):(?:[ \n]|$)")
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_OPENING: Final = (yaml.StreamStartEvent, yaml.DocumentStartEvent, yaml.MappingStartEvent)
_CLOSING: Final = (yaml.DocumentEndEvent, yaml.StreamEndEvent)


def products_of(
    documents: Sequence[str | Document], locale: str | None, catalogue: Catalogue | None, most_characters: int
) -> list[Product]:
    """Give documents as products.

    Parameters
    ----------
    documents
        Of the request.
    locale
        Of the request, which ids are looked up in; that of a document goes before it.
    catalogue
        Where ids are looked up.
    most_characters
        Of each text.

    Raises
    ------
    Refusal
        For a document without a text, one whose text is too long, and an id that is not known.
    """
    products: list[Product] = []
    for place, document in enumerate(documents):
        fields = fields_of(document)
        product = fields if isinstance(fields, str) else _product(fields, place, locale, catalogue)
        texts = [product] if isinstance(product, str) else product.values()
        if any(text and len(text) > most_characters for text in texts):
            raise invalid(f"document {place} has a text of more than {most_characters} characters.")
        products.append(product)
    return products


def fields_of(document: str | Document) -> str | dict[str, str]:
    """Give a document's fields without those that are null; a text that is not the YAML of fields stays as it is."""
    if isinstance(document, Document):
        return {name: _text(value) for name, value in document.model_dump(exclude_none=True).items()}
    if not _MAPPING.match(document):
        return document
    fields = _yaml_fields(document)
    return document if fields is None else fields


def _yaml_fields(text: str) -> dict[str, str] | None:
    """Read a YAML mapping of known fields to plain values, and nothing else: no nesting, no tags, no references."""
    # Read as far as it is what it should be: a text of brackets takes the square of its length to be read whole.
    events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)
    fields: dict[str, str | None] = {}
    try:
        if [type(next(events)) for _ in _OPENING] != list(_OPENING):
            return None
        while not isinstance(name := next(events), yaml.MappingEndEvent):
            if not _is_plain(name) or name.value in fields or name.value not in FIELDS:
                return None
            value = next(events)
            if not _is_plain(value):
                return None
            fields[name.value] = None if _is_null(value) else value.value
        if [type(event) for event in islice(events, len(_CLOSING) + 1)] != list(_CLOSING):
            return None
    except (yaml.YAMLError, ValueError):
        return None
    return {name: value for name, value in fields.items() if value is not None}


def _is_plain(event: Any) -> bool:
    return isinstance(event, yaml.ScalarEvent) and event.anchor is None and event.tag is None


def _is_null(event: Any) -> bool:
    return not event.style and event.value in ("", "~", "null", "Null", "NULL")


def _product(
    fields: dict[str, str], place: int, locale: str | None, catalogue: Catalogue | None
) -> dict[str, str | None]:
    if "text" in fields:
        if any(name in fields for name in ("title", schema.TITLE)):
            raise invalid(f"document {place} has both a text and a title, which are the same.")
        fields = {"title": fields.pop("text"), **fields}
    for names in (*((name, column) for name, column in COLUMN_OF.items()), ID_FIELDS, LOCALE_FIELDS):
        if all(name in fields for name in names):
            raise invalid(f"document {place} has both {names[0]!r} and {names[1]!r}, which are the same.")
    if any(name in fields for name in TEXT_FIELDS):
        return dict(fields)
    found = next((fields[name] for name in ID_FIELDS if name in fields), None)
    if found is None:
        raise invalid(f"document {place} has no text: give {', '.join(('text', *COLUMN_OF))}.")
    if catalogue is None:
        raise invalid(f"document {place} has only an id, and this server was started without --products.")
    own = next(_present(fields, LOCALE_FIELDS), locale)
    product = catalogue.product(found, own)
    if product is None:
        raise invalid(f"document {place}: the catalogue has no such product{f' in {own!r}' if own else ''}.")
    return product


def _present(fields: dict[str, str], names: Sequence[str]) -> Iterator[str]:
    return (fields[name] for name in names if name in fields)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) else number_text(value) or ""
