"""Fields that the requests of several interfaces share; keys that are not named are passed over.

A value that may be of several kinds is told apart by a function, so that a refusal speaks of the kind that was meant.
"""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, PlainValidator, Tag

from zhichun.serve.api.documents import LOCALE_CHARACTERS


def _whole(text: str) -> str:
    """Refuse half of a character, which JSON can write and UTF-8 cannot."""
    if not text.isascii():
        text.encode()
    return text


Text = Annotated[str, AfterValidator(_whole), Field(strict=True)]
Locale = Annotated[str, Field(strict=True, min_length=1, max_length=LOCALE_CHARACTERS, examples=["us"])]
Value = str | float | list[str] | None


class Document(BaseModel):
    """A product by its fields: short names or the catalogue's own, or only its id where the server has a catalogue."""

    text: Annotated[
        str | None, Field(description="The title, where there is none; else a part of the description.")
    ] = None
    title: Value = None
    brand: Value = None
    color: Value = None
    bullets: Value = None
    description: Value = None
    locale: Locale | None = None
    id: Annotated[Value, Field(description="Looked up in the catalogue where no other field is given.")] = None
    product_title: Value = None
    product_brand: Value = None
    product_color: Value = None
    product_bullet_point: Value = None
    product_description: Value = None
    product_locale: Locale | None = None
    product_id: Value = None


def _as_it_is(kind: Any) -> PlainValidator:
    """Describe documents without reading them: `read_documents` does, once, into columns."""
    return PlainValidator(lambda value: value, json_schema_input_type=kind)


def _list_or_one(value: Any) -> str:
    return "(list)" if isinstance(value, list) else "(one)"


AnyDocument = Annotated[Any, _as_it_is(str | Document)]
Documents = Annotated[
    list[AnyDocument],
    Field(min_length=1, description="Texts, product objects, or ids of products where the server has a catalogue."),
]
OneOrMoreDocuments = Annotated[
    Annotated[AnyDocument, Tag("(one)")] | Annotated[Documents, Tag("(list)")], Discriminator(_list_or_one)
]
Texts = Annotated[list[Text], Field(min_length=1, fail_fast=True)]
OneOrMoreTexts = Annotated[Annotated[Text, Tag("(one)")] | Annotated[Texts, Tag("(list)")], Discriminator(_list_or_one)]


class Body(BaseModel):
    """What all requests may hold."""

    model_config = ConfigDict(strict=True)

    model: Annotated[str | None, Field(description="Any name: the server has one model.")] = None
    locale: Annotated[Locale | None, Field(description="Of query and documents; an extension.")] = None
