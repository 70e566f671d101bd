"""The routes of the page: search by URL, a user's list by form, and static files.

The page is rendered on the server and works without JavaScript, except for the user's judgements. It loads no external
resources, and the templates escape all texts of catalogue and request.
"""

import base64
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool as in_thread

import zhichun
from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.tasks import Prediction, Task
from zhichun.measure.report.page import asset, language
from zhichun.score.given import Product
from zhichun.serve.api.refusal import Refusal, too_large
from zhichun.serve.page import asked as limits
from zhichun.serve.page.asked import Asked, form_values, own_products, read_asked
from zhichun.serve.page.catalogue_search import Catalogue, Hit
from zhichun.serve.page.comparison import Comparison, class_of, compare

Rank = Callable[[str, Sequence[Product], str], Awaitable[Prediction]]
EXAMPLES: Final = 8
STATIC: Final = "static"
_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_FOREVER: Final = {"Cache-Control": "public, max-age=31536000, immutable"}


def page_router(rank: Rank, catalogue: Catalogue | None, *, task: Task, model: str, engine: str) -> APIRouter:
    """Make the page's routes.

    Parameters
    ----------
    rank
        Scores products for a query and a locale.
    catalogue
        The catalogue; without one, the page ranks lists from a form.
    task
        The model's task.
    model, engine
        Names of the model and the engine, for display.
    """
    page = _Page(rank, catalogue, task, model, engine)
    router = APIRouter(include_in_schema=False)
    router.add_api_route("/", page.search, methods=["GET", "HEAD"])
    router.add_api_route("/", page.rank_own, methods=["POST"])
    router.add_api_route(f"/{STATIC}/{{name}}", _static, methods=["GET", "HEAD"])
    return router


class _Page:
    def __init__(self, rank: Rank, catalogue: Catalogue | None, task: Task, model: str, engine: str) -> None:
        self._rank, self._catalogue = rank, catalogue
        self._locales = (catalogue.locales if catalogue else ()) or schema.LOCALES
        self._examples = {locale: catalogue.examples(locale, EXAMPLES) for locale in self._locales} if catalogue else {}
        environment = Environment(
            loader=PackageLoader("zhichun.serve.page"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals.update(
            task=task,
            model=model,
            engine=engine,
            version=zhichun.__version__,
            products=len(catalogue) if catalogue else None,
            locales=self._locales,
            language=language,
            labels=[class_of(label) for label in schema.LABELS],
            files=static_files(),
            limits=limits,
            has_judged=catalogue is not None and catalogue.has_judged,
        )
        self._template = environment.get_template("page.html")

    async def search(self, request: Request) -> Response:
        """Show the start page, or the results of a query."""
        return await self._answer(dict(request.query_params))

    async def rank_own(self, request: Request) -> Response:
        """Rank a user's list."""
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > limits.FORM_LIMIT:
                return await self._show(Asked(locale=self._locales[0]), refused=too_large("The list is too long."))
        return await self._answer({"products": "", **await in_thread(form_values, bytes(body))}, own=True)

    async def _answer(self, values: dict[str, str], *, own: bool = False) -> Response:
        asked = Asked(values.get("q", "")[: limits.QUERY_LIMIT], self._locales[0], lines=values.get("products", ""))
        try:
            asked = read_asked(values, self._locales)
            if own:
                return await self._ranked(asked, await in_thread(own_products, asked.lines, asked.locale), None)
            if not asked.query or self._catalogue is None:
                return await self._show(asked)
            began = time.perf_counter()
            hits = await in_thread(self._find, self._catalogue, asked)
            took = time.perf_counter() - began
            return await self._ranked(asked, [hit.product for hit in hits], took, [hit.score for hit in hits])
        except UserError as error:
            return await self._show(asked, refused=Refusal(422, "Validation", str(error)))
        except Refusal as refused:
            return await self._show(asked, refused=refused)

    @staticmethod
    def _find(catalogue: Catalogue, asked: Asked) -> list[Hit]:
        if isinstance(asked.top, int):
            return catalogue.search(asked.query, asked.locale, asked.top)
        hits = catalogue.judged(asked.query, asked.locale)[: max(limits.TOPS)]
        if not hits:
            raise UserError("Nobody judged this query.", remedy="Choose how many products are to be found instead.")
        return hits

    async def _ranked(
        self, asked: Asked, products: Sequence[dict[str, str | None]], took: float | None, scores: Sequence[float] = ()
    ) -> Response:
        if not products:
            return await self._show(asked, searched=True)
        if not asked.query:
            raise UserError("The query is empty.")
        began = time.perf_counter()
        prediction = await self._rank(asked.query, products, asked.locale)
        seconds = {"first": took, "model": time.perf_counter() - began}
        judgements = await in_thread(self._judgements, asked)
        comparison = await in_thread(compare, products, scores or [None] * len(products), prediction, judgements)
        return await self._show(asked, comparison=comparison, seconds=seconds, searched=True, judged=len(judgements))

    def _judgements(self, asked: Asked) -> dict[str, str]:
        return self._catalogue.judgements(asked.query, asked.locale) if self._catalogue else {}

    async def _show(
        self,
        asked: Asked,
        *,
        comparison: Comparison | None = None,
        seconds: dict[str, Any] | None = None,
        searched: bool = False,
        judged: int = 0,
        refused: Refusal | None = None,
    ) -> Response:
        text = await in_thread(
            self._template.render,
            asked=asked,
            comparison=comparison,
            seconds=seconds,
            searched=searched,
            judged=judged,
            refused=refused,
            examples=self._examples,
        )
        headers = {**_HEADERS, "Cache-Control": "no-store", **(refused.headers if refused else {})}
        return Response(text, refused.status if refused else 200, headers, "text/html")


async def _static(name: str) -> Response:
    found = next((file for file in static_files().values() if file.name == name), None)
    if found is None:
        return Response("not found", 404, _HEADERS, "text/plain")
    return Response(found.content, 200, {**_HEADERS, **_FOREVER}, found.media_type)


@dataclass(frozen=True)
class StaticFile:
    """A static file of the page.

    Parameters
    ----------
    name
        Its name with a part of its hash: ``page-0123456789ab.css``.
    content
        Its bytes.
    media_type
        Its type.
    integrity
        Its hash, as the attribute of that name has it.
    """

    name: str
    content: bytes
    media_type: str
    integrity: str

    @property
    def address(self) -> str:
        """Its URL, relative to the page."""
        return f"{STATIC}/{self.name}"


@cache
def static_files() -> dict[str, StaticFile]:
    """Return the static files by name: ``page.css``, ``page.js``, ``icon.svg``."""
    folder = resources.files("zhichun.serve.page").joinpath(STATIC)
    texts = {name: folder.joinpath(name).read_text("utf-8") for name in ("page.css", "page.js", "icon.svg")}
    texts["page.css"] = asset("style.css") + texts["page.css"]
    return {name: _static_file(name, text.encode()) for name, text in texts.items()}


def _static_file(name: str, content: bytes) -> StaticFile:
    digest = hashlib.sha256(content)
    stem, kind = name.split(".")
    integrity = f"sha256-{base64.b64encode(digest.digest()).decode()}"
    return StaticFile(f"{stem}-{digest.hexdigest()[:12]}.{kind}", content, _TYPES[kind], integrity)
