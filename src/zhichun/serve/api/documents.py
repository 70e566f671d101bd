"""Documents of requests as the columns that the scorer reads: texts, objects, YAML of objects, ids of a catalogue."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import yaml

from zhichun.core import schema
from zhichun.core.errors import suggest
from zhichun.score.given import COLUMN_OF_FIELD, COLUMN_OF_FOLD
from zhichun.serve.batcher import PairColumns
from zhichun.serve.catalogue_search import Catalogue
from zhichun.serve.limits import Refusal, cut, invalid
from zhichun.text.features import readable
from zhichun.text.fold import fold_locale, fold_name, value_text
from zhichun.text.pairs import Columns
from zhichun.text.tokenizer import PairTokenizer

# The title, or where there is one already, a part of the description.
TEXT: Final = "text"
FIELDS: Final = (TEXT, *COLUMN_OF_FIELD)
NOT_TEXTS: Final = (schema.PRODUCT_ID, schema.LOCALE)
LOCALE_CHARACTERS: Final = 16
# Names of fields that a message has room for, and the length of those that may be one of ours.
_NAMED: Final = 3
_NAME_CHARACTERS: Final = 40
# What `yaml.dump` makes of a dictionary begins so, with dashes where Elasticsearch does. Most texts do not, and are not
# looked at twice.
_MAPPING: Final = re.compile(rf"(?:---[ \n])?(?:{'|'.join(sorted(FIELDS))}):(?:[ \n]|$)")
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_OPENING: Final = (yaml.StreamStartEvent, yaml.DocumentStartEvent, yaml.MappingStartEvent)
_CLOSING: Final = (yaml.DocumentEndEvent, yaml.StreamEndEvent)
_KINDS: Final = {type(None): "null", bool: "true or false", int: "a number", float: "a number", list: "a list"}


def whole(text: str) -> str:
    """Return a text as it is; unpaired surrogates, which JSON may have and UTF-8 may not, raise UnicodeEncodeError."""
    if not text.isascii():
        text.encode()
    return text


def read_documents(
    queries: Sequence[str],
    documents: Sequence[Any],
    locale: str | None,
    default_locale: str,
    catalogue: Catalogue | None,
    most_characters: int,
    fields: Sequence[str] | None = None,
    own: Sequence[str] = (),
) -> PairColumns:
    """Read documents as the products of pairs, each with its query; the model reads columns of the user's ``own``."""
    count, locale = len(documents), fold_locale(locale or "") or None
    columns: dict[str, list[str | None]] = {name: [None] * count for name in (*schema.TEXT_COLUMNS, *own)}
    locales = [locale or default_locale] * count
    unread: dict[str, None] = {}
    ids: dict[int, tuple[str, str | None]] = {}
    long, own_of_fold = 0, {fold_name(name): name for name in own}
    for place, document in enumerate(documents):
        try:
            row, passed_over = _read(document, most_characters, fields, own_of_fold)
        except Refusal as refusal:
            raise invalid(f"documents.{place} {refusal.message}") from None
        except UnicodeEncodeError:
            raise invalid(f"documents.{place} has an unpaired surrogate: texts must be valid Unicode.") from None
        unread.update(dict.fromkeys(passed_over))
        named = fold_locale(row.pop(schema.LOCALE, "")) or locale
        locales[place] = named or default_locale
        product_id = row.pop(schema.PRODUCT_ID, "")
        if row.keys() <= {*own}:
            ids[place] = product_id, named
        for name, text in row.items():
            long += len(text) > most_characters
            columns[name][place] = text[:most_characters]
    if ids:
        _look_up({**columns, schema.LOCALE: locales}, ids, catalogue)
    warnings = []
    if unread:
        names = ", ".join(repr(cut(name)) for name in list(unread)[:_NAMED])
        warnings.append(f"{len(unread):,} fields beside the text were ignored: {names}.")
    if long:
        warnings.append(f"{long:,} texts were truncated to {most_characters:,} characters.")
    return PairColumns(queries, columns, locales, warnings)


