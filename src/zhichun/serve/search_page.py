"""The page: search by URL, a user's list by form, the two orders of the products beside each other, and static files.

The page is rendered on the server and works without JavaScript, except for the user's judgements. It loads no external
resources, and the templates escape all texts of catalogue and request.
"""

import base64
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import StringIO
from itertools import islice
from typing import Any, Final
from urllib.parse import parse_qsl

import numpy as np
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool as in_thread

import zhichun
from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.schema import LABEL_NAMES
from zhichun.core.tasks import Prediction, Task
from zhichun.measure.page import asset, environment
from zhichun.metrics import Judged, label_codes, nDCG
from zhichun.score.index.scorer import IndexScorer
from zhichun.serve.catalogue_search import Catalogue, Fields, Hit
from zhichun.serve.limits import Refusal, invalid, too_large
from zhichun.serve.service import Service
from zhichun.text.clean import clean_text
from zhichun.text.fold import fold_locale

# Of the judgements, and of the classes of the substitute task.
CLASS_NAMES: Final = {**LABEL_NAMES, "other": "Other"}


@dataclass(frozen=True)
class Row:
    """A product on the page.

    Parameters
    ----------
    product
        Its fields by short name.
    first, second
        Its ranks in the two orders, from 1.
    first_score
        Of the first stage; None for a user's list.
    score
        The model's ranking score.
    label
        The model's class; None from a regressor.
    chances
        Each class with its probability.
    judged
        Its judgement, or None.
    """

    product: Fields
    first: int
    second: int
    first_score: float | None
    score: float
    label: str | None
    chances: dict[str, float]
    judged: str | None

    @property
    def moved(self) -> int:
        """Ranks gained; negative if it fell."""
        return self.first - self.second

    @property
    def record(self) -> dict[str, Any]:
        """The data stored with a user's judgement."""
        return {
            "product_id": self.product["product_id"],
            "locale": self.product["locale"],
            "model_label": self.label or "",
            "score": round(self.score, 6),
            "probabilities": {name: round(chance, 6) for name, chance in self.chances.items()},
        }


@dataclass(frozen=True)
class Comparison:
    """The two orders, with figures.

    Parameters
    ----------
    rows
        Products in the model's order.
    task
        The model's task.
    """

    rows: tuple[Row, ...]
    task: Task

    def exact_in_first(self, count: int) -> tuple[int, int] | None:
        """Count predicted Exact among the first of both orders; None without this class."""
        if "E" not in self.task.classes or len(self.rows) <= count:
            return None
        exact = [row for row in self.rows if row.label == "E"]
        return sum(row.first <= count for row in exact), sum(row.second <= count for row in exact)

    def ndcg(self) -> tuple[float, float] | None:
        """Compute nDCG of the judged products in both orders, with the contest's gains.

        None if all have one label, or if the model does not rank by gain.
        """
        rows = [row for row in self.rows if row.judged]
        labels = [row.judged for row in rows if row.judged]
        if len(set(labels)) < 2 or self.task.name == "substitute":
            return None
        codes = label_codes(labels)
        places = ([row.first for row in rows], [row.second for row in rows])
        first, second = (
            nDCG()(Judged(np.zeros(len(rows), int), codes, scores=-np.asarray(each, float))) for each in places
        )
        return first, second


def compare(
    products: Sequence[Fields],
    first_scores: Sequence[float | None],
    prediction: Prediction,
    judgements: Mapping[str, str],
) -> Comparison:
    """Compare the model's order with that of the first stage.

    Parameters
    ----------
    products, first_scores
        Products in the order of the first stage, and its scores.
    prediction
        The model's predictions.
    judgements
        Labels by product id.
    """
    labels, probabilities, classes = prediction.labels, prediction.probabilities, prediction.task.classes
    rows = []
    for second, place in enumerate(np.argsort(-prediction.score, kind="stable").tolist(), start=1):
        chances = () if probabilities is None else zip(classes, probabilities[place].tolist(), strict=True)
        rows.append(
            Row(
                product=products[place],
                first=place + 1,
                second=second,
                first_score=first_scores[place],
                score=float(prediction.score[place]),
                label=labels[place] if labels else None,
                chances=dict(chances),
                judged=judgements.get(products[place]["product_id"] or ""),
            )
        )
    return Comparison(tuple(rows), prediction.task)


