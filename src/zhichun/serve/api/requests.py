"""What clients send, as each interface writes it; keys that are not named here are passed over.

A value that may be of several kinds is told apart by a function, so that a refusal speaks of the kind that was meant.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, StrictFloat, StrictInt, Tag


def _whole(text: str) -> str:
    """Refuse half of a character, which JSON can write and UTF-8 cannot."""
    if not text.isascii():
        text.encode()
    return text


Text = Annotated[str, AfterValidator(_whole), Field(strict=True)]
Value = Text | StrictInt | Annotated[StrictFloat, Field(allow_inf_nan=False)] | None
Locale = Annotated[Text, Field(min_length=1, max_length=16, examples=["us"])]


class Document(BaseModel):
    """A product by its fields: short names or the catalogue's own, or only its id where the server has a catalogue."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: Annotated[Text | None, Field(description="The title, where the document is one text.")] = None
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


def _kind(value: Any) -> str:
    return "text" if isinstance(value, str) else "list" if isinstance(value, list) else "product"


TextOrProduct = Annotated[Annotated[Text, Tag("text")] | Annotated[Document, Tag("product")], Discriminator(_kind)]
Documents = Annotated[
    list[TextOrProduct],
    Field(min_length=1, description="Texts, product objects, or ids of products where the server has a catalogue."),
]
OneOrMoreDocuments = Annotated[
    Annotated[Text, Tag("text")] | Annotated[Document, Tag("product")] | Annotated[Documents, Tag("list")],
    Discriminator(_kind),
]
Texts = Annotated[list[Text], Field(min_length=1)]
OneOrMoreTexts = Annotated[
    Annotated[Text, Tag("text")] | Annotated[Texts, Tag("list")],
    Discriminator(lambda value: "list" if isinstance(value, list) else "text"),
]


class Request(BaseModel):
    """What all requests may hold."""

    model_config = ConfigDict(strict=True)

    model: Annotated[str | None, Field(description="Any name: the server has one model.")] = None
    locale: Annotated[Locale | None, Field(description="Of query and documents; an extension.")] = None


class RerankRequest(Request):
    """What Jina, Cohere and vLLM call a rerank request."""

    query: Annotated[Text, Field(examples=["red running shoes"])]
    documents: Documents
    top_n: Annotated[int | None, Field(ge=0, description="Results to give back; all if 0 or not given.")] = None
    return_documents: bool | None = None
    max_tokens_per_doc: Annotated[int | None, Field(ge=1, description="Tokens that a document is cut to.")] = None


class TeiRerankRequest(Request):
    """What TEI calls a rerank request."""

    query: Text
    texts: Texts
    raw_scores: Annotated[bool, Field(description="Changes nothing: the score is the expected gain.")] = False
    return_text: bool = False
    truncate: Annotated[bool | None, Field(description="Changes nothing: long pairs are cut.")] = None
    truncation_direction: Literal["right", "Right"] | None = None


def _has(name: str, other: str, body: Any) -> str:
    given = body if isinstance(body, dict) else vars(body) if isinstance(body, BaseModel) else {}
    return name if name in given else other


AnyRerankRequest = Annotated[
    Annotated[TeiRerankRequest, Tag("texts")] | Annotated[RerankRequest, Tag("documents")],
    Discriminator(lambda body: _has("texts", "documents", body)),
]


class QueriesRequest(Request):
    """What vLLM calls a score request: one query and N documents, or N of both."""

    queries: OneOrMoreTexts
    documents: OneOrMoreDocuments


class TextsRequest(Request):
    """The same under the older names."""

    text_1: OneOrMoreTexts
    text_2: OneOrMoreDocuments


ScoreRequest = Annotated[
    Annotated[QueriesRequest, Tag("queries")] | Annotated[TextsRequest, Tag("text_1")],
    Discriminator(lambda body: _has("text_1", "queries", body)),
]
QueryAndText = Annotated[list[Text], Field(min_length=2, max_length=2, description="A query and a text.")]
Batch = Annotated[list[QueryAndText], Field(min_length=1)]


def _is_batch(inputs: Any) -> str:
    return "pair" if isinstance(inputs, list) and inputs and isinstance(inputs[0], str) else "batch"


class PredictRequest(Request):
    """What TEI calls a predict request: one pair of query and text, or a batch of pairs."""

    inputs: Annotated[
        Annotated[QueryAndText, Tag("pair")] | Annotated[Batch, Tag("batch")],
        Discriminator(_is_batch),
    ]
    raw_scores: Annotated[bool, Field(description="Changes nothing: scores are probabilities.")] = False
    truncate: Annotated[bool | None, Field(description="Changes nothing: long pairs are cut.")] = None
    truncation_direction: Literal["right", "Right"] | None = None