def _read(
    document: Any, most_characters: int, fields: Sequence[str] | None, own: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Return a document's texts by column, and its ignored fields."""
    if isinstance(document, str):
        of_yaml = yaml_fields(document) if len(document) <= most_characters else None
        if of_yaml is None:
            return {schema.TITLE: whole(document)}, []
        document = of_yaml
    if not isinstance(document, Mapping):
        raise invalid(f"is {_KINDS.get(type(document), 'no text')}: give a text or an object.")
    passed_over, more = [], []
    row: dict[str, str] = {}
    for name, value in document.items():
        column = _column(name) or own.get(fold_name(name[: _NAME_CHARACTERS + 1]))
        if fields is not None and name not in fields and column not in NOT_TEXTS:
            passed_over.append(name)
        elif column is None and fields is None and name != TEXT:
            if not isinstance(document.get(TEXT), str):  # Cohere reads the text alone where no fields are named
                raise invalid(
                    f"has a field {cut(name)!r} that no product has. "
                    f"{suggest(name[:_NAME_CHARACTERS], (*FIELDS, *own.values()))}"
                )
            passed_over.append(name)
        elif (text := _text(name, value)) is None:
            continue
        elif column is None:
            more.append(text)
        elif column in row:
            raise invalid(f"has a second {cut(name)!r} under another name: leave one of the two out.")
        else:
            row[column] = text
    if len(row.get(schema.LOCALE, "")) > LOCALE_CHARACTERS:
        raise invalid(f"has a locale of more than {LOCALE_CHARACTERS} characters.")
    if more and schema.TITLE not in row:
        row[schema.TITLE] = more.pop(0)
    if more:
        row[schema.DESCRIPTION] = " ".join([*filter(None, [row.get(schema.DESCRIPTION)]), *more])
    if row.keys() <= {schema.LOCALE, *own.values()}:
        raise invalid(
            f"has no text: give {', '.join(map(cut, fields[:_NAMED] if fields else (TEXT, *schema.COLUMN_OF)))}."
        )
    return row, passed_over if fields is None else []


def _column(name: str) -> str | None:
    return COLUMN_OF_FIELD.get(name) or (COLUMN_OF_FOLD.get(fold_name(name)) if len(name) <= _NAME_CHARACTERS else None)


def _text(name: str, value: Any) -> str | None:
    try:
        text = value_text(value)
    except TypeError:
        raise invalid(f"has an object as {cut(name)!r}: give a text.") from None
    return text if text is None else whole(text)


def _look_up(
    columns: Mapping[str, list[Any]], ids: Mapping[int, tuple[str, str | None]], catalogue: Catalogue | None
) -> None:
    """Fill in the products that were given by id, and maybe locale, alone."""
    if catalogue is None:
        raise invalid(f"documents.{next(iter(ids))} has only an id, and this server was started without --products.")
    found = catalogue.find(*zip(*ids.values(), strict=True))
    for (place, (_, locale)), row in zip(ids.items(), found.tolist(), strict=True):
        if row < 0:
            where = f" in {cut(locale)!r}" if locale else ""
            raise invalid(f"documents.{place}: the catalogue has no such product{where}.")
    for name, texts in catalogue.columns(found).items():
        for place, text in zip(ids, texts, strict=True):
            if name == schema.LOCALE or columns[name][place] is None:  # what a request says of a product goes first
                columns[name][place] = text


def yaml_fields(text: str) -> dict[str, str] | None:
    """Read a YAML mapping of known fields to plain values: no nesting, no tags, no references."""
    if not _MAPPING.match(text):
        return None
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


def cut_to_tokens(products: Columns, most: int, tokenizer: PairTokenizer) -> dict[str, list[str | None]]:
    """Clean products and truncate each to a number of tokens, field by field from title to description."""
    columns: dict[str, list[str | None]] = {}
    left = [most] * len(products[schema.TITLE])
    for name in schema.COLUMN_OF.values():
        column = [readable(text) if text else "" for text in products[name]]
        for place, ends in enumerate(tokenizer.token_ends(column, most + 1)):
            room = left[place]
            if len(ends) > room:
                column[place] = column[place][: ends[room - 1]] if room else ""
            left[place] = max(0, room - len(ends))
        columns[name] = [text or None for text in column]
    return columns
