"""What an endpoint is: its paths, what it reads, what it gives back, and how it says that something went wrong.

A file that declares one, and one line in `zhichun.serve.api.dialects`, are all that the server needs to have it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Header, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from zhichun.serve.api.refusal import Kind, Refusal, invalid
from zhichun.serve.http.body import cut, is_large, json_of
from zhichun.serve.queue.service import Answer, Asked, Service

STATUSES: Final = {
    400: "The body is not JSON, or holds no document.",
    401: "The key is missing or wrong.",
    403: "The request comes from another site.",
    413: "The body is too large, or holds too many documents or values.",
    415: "The body is not of the type application/json, not UTF-8, or compressed.",
    422: "The body is not what this endpoint reads.",
    424: "The model failed.",
    429: "Too much waits already; come back after `Retry-After` seconds.",
    500: "A fault of the server; its id is in the log.",
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
OF_READING: Final = frozenset({401, 403, 500, 503})
INCOMING: Final = "there was no time to score: the documents are in the order in which they came."
# Bodies are written as they are, so that a float is 1.0 and never 1.
_LISTS: Final = TypeAdapter(list[Any])
Responses = dict[int | str, dict[str, Any]]


@dataclass(frozen=True)
class Dialect:
    """An interface of another server or service.

    Parameters
    ----------
    name
        Its name.
    error
        The shape of its errors.
    write
        Writes one, of a kind, a message and a status.
    empty_status
        What an empty list is answered with.
    """

    name: str
    error: Any
    write: Callable[[Kind, str, int], dict[str, Any]]
    empty_status: int = 400

    def response(self, refusal: Refusal) -> Response:
        """Answer with a refusal."""
        content = json.dumps(self.write(refusal.kind, refusal.message, refusal.status))
        return Response(content, refusal.status, refusal.headers, "application/json")


class Patience(BaseModel):
    """How long a client waits, and what it wants after that."""

    seconds: Annotated[
        float | None,
        Field(gt=0, le=86_400, alias="X-Request-Timeout", description="Seconds that the answer may take."),
    ] = None
    on_timeout: Annotated[
        Literal["error", "incoming-order"],
        Field(alias="X-On-Timeout", description="What to answer when the time is over."),
    ] = "error"

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> "Patience":
        """Read it off headers."""
        names = [str(field.alias) for field in cls.model_fields.values()]
        try:
            return cls.model_validate({name: headers[name] for name in names if name in headers})
        except ValidationError as error:
            raise refusal_of(error, 422) from None


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An endpoint that says something of the server.

    Parameters
    ----------
    paths
        Where it is; all are the same.
    summary
        What it does, in a line.
    dialect
        Whose errors it answers with.
    reply
        The shape of its answers.
    say
        Makes an answer.
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

    def _responses(self, statuses: "frozenset[int] | Mapping[int, str]") -> Responses:
        failures = {status: text for status, text in STATUSES.items() if status in statuses}
        said: Responses = {
            status: {"model": self.dialect.error, "description": text} for status, text in failures.items()
        }
        return {200: {"model": self.reply}, **said}


@dataclass(frozen=True, kw_only=True)
class ScoringEndpoint(Endpoint):
    """An endpoint that scores pairs. All work on bodies is done in threads, and the loop only waits for scores.

    Parameters
    ----------
    request
        What it reads: a pydantic model, or several with a discriminator.
    ask
        Reads the pairs off a request.
    write
        Makes the answer, of a request, its scores and what it should warn of.
    may_be_unscored
        Whether its answer can do without scores, where a client asks for the incoming order after its time.
    by_body
        Tells which of several endpoints a body means, where they share a path.
    """

    request: Any
    ask: Callable[[Service, Any], Asked]
    write: "Callable[[Service, Any, Answer, Sequence[str]], BaseModel | Sequence[Any]]"
    may_be_unscored: bool = True
    by_body: "Callable[[Any], ScoringEndpoint] | None" = None

    def add(self, router: APIRouter, service: Service) -> None:
        """Serve it."""
        request_type = self.request

        async def described(body: request_type, patience: Annotated[Patience, Header()]) -> None:  # type: ignore[valid-type]
            """Describe the endpoint; `answers` answers."""

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
        chosen = self
        try:
            patience = Patience.of(request.headers)
            work = partial(service.work, large=is_large(request.headers))
            value = await json_of(request, work)
            chosen = self.by_body(value) if self.by_body else self
            body, asked = await work(chosen._asked, service, value)
            del value
            answer = await chosen._scored(service, asked, patience)
            return await work(chosen._written, service, body, asked, answer)
        except Refusal as refusal:
            return chosen.dialect.response(refusal)

    def _asked(self, service: Service, value: Any) -> tuple[Any, Asked]:
        try:
            body = self._type.validate_python(value)
        except ValidationError as error:
            raise refusal_of(error, self.dialect.empty_status) from None
        return body, self.ask(service, body)

    async def _scored(self, service: Service, asked: Asked, patience: Patience) -> Answer:
        try:
            return await service.answer(asked.pairs, patience.seconds)
        except Refusal as refusal:
            if refusal.status != 504 or patience.on_timeout == "error" or not self.may_be_unscored:
                raise
            asked.warnings.insert(0, INCOMING)
            return service.incoming_order(len(asked.pairs))

    def _written(self, service: Service, body: Any, asked: Asked, answer: Answer) -> Response:
        response = reply(self.write(service, body, answer, asked.warnings))
        if not answer.scored:
            response.headers["X-Order"] = "incoming"
        if asked.warnings:
            response.headers["X-Warning"] = "; ".join(asked.warnings).encode("ascii", "backslashreplace").decode()
        return response


class _Answering(APIRoute):
    """A route whose body FastAPI describes and does not read: it would do so on the event loop."""

    def get_route_handler(self) -> Any:
        return self.endpoint.answers  # type: ignore[attr-defined]


def refusal_of(error: ValidationError, empty_status: int) -> Refusal:
    """Say what is wrong with a request: the first thing that pydantic found."""
    found = error.errors(include_url=False, include_input=False)[0]
    # In brackets stand names of ours, by which kinds of values are told apart; no client wrote them.
    name = ".".join(cut(str(place)) for place in found["loc"] if "(" not in str(place))
    if found["type"] == "too_short" and not found["ctx"]["actual_length"]:
        return Refusal(empty_status, "Empty", f"`{name}` cannot be empty")
    said = SAID.get(found["type"]) or found["msg"].removeprefix("Input ")
    return invalid(f"{name or 'the body'} {said[:1].lower()}{cut(said[1:], 200)}.")


def reply(body: BaseModel | Sequence[Any]) -> Response:
    """Write an answer; what is null is left out."""
    if isinstance(body, BaseModel):
        content: str | bytes = body.model_dump_json(exclude_none=True)
    else:
        content = _LISTS.dump_json(list(body), exclude_none=True)
    return Response(content, media_type="application/json")
