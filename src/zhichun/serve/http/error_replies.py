"""What goes wrong within the application, said in the words of the interface that was called."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import Request

from zhichun.core.errors import suggest
from zhichun.serve.api.dialects import dialect_of, empty, error_body
from zhichun.serve.api.documents import FIELDS
from zhichun.serve.api.refusal import Refusal, invalid
from zhichun.serve.http.body import cut

# Names of kinds that requests are told apart by; they stand in the place of an error, and no client wrote them.
TAGS: Final = ("list", "product", "pair", "batch")
SAID: Final = {
    "value_error": "Text should be valid Unicode",
    "model_type": "Input should be an object",
    "model_attributes_type": "Input should be an object",
}
KNOWN: Final = {404: "there is no such path.", 405: "this path has no such method."}


def answer_errors(app: FastAPI) -> None:
    """Let an application answer refusals, invalid requests and unknown paths."""
    app.add_exception_handler(Refusal, _on_refusal)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)


async def _on_refusal(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal)
    return _answer(request, error, _body(request))


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return _answer(request, refusal_of(error.errors()[0], request.url.path, error.body), error.body)


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    message = KNOWN.get(error.status_code, str(error.detail))
    return _answer(request, Refusal(error.status_code, "Validation", message, error.headers))


def refusal_of(error: Any, path: str, body: Any) -> Refusal:
    """Say what is wrong with a request.

    Parameters
    ----------
    error
        The first error that pydantic found.
    path, body
        Of the request.
    """
    source, *places = error["loc"]
    if path in ("/rerank", "/score", "/v1/score") and source == "body":
        places = places[1:]  # which of two requests was meant
    names = [cut(str(place)) for place in places if place not in TAGS and "(" not in str(place)]
    if error["type"] == "too_short" and error["ctx"]["field_type"] == "List" and not error["ctx"]["actual_length"]:
        return empty(dialect_of(path, body), ".".join(names))
    if error["type"] == "extra_forbidden":
        name = names[-1]
        return invalid(f"{'.'.join(names[:-1])} has a field {name!r} that no product has. {suggest(name, FIELDS)}")
    return invalid(f"{'.'.join(names) or source}: {SAID.get(error['type'], error['msg'])}")


def _answer(request: Request, refusal: Refusal, body: Any = None) -> JSONResponse:
    dialect = dialect_of(request.url.path, body)
    content = error_body(dialect, refusal.kind, refusal.message, refusal.status)
    return JSONResponse(content, refusal.status, headers=refusal.headers)


def _body(request: Request) -> Any:
    """Give the body, which tells the interface, where it could be read."""
    return getattr(request, "_json", None)
