"""What clients send, as each interface writes it; keys that are not named here are passed over."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StrictFloat, StrictInt, StrictStr, Tag

Text = Annotated[str, Field(examples=["running shoes"])]
Value = StrictStr | StrictInt | Annotated[StrictFloat, Field(allow_inf_nan=False)] | None
Locale = Annotated[str, Field(min_length=1, max_length=16, examples=["us"])]


class Document(BaseModel):
    """A product by its fields: short names or the catalogue's own, or only its id where the server has a catalogue."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: Annotated[str | None, Field(description="The title, where the document is one text.")] = None
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


Documents = Annotated[
    list[str | Document],
    Field(min_length=1, description="Texts, product objects, or ids of products where the server has a catalogue."),
]


class Request(BaseModel):
    """What all requests may hold."""

    model_config = ConfigDict(strict=True)

    model: Annotated[str | None, Field(description="Any name: the server has one model.")] = None
    locale: Annotated[Locale | None, Field(description="Of query and documents; an extension.")] = None


class RerankRequest(Request):
    """What Jina, Cohere and vLLM call a rerank request."""

    query: Text
    documents: Documents
    top_n: Annotated[int | None, Field(ge=0, description="Results to give back; all if 0 or not given.")] = None
    return_documents: bool | None = None
    max_tokens_per_doc: Annotated[int | None, Field(ge=1, description="Tokens that a document is cut to.")] = None


class TeiRerankRequest(Request):
    """What TEI calls a rerank request."""

    query: Text
    texts: Annotated[list[str], Field(min_length=1)]
    raw_scores: Annotated[bool, Field(description="Changes nothing: the score is the expected gain.")] = False
    return_text: bool = False
    truncate: Annotated[bool | None, Field(description="Changes nothing: long pairs are cut.")] = None
    truncation_direction: Literal["right", "Right"] | None = None


def _dialect(body: Any) -> str:
    given = body if isinstance(body, dict) else vars(body) if isinstance(body, BaseModel) else {}
    return "texts" if "texts" in given else "documents"


AnyRerankRequest = Annotated[
    Annotated[TeiRerankRequest, Tag("texts")] | Annotated[RerankRequest, Tag("documents")], Discriminator(_dialect)
]
OneOrMoreTexts = str | Annotated[list[str], Field(min_length=1)]
OneOrMoreDocuments = str | Document | Documents


class QueriesRequest(Request):
    """What vLLM calls a score request: one query and N documents, or N of both."""

    queries: OneOrMoreTexts
    documents: OneOrMoreDocuments


class TextsRequest(Request):
    """The same under the older names."""

    text_1: OneOrMoreTexts
    text_2: OneOrMoreDocuments


def _names(body: Any) -> str:
    given = body if isinstance(body, dict) else vars(body) if isinstance(body, BaseModel) else {}
    return "text_1" if "text_1" in given or "text_2" in given else "queries"


ScoreRequest = Annotated[
    Annotated[QueriesRequest, Tag("queries")] | Annotated[TextsRequest, Tag("text_1")], Discriminator(_names)
]
QueryAndText = Annotated[list[str], Field(min_length=2, max_length=2, description="A query and a text.")]


class PredictRequest(Request):
    """What TEI calls a predict request: one pair of query and text, or a batch of pairs."""

    inputs: QueryAndText | Annotated[list[QueryAndText], Field(min_length=1)]
    raw_scores: Annotated[bool, Field(description="Changes nothing: scores are probabilities.")] = False
    truncate: Annotated[bool | None, Field(description="Changes nothing: long pairs are cut.")] = None
    truncation_direction: Literal["right", "Right"] | None = None
