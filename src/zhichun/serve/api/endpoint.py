"""The definition of an endpoint: paths, request, response, and error form.

A new one is a file that declares it, and one line in `zhichun.serve.api.dialects`.

Dialects share texts and documents of requests, and numbers, order, labels and probabilities of replies. Unknown keys of
requests are ignored. Legend: ``P`` pairs.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Annotated, Any, Final, Literal, TypeVar

import numpy as np
import pyarrow as pa
from fastapi import APIRouter, Header, Request, Response
from fastapi.routing import APIRoute
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    create_model,
)

from zhichun.core.tasks import Floats
from zhichun.serve.api.documents import FIELDS, LOCALE_CHARACTERS, whole
from zhichun.serve.batcher import PairColumns
from zhichun.serve.limits import Kind, Refusal, cut, invalid, json_body, parsed
from zhichun.serve.service import Answer, Service

STATUSES: Final = {
    400: "The body is not JSON, or holds no document.",
    401: "The key is missing or wrong.",
    403: "Cross-origin request rejected.",
    413: "The body is too large, or holds too many documents or values.",
    415: "The body is not of the type application/json, not UTF-8, or compressed.",
    422: "The body does not match this endpoint's schema.",
    424: "The model failed.",
    429: "The queue is full; retry after `Retry-After` seconds.",
    500: "Internal server error; its id is in the log.",
    503: "The model is being loaded, or the server is shutting down.",
    504: "The time is over.",
}
# What pydantic says in words of its own, of types of Python.
SAID: Final = {
    "missing": "is missing",
    "string_type": "should be a text",
    "list_type": "should be a list",
    "model_type": "should be an object",
    "model_attributes_type": "should be an object",
    "value_error": "should be valid Unicode",
}
OF_READING: Final = (401, 403, 500, 503)
INCOMING: Final = "scoring timed out: the documents are in the order of the request."
# What is no larger is parsed at once, in less time than it takes to hand it to a thread.
SMALL_BYTES: Final = 64 << 10
# Where a request keeps the dialect of its errors, if its body chose it.
DIALECT: Final = "zhichun.dialect"
# Replies are written as they are, so that a float is 1.0 and never 1.
_REPLIES: Final = TypeAdapter(Any)


@dataclass(frozen=True)
class Dialect:
    """The API of another server or service.

    Parameters
    ----------
    name
        Its name.
    error
        The shape of its errors.
    write
        Builds an error from kind, message and status.
    empty_status
        Status for an empty list.
    """

    name: str
    error: Any
    write: Callable[[Kind, str, int], dict[str, Any]]
    empty_status: int = 400

    def response(self, refusal: Refusal) -> Response:
        """Build the error response."""
        content = json.dumps(self.write(refusal.kind, refusal.message, refusal.status))
        return Response(content, refusal.status, refusal.headers, "application/json")


class Patience(BaseModel):
    """A client's timeout, and what it wants after it."""

    seconds: Annotated[
        float | None, Field(gt=0, le=86_400, alias="X-Request-Timeout", description="Timeout in seconds.")
    ] = None
    on_timeout: Annotated[
        Literal["error", "incoming-order"], Field(alias="X-On-Timeout", description="The response after a timeout.")
    ] = "error"

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> "Patience":
        """Read it from headers."""
        names = [str(field.alias) for field in cls.model_fields.values()]
        try:
            return cls.model_validate({name: headers[name] for name in names if name in headers})
        except ValidationError as error:
            raise refusal_of(error, 422) from None


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An endpoint with information on the server.

    Parameters
    ----------
    paths
        Its equivalent paths.
    summary
        One-line description.
    dialect
        The dialect of its errors.
    reply
        The response model.
    say
        Builds the response.
    """

    paths: tuple[str, ...]
    summary: str
    dialect: Dialect
    reply: Any
    say: Callable[[Service], BaseModel] | None = None

    def add(self, router: APIRouter, service: Service) -> None:
        """Serve it."""

        async def answer() -> Response:
            assert self.say is not None
            return reply(self.say(service))

        for path in self.paths:
            router.get(path, summary=self.summary, responses=self._responses(OF_READING))(answer)

    def _responses(self, statuses: Iterable[int]) -> dict[int | str, dict[str, Any]]:
        described: dict[int | str, dict[str, Any]] = {200: {"model": self.reply}}
        for status in statuses:
            described[status] = {"model": self.dialect.error, "description": STATUSES[status]}
        return described


@dataclass(frozen=True, kw_only=True)
class ScoringEndpoint(Endpoint):
    """An endpoint that scores pairs. All work on bodies is done in threads, and the event loop only waits for scores.

    Parameters
    ----------
    request
        The request: a pydantic model, or several with a discriminator.
    ask
        Reads the pairs of a request.
    write
        Builds the response from a request, its scores and warnings.
    may_be_unscored
        Whether it can respond without scores, if a client wants the incoming order after a timeout.
    by_body
        Selects one of several endpoints on the same path by the body.
    """

    request: Any
    ask: Callable[[Service, Any], PairColumns]
    write: "Callable[[Service, Any, Answer, Sequence[str]], BaseModel | Sequence[Any]]"
    may_be_unscored: bool = True
    by_body: "Callable[[Any], ScoringEndpoint] | None" = None

    def add(self, router: APIRouter, service: Service) -> None:
        """Serve it."""
        request_type = self.request

        async def described(body: request_type, patience: Annotated[Patience, Header()]) -> None:  # type: ignore[valid-type]
            """Documents the endpoint; `answers` handles requests."""

        async def answers(request: Request) -> Response:
            return await self._answer(service, request)

        described.answers = answers  # type: ignore[attr-defined]
        for path in self.paths:
            router.add_api_route(
                path,
                described,
                methods=["POST"],
                summary=self.summary,
                responses=self._responses(STATUSES),
                response_model=None,
                route_class_override=_Answering,
            )

    @cached_property
    def _type(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.request)

    async def _answer(self, service: Service, request: Request) -> Response:
        patience = Patience.of(request.headers)
        content = await json_body(request)
        size, most = len(content), service.limits.documents
        work = partial(service.work, size=size)
        value = parsed(content, most) if size <= SMALL_BYTES else await work(parsed, content, most)
        chosen = self.by_body(value) if self.by_body else self
        request.scope[DIALECT] = chosen.dialect
        body, pairs = await work(chosen._asked, service, value)
        del content, value
        answer = await chosen._scored(service, pairs, patience)
        return await work(chosen._written, service, body, pairs.warnings, answer)

    def _asked(self, service: Service, value: Any) -> tuple[Any, PairColumns]:
        try:
            body = self._type.validate_python(value)
        except ValidationError as error:
            raise refusal_of(error, self.dialect.empty_status) from None
        return body, self.ask(service, body)

    async def _scored(self, service: Service, pairs: PairColumns, patience: Patience) -> Answer:
        try:
            return await service.answer(pairs, patience.seconds)
        except Refusal as refusal:
            if refusal.status != 504 or patience.on_timeout == "error" or not self.may_be_unscored:
                raise
            pairs.warnings.insert(0, INCOMING)
            return service.incoming_order(len(pairs))

    def _written(self, service: Service, body: Any, warnings: Sequence[str], answer: Answer) -> Response:
        response = reply(self.write(service, body, answer, warnings))
        if not answer.scored:
            response.headers["X-Order"] = "incoming"
        if warnings:
            response.headers["X-Warning"] = "; ".join(warnings).encode("ascii", "backslashreplace").decode()
        return response


class _Answering(APIRoute):
    """A route whose body FastAPI documents but does not parse, because it would parse on the event loop."""

    def get_route_handler(self) -> Any:
        return self.endpoint.answers  # type: ignore[attr-defined]


def refusal_of(error: ValidationError, empty_status: int) -> Refusal:
    """Return the first validation error of a request."""
    found = error.errors(include_url=False, include_input=False)[0]
    # In brackets stand names of ours, by which kinds of values are told apart; no client wrote them.
    name = ".".join(cut(str(place)) for place in found["loc"] if "(" not in str(place))
    if found["type"] == "too_short" and not found["ctx"]["actual_length"]:
        return Refusal(empty_status, "Empty", f"`{name}` cannot be empty")
    said = SAID.get(found["type"]) or found["msg"].removeprefix("Input ")
    return invalid(f"{name or 'the body'} {said[:1].lower()}{cut(said[1:], 200)}.")


def reply(body: BaseModel | Sequence[Any]) -> Response:
    """Write a response without null values."""
    return Response(_REPLIES.dump_json(body, exclude_none=True), media_type="application/json")


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
