"""Errors outside of endpoints, in the form of the called API."""

from typing import Final

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from zhichun.serve.api.dialects import dialect_of, unknown_path
from zhichun.serve.api.refusal import Refusal

KNOWN: Final = {405: "this path has no such method."}


def answer_errors(app: FastAPI) -> None:
    """Add handlers for refusals, unknown paths and methods."""
    app.add_exception_handler(Refusal, _on_refusal)
    app.add_exception_handler(HTTPException, _on_http_error)


async def _on_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return dialect_of(request.url.path).response(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return dialect_of(request.url.path).response(unknown_path())
    message = KNOWN.get(error.status_code, str(error.detail))
    return dialect_of(request.url.path).response(Refusal(error.status_code, "Validation", message, error.headers))