EXAMPLES: Final = 8
QUERY_LIMIT: Final = 500
LINES_LIMIT: Final = 100
LINE_LIMIT: Final = 2000
# Characters beyond U+FFFF take twelve in a form.
FORM_LIMIT: Final = 12 * LINES_LIMIT * LINE_LIMIT
FORM_FIELDS: Final = 8
TOPS: Final = (10, 20, 50, 100)
USUAL_TOP: Final = 20
# In place of a number: the products that were judged for the query, and no others.
JUDGED: Final = "judged"
# Or the products that the model itself finds, where it scores from an index.
NEAREST: Final = "nearest"
PACKAGE, STATIC = "zhichun.serve", "static"
_TYPES: Final = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
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


@dataclass(frozen=True)
class Asked:
    """A search, or a user's list to rank.

    Parameters
    ----------
    query
        The query, cleaned; empty on the start page.
    locale
        One of those that the page offers.
    top
        How many products to rerank, one of `TOPS`; or `JUDGED` or `NEAREST`.
    lines
        The user's products as typed, one per line; empty for a search.
    """

    query: str = ""
    locale: str = "us"
    top: int | str = USUAL_TOP
    lines: str = ""


def read_asked(values: Mapping[str, str], locales: Sequence[str]) -> Asked:
    """Read the form's values."""
    typed = values.get("q", "")
    if len(typed) > QUERY_LIMIT:
        raise invalid(f"The query has {len(typed):,} characters; {QUERY_LIMIT} are possible.")
    locale = fold_locale(values.get("locale", "")) or locales[0]
    if locale not in locales:
        raise invalid(f"There is no such locale. There are: {', '.join(locales)}.")
    tops: dict[str, int | str] = {str(each): each for each in (*TOPS, JUDGED, NEAREST)}
    return Asked(clean_text(typed), locale, tops.get(values.get("top", ""), USUAL_TOP), values.get("products", ""))


def form_values(body: bytes) -> dict[str, str]:
    """Read a form; one with unknown fields is rejected as empty."""
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=FORM_FIELDS))
    except ValueError:
        return {}


def own_products(lines: str, locale: str) -> list[Fields]:
    """Read the user's products: one title per line, or an id, a tab and a title."""
    products: list[Fields] = []
    for line in islice(filter(None, map(str.strip, StringIO(lines, newline=None))), LINES_LIMIT + 1):
        if len(line) > LINE_LIMIT:
            raise invalid(f"A product has {len(line):,} characters; {LINE_LIMIT:,} are possible.")
        name, tab, title = line.partition("\t")
        if title := clean_text(title if tab else line):
            missing = dict.fromkeys(("brand", "color", "bullets", "description"))
            product_id = name.strip() if tab else title
            products.append({**missing, "title": title, "product_id": product_id, "locale": locale})
    if not products:
        raise invalid("There is no product to rank. Write one on each line.")
    if len(products) > LINES_LIMIT:
        raise invalid(f"There are more than {LINES_LIMIT} products.")
    return products


def page_router(service: Service) -> APIRouter:
    """Make the page's routes, for a service that is open; without a catalogue it ranks lists from a form."""
    page = _Page(service)
    router = APIRouter(include_in_schema=False)
    router.add_api_route("/", page.search, methods=["GET", "HEAD"])
    router.add_api_route("/", page.rank_own, methods=["POST"])
    router.add_api_route(f"/{STATIC}/{{name}}", _static, methods=["GET", "HEAD"])
    return router


