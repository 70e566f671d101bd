"""Shared fields of requests; unknown keys are ignored."""

from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, create_model

from zhichun.serve.api.documents import COLUMNS, LOCALE_CHARACTERS, TEXT


def _whole(text: str) -> str:
    """Refuse unpaired surrogates, which are possible in JSON but not in UTF-8."""
    if not text.isascii():
        text.encode()
    return text


Text = Annotated[str, AfterValidator(_whole), Field(strict=True)]
Locale = Annotated[str, Field(strict=True, min_length=1, max_length=LOCALE_CHARACTERS, examples=["us"])]
Value = str | float | list[str] | None
_SAID: Final = {
    "text": Field(None, description="The title; if there is a `title`, part of the description."),
    "id": Field(None, description="Looked up in the catalogue if no other field is given."),
}
Document = create_model(
    "Document",
    __doc__="A product by its fields: short names or the catalogue's own, or an id if the server has a catalogue.",
    **{name: (Value, _SAID.get(name)) for name in (TEXT, *COLUMNS)},  # type: ignore[call-overload]
)


def _described(kind: Any) -> PlainValidator:
    """Document the type without parsing: `read_documents` parses once, into columns."""
    return PlainValidator(lambda value: value, json_schema_input_type=kind)


def _listed(kind: Any) -> BeforeValidator:
    """Treat a single item as a list of one."""
    return BeforeValidator(lambda value: value if isinstance(value, list) else [value], json_schema_input_type=kind)


Documents = Annotated[
    list[Annotated[Any, _described(str | Document)]],
    Field(min_length=1, description="Texts, product objects, or ids of products if the server has a catalogue."),
]
Texts = Annotated[list[Text], Field(min_length=1, fail_fast=True)]
OneOrMoreDocuments = Annotated[Documents, _listed(str | Document | Documents)]
OneOrMoreTexts = Annotated[Texts, _listed(str | Texts)]


class Body(BaseModel):
    """Fields of all requests."""

    model_config = ConfigDict(strict=True)

    model: Annotated[str | None, Field(description="Any name: the server has one model.")] = None
    locale: Annotated[Locale | None, Field(description="Of query and documents; an extension.")] = None
