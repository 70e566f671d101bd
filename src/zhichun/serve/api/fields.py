"""What requests and replies of several dialects share: texts and documents; numbers, order, labels and probabilities.

Unknown keys of requests are ignored. Legend: ``P`` pairs.
"""

from typing import Annotated, Any, Final, TypeVar

import numpy as np
import pyarrow as pa
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, create_model

from zhichun.core.tasks import Floats
from zhichun.serve.api.documents import FIELDS, LOCALE_CHARACTERS, whole
from zhichun.serve.queue.service import Answer

Text = Annotated[str, AfterValidator(whole), Field(strict=True)]
Locale = Annotated[str, Field(strict=True, min_length=1, max_length=LOCALE_CHARACTERS, examples=["us"])]
Value = str | float | list[str] | None
_SAID: Final = {
    "text": Field(None, description="The title; if there is a `title`, part of the description."),
    "id": Field(None, description="Looked up in the catalogue if no other field is given."),
}
Document = create_model(
    "Document",
    __doc__="A product by its fields: short names or the catalogue's own, or an id if the server has a catalogue.",
    **{name: (Value, _SAID.get(name)) for name in FIELDS},  # type: ignore[call-overload]
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


class Judged(BaseModel):
    """A scored pair."""

    index: Annotated[int, Field(ge=0, description="Index among the documents of the request.")]
    label: Annotated[
        str | None,
        Field(description="The most likely class; null of a regressor, and where promised precision is not reached."),
    ] = None
    probabilities: Annotated[dict[str, float] | None, Field(description="Of each class; a regressor has none.")] = None


class Usage(BaseModel):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, answer: Answer) -> "Usage":
        """Count those of an answer."""
        return cls(prompt_tokens=answer.tokens, total_tokens=answer.tokens)


R = TypeVar("R", bound=Judged)


def best_first(score_P: Floats) -> list[int]:
    """Sort pairs by score; ties keep the order of the request."""
    return np.argsort(-score_P, kind="stable").tolist()


def decimals(values: Floats) -> list[Any]:
    """Return float32 numbers of any shape as the shortest decimals that represent them.

    As doubles they would have up to 17 meaningless digits, and OpenSearch's connector fails on a score
    of more than 18 characters: its JSON parser reads it as a decimal, but it expects a double.
    """
    shortest = pa.array(values.ravel(), pa.float32()).cast(pa.string()).cast(pa.float64())
    return shortest.to_numpy().reshape(values.shape).tolist()


def results(kind: type[R], answer: Answer, score: str = "score") -> list[R]:
    """Make what a dialect says of each pair, in the order of the request; ``score`` is its name of the score."""
    prediction = answer.prediction
    found = [kind.model_construct(index=at, **{score: value}) for at, value in enumerate(decimals(prediction.score))]
    if answer.scored and prediction.labels and prediction.probabilities is not None:
        rows = zip(found, prediction.labels, decimals(prediction.probabilities), strict=True)
        for each, label, probabilities in rows:
            each.label = label
            each.probabilities = dict(zip(prediction.task.classes, probabilities, strict=True))
    return found