class _Page:
    def __init__(self, service: Service) -> None:
        catalogue = service.catalogue
        self._service, self._catalogue = service, catalogue
        self._locales = (catalogue.locales if catalogue else ()) or schema.LOCALES
        self._template = environment(PACKAGE).get_template("page.html")
        self._values = {
            "task": service.task,
            "model": service.model,
            "engine": service.scorer.engine_name,
            "version": zhichun.__version__,
            "products": len(catalogue) if catalogue else None,
            "examples": {name: catalogue.examples(name, EXAMPLES) for name in self._locales} if catalogue else {},
            "has_judged": catalogue is not None and catalogue.has_judged,
            "locales": self._locales,
            "labels": schema.LABELS,
            "class_names": CLASS_NAMES,
            "files": static_files(),
            "limits": {"query": QUERY_LIMIT, "lines": LINES_LIMIT},
            "tops": TOPS,
            "has_index": catalogue is not None and isinstance(service.scorer, IndexScorer),
        }

    async def search(self, request: Request) -> Response:
        """Show the start page, or the results of a query."""
        return await self._answer(dict(request.query_params))

    async def rank_own(self, request: Request) -> Response:
        """Rank a user's list."""
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > FORM_LIMIT:
                return await self._show(Asked(locale=self._locales[0]), refused=too_large("The list is too long."))
        return await self._answer({"products": "", **await in_thread(form_values, bytes(body))}, own=True)

    async def _answer(self, values: dict[str, str], *, own: bool = False) -> Response:
        asked = Asked(values.get("q", "")[:QUERY_LIMIT], self._locales[0], lines=values.get("products", ""))
        try:
            asked = read_asked(values, self._locales)
            if own:
                return await self._ranked(asked, await in_thread(own_products, asked.lines, asked.locale), None)
            if not asked.query or self._catalogue is None:
                return await self._show(asked)
            began = time.perf_counter()
            if asked.top == NEAREST:
                products = await self._nearest(self._catalogue, asked)
                return await self._ranked(asked, products, time.perf_counter() - began)
            hits = await in_thread(self._find, self._catalogue, asked)
            took = time.perf_counter() - began
            return await self._ranked(asked, [hit.product for hit in hits], took, [hit.score for hit in hits])
        except UserError as error:
            return await self._show(asked, refused=invalid(str(error)))
        except Refusal as refused:
            return await self._show(asked, refused=refused)

    async def _nearest(self, catalogue: Catalogue, asked: Asked) -> list[Fields]:
        """Find products by the model alone, which reads the query in its own thread."""
        scorer = self._service.scorer
        if not isinstance(scorer, IndexScorer):
            raise UserError("Only an index finds products by the model.", remedy="Choose how many are to be found.")
        nearest = await in_thread(catalogue.nearest, scorer, asked.locale)
        places = await self._service.in_model_thread(nearest.search, asked.query, max(TOPS))
        return await in_thread(catalogue.products_of, asked.locale, places)

    @staticmethod
    def _find(catalogue: Catalogue, asked: Asked) -> list[Hit]:
        if isinstance(asked.top, int):
            return catalogue.search(asked.query, asked.locale, asked.top)
        if hits := catalogue.judged(asked.query, asked.locale)[: max(TOPS)]:
            return hits
        raise UserError("Nobody judged this query.", remedy="Choose how many products are to be found instead.")

    async def _ranked(
        self, asked: Asked, products: list[Fields], took: float | None, scores: Sequence[float] = ()
    ) -> Response:
        if not products:
            return await self._show(asked, searched=True)
        if not asked.query:
            raise UserError("The query is empty.")
        began = time.perf_counter()
        prediction = await self._service.rank(asked.query, products, asked.locale)
        seconds = {"first": took, "model": time.perf_counter() - began}
        judgements = await in_thread(self._judgements, asked)
        comparison = await in_thread(compare, products, scores or [None] * len(products), prediction, judgements)
        return await self._show(asked, comparison=comparison, seconds=seconds, searched=True, judged=len(judgements))

    def _judgements(self, asked: Asked) -> dict[str, str]:
        return self._catalogue.judgements(asked.query, asked.locale) if self._catalogue else {}

    async def _show(self, asked: Asked, refused: Refusal | None = None, **found: Any) -> Response:
        values = {"comparison": None, "searched": False, **self._values, **found}
        text = await in_thread(self._template.render, values, asked=asked, refused=refused)
        headers = {**_HEADERS, "Cache-Control": "no-store", **(refused.headers if refused else {})}
        return Response(text, refused.status if refused else 200, headers, "text/html")


async def _static(name: str) -> Response:
    found = next((file for file in static_files().values() if file.address == f"{STATIC}/{name}"), None)
    if found is None:
        return Response("not found", 404, _HEADERS, "text/plain")
    return Response(found.content, 200, {**_HEADERS, **_FOREVER}, found.media_type)


@dataclass(frozen=True)
class StaticFile:
    """A static file of the page.

    Parameters
    ----------
    address
        Its URL, relative to the page, with a part of its hash: ``static/page-0123456789ab.css``.
    content
        Its bytes.
    media_type
        Its type.
    integrity
        Its hash, as the attribute of that name has it.
    """

    address: str
    content: bytes
    media_type: str
    integrity: str


@cache
def static_files() -> dict[str, StaticFile]:
    """Return the static files by name: ``page.css``, ``page.js``, ``icon.svg``."""
    texts = {name: asset(f"{STATIC}/{name}", PACKAGE) for name in _TYPES}
    texts["page.css"] = asset("style.css") + texts["page.css"]
    files = {}
    for name, text in texts.items():
        digest = hashlib.sha256(text.encode())
        address = f"{STATIC}/{name.replace('.', f'-{digest.hexdigest()[:12]}.')}"
        integrity = f"sha256-{base64.b64encode(digest.digest()).decode()}"
        files[name] = StaticFile(address, text.encode(), _TYPES[name], integrity)
    return files
