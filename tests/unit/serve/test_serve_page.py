"""The page of a server, without a browser: what it shows, what it refuses, and that no text becomes markup."""

import asyncio
import html
import re
from html.parser import HTMLParser
from types import SimpleNamespace
from urllib.parse import urlencode

import numpy as np
import pyarrow as pa
import pytest

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.tasks import TASKS
from zhichun.serve.catalogue_search import Catalogue, JudgedQueries
from zhichun.serve.limits import overloaded
from zhichun.serve.search_page import QUERY_LIMIT, page_router, static_files

fastapi = pytest.importorskip("fastapi")
EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}"
PRODUCTS = [
    ("b1", "us", "Red shoes", "Ardmoti", "Red", "Light and <b>bold</b>"),
    ("b2", "us", "Red shoes for running", None, None, None),
    ("b3", "us", f"Red {EVIL}", EVIL, EVIL, EVIL),
    ("b4", "us", None, "Red", None, None),
    ("e1", "es", "Zapatillas rojas", None, None, None),
    ("j1", "jp", "赤い靴", None, None, None),
]
COLUMNS = (schema.PRODUCT_ID, schema.LOCALE, schema.TITLE, schema.BRAND, schema.COLOR, schema.BULLETS)
JUDGED = [("red shoes", "b1", "us", "E", "test"), ("red shoes", "b2", "us", "I", "test")]
SHOES = "/?" + urlencode({"q": "red shoes", "locale": "us"})


class Tags(HTMLParser):
    """What a browser makes of a page: its tags with their attributes."""

    void = frozenset({"meta", "link", "input", "rect", "path"})

    def __init__(self, text):
        super().__init__()
        self.tags, self._open = [], []
        self.feed(text)
        assert not self._open, self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def all(self, tag, **wanted):
        return [a for name, a in self.tags if name == tag and all(a.get(k) == v for k, v in wanted.items())]


def table():
    columns = dict(zip(COLUMNS, map(list, zip(*PRODUCTS, strict=True)), strict=True))
    return pa.table({**columns, schema.DESCRIPTION: pa.nulls(len(PRODUCTS), pa.string())})


def judged():
    names = (schema.QUERY, schema.PRODUCT_ID, schema.LOCALE, schema.LABEL, schema.SPLIT)
    return JudgedQueries(pa.table(dict(zip(names, map(list, zip(*JUDGED, strict=True)), strict=True))))


async def rank_backwards(query, products, locale):
    """Put the last product first: class E, then S, C, I and I again."""
    chosen = [0, 1, 2, 3, 3]
    rows = np.full((len(products), 4), 0.05)
    for place in range(len(products)):
        rows[len(products) - 1 - place, chosen[min(place, 4)]] = 0.85
    return TASKS["esci"].of_probabilities(rows)


def client(rank=rank_backwards, *, task="esci", judgements=JUDGED, made=None):
    from fastapi.testclient import TestClient

    made = made or Catalogue(table(), judgements and judged())
    app = fastapi.FastAPI()
    scorer = SimpleNamespace(engine_name="torch")
    service = SimpleNamespace(rank=rank, catalogue=made, task=TASKS[task], model="runs/<tiny>", scorer=scorer)
    app.include_router(page_router(service))
    return TestClient(app)


@pytest.fixture(scope="module")
def page():
    return client()


def plain(text):
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", text)).split())


def cards(text):
    return [plain(part) for part in text.split('<li class="hit card"')[1:]]


def test_the_start_page_offers_queries_of_every_locale(page):
    answer = page.get("/")
    tags = Tags(answer.text)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    links = [a["href"] for a in tags.all("a") if a["href"].startswith("?")]
    assert links[:1] == ["?q=red+shoes&locale=us&top=20"]
    assert {a["lang"] for a in tags.all("a") if "lang" in a} == {"en", "es", "ja"}
    assert "6 products, searched by BM25 and reranked by runs/<tiny>" in plain(answer.text)
    assert not tags.all("section", id="results")


def test_nothing_may_run_or_load_but_the_pages_own_files(page):
    for answer in (page.get("/"), page.get(SHOES), page.post("/", data={"q": "x"}), page.get("/static/none.css")):
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'; ")
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
    answer = page.get(SHOES)
    assert answer.headers["cache-control"] == "no-store"
    tags = Tags(answer.text)
    assert not tags.all("style")
    assert not [a for _, a in tags.tags if "style" in a or any(name.startswith("on") for name in a)]
    assert all("src" in a and "integrity" in a for a in tags.all("script"))
    loaded = [a.get("src") or a["href"] for name, a in tags.tags if name in ("script", "link", "img")]
    assert len(loaded) == 3
    assert all(re.fullmatch(r"static/\w+-[0-9a-f]{12}\.(css|js|svg)", address) for address in loaded)


def test_own_files_are_whole_and_kept_for_good(page):
    for name, file in static_files().items():
        answer = page.get(f"/{file.address}")
        assert answer.content == file.content
        assert answer.headers["content-type"].startswith(file.media_type)
        assert "immutable" in answer.headers["cache-control"]
        assert page.get(f"/static/{name}").status_code == 404
    assert page.get("/static/..%2Frouter.py").status_code == 404


def test_both_orders_are_shown_with_moves_and_judgements(page):
    text = page.get(SHOES).text
    first = [plain(part) for part in text.split('<li class="hit" ')[1:5]]
    assert "1 Red shoes for running" in first[0]
    assert "2 Red shoes Ardmoti · Red" in first[1]
    assert [re.search(r"\d+\.\d\d by BM25", part) is not None for part in first] == [True] * 4
    ranked = cards(text)
    assert "1 ▲3 up 3, from 4 Red" in ranked[0]
    assert "2 ▲1 up 1, from 3 (no title)" in ranked[1]
    assert "E Exact" in ranked[0]
    assert "E Exact 0.85" in ranked[0]
    assert "gain 0.8555" in ranked[0]
    assert "4 ▼3 down 3, from 1 Red shoes" in ranked[3]
    assert "I Irrelevant judged I Irrelevant" in ranked[3]
    assert "judged" not in ranked[0]
    assert "nDCG of the 2 judged ones" in plain(text)
    assert "0.631 → 1.000" in plain(text)  # the Exact one is second of the two, then first


def test_the_judged_products_of_a_query_are_ranked_by_themselves(page):
    assert "Rank the 2 judged products of this query instead" in page.get(SHOES).text
    answer = page.get(f"{SHOES}&top=judged")
    assert len(cards(answer.text)) == 2
    assert "instead" not in answer.text
    assert Tags(answer.text).all("option", value="judged")[0]["selected"] is None
    answer = page.get("/?q=red&locale=us&top=judged")
    assert (answer.status_code, "Nobody judged this query." in plain(answer.text)) == (422, True)
    assert not Tags(client(judgements=None).get("/").text).all("option", value="judged")


def test_every_label_is_a_filter_with_its_count(page):
    text = page.get(SHOES).text
    tags = Tags(text)
    assert [a["value"] for a in tags.all("input", name="show")] == ["", "E", "S", "C", "I"]
    assert [a["data-label"] for a in tags.all("li") if "data-record" in a] == ["E", "S", "C", "I"]
    css = static_files()["page.css"].content.decode()
    for name in ("E", "S", "C", "I", "other"):
        assert f'.results:has(#show-{name}:checked) .hit:not([data-label="{name}"])' in css


def test_markup_in_titles_queries_and_names_stays_text(page):
    for answer in (
        page.get(SHOES),
        page.get("/?" + urlencode({"q": f"red {EVIL}"})),
        page.post("/", data={"q": EVIL, "products": f"{EVIL}\n{EVIL}\tx"}),
        page.post("/", data={"q": EVIL, "products": "", "locale": EVIL}),
        page.get("/?" + urlencode({"q": "red", "locale": EVIL})),
    ):
        tags = Tags(answer.text)
        assert len(tags.all("script")) == 1
        assert not tags.all("img")
        assert not [a for _, a in tags.tags if "onerror" in a]
        assert "49" not in plain(answer.text).replace("0.49", "")
    assert Tags(page.get(SHOES).text).all("section", id="results")[0]["data-model"] == "runs/<tiny>"


@pytest.mark.parametrize(
    ("query", "locale", "language"), [("zapatillas", "es", "es"), ("靴", "jp", "ja"), ("RED", "us", "en")]
)
def test_texts_are_in_the_language_of_their_locale(page, query, locale, language):
    tags = Tags(page.get("/?" + urlencode({"q": query, "locale": locale})).text)
    assert [a for a in tags.all("h2") if "lang" in a] == [{"lang": language}]
    assert tags.all("input", name="q")[0]["lang"] == language
    titles = [a for name, a in tags.tags if name == "span" and "lang" in a]
    assert titles
    assert {a["lang"] for a in titles} == {language}


def test_a_query_that_finds_nothing_is_answered_kindly(page):
    answer = page.get("/?q=qwxyz")
    assert answer.status_code == 200
    assert "No product has a word of this query." in plain(answer.text)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"q": "x" * (QUERY_LIMIT + 1)}, "The query has 501 characters; 500 are possible."),
        ({"q": "red", "locale": "fr"}, "There is no such locale. There are: us, es, jp."),
    ],
)
def test_what_cannot_be_asked_is_said_on_the_page(page, values, said):
    answer = page.get("/?" + urlencode(values))
    assert answer.status_code == 422
    assert said in plain(answer.text)
    assert Tags(answer.text).all("div", role="alert")


@pytest.mark.parametrize("query", ["", "+++", "q=%00", "q=red&top=999&top=x", "q=%ff%fe", "q=red&q=shoes&x=1"])
def test_odd_addresses_are_no_errors(page, query):
    assert page.get(f"/?{query}").status_code == 200
    assert page.head("/").status_code == 200


def test_as_many_products_as_asked_for_are_reranked():
    seen = []

    async def rank(query, products, locale):
        seen.append((query, len(products), locale))
        return await rank_backwards(query, products, locale)

    made = client(rank)
    made.get(SHOES)
    for top in ("100", "7", "-1", "1e9"):
        made.get(f"{SHOES}&top={top}")
    assert seen == [("red shoes", 4, "us")] * 5


def test_a_busy_server_and_a_model_that_refuses_are_said_on_the_page():
    async def busy(query, products, locale):
        raise overloaded("the queue is full.", 3)

    async def refuse(query, products, locale):
        raise UserError("no such field.", remedy="Leave it out.")

    answer = client(busy).get(SHOES)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
    assert "The server is busy. Try again in a moment. the queue is full." in plain(answer.text)
    answer = client(refuse).get(SHOES)
    assert (answer.status_code, "no such field. Leave it out." in plain(answer.text)) == (422, True)


def test_a_regressor_has_no_badges_and_two_classes_are_two():
    async def regress(query, products, locale):
        return TASKS["gain"].predict(np.arange(len(products), dtype=np.float32)[:, None])

    async def find_substitutes(query, products, locale):
        return TASKS["substitute"].predict(np.array([[0, place - 1.5] for place in range(len(products))], np.float32))

    text = client(regress, task="gain").get(SHOES).text
    tags = Tags(text)
    assert not tags.all("input", name="show")
    assert not [a for a in tags.all("ul") if a.get("class") == "chances"]
    assert not [part for part in cards(text) if " ✓ right" in part]
    assert 'class="badge  of-' not in text
    assert len([a for a in tags.all("input") if a.get("name") == "judge-1"]) == 4
    text = client(find_substitutes, task="substitute").get(SHOES).text
    assert [a["value"] for a in Tags(text).all("input", name="show")] == ["", "other", "S"]
    assert "S Substitute" in cards(text)[0]
    assert "– Other" in cards(text)[-1]
    assert "p(Substitute) 0.8176" in cards(text)[0]
    assert "nDCG" not in text


def test_the_page_stays_out_of_the_description_of_the_interface(page):
    assert page.app.openapi()["paths"] == {}


def test_the_search_does_not_hold_the_server_up(monkeypatch):
    """Other requests are answered while the first stage searches."""
    made = Catalogue(table())
    loops = []

    def search(*arguments):
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        loops.append("in a thread")
        return []

    monkeypatch.setattr(made, "search", search)
    assert client(made=made).get(SHOES).status_code == 200
    assert loops == ["in a thread"]


def test_every_address_on_the_page_is_relative_so_that_a_proxy_may_put_it_below_a_path(page):
    for text in (page.get("/").text, page.get(SHOES).text, page.post("/", data={"q": "x", "products": "a"}).text):
        tags = Tags(text)
        addresses = [a[name] for _, a in tags.tags for name in ("href", "src", "action") if name in a]
        assert addresses
        assert not [address for address in addresses if re.match(r"/|[a-z]+:", address)]
    script = static_files()["page.js"].content.decode()
    assert not re.search(r"""fetch\(|["'`]/[a-z]""", script)


def test_all_but_the_waiting_is_done_beside_the_event_loop(monkeypatch):
    """Other requests are answered while a page is searched, compared and written."""
    loops = {}

    def noted(name, function):
        def call(*given, **options):
            try:
                asyncio.get_running_loop()
                loops[name] = "on the loop"
            except RuntimeError:
                loops[name] = "in a thread"
            return function(*given, **options)

        return call

    from jinja2 import Template

    from zhichun.serve import search_page

    for where, name in (
        (search_page, "compare"),
        (search_page, "own_products"),
        (search_page, "form_values"),
        (Template, "render"),
    ):
        monkeypatch.setattr(where, name, noted(name, getattr(where, name)))
    page = client()
    assert page.get(SHOES).status_code == page.post("/", data={"q": "x", "products": "a"}).status_code == 200
    assert loops == dict.fromkeys(("compare", "own_products", "form_values", "render"), "in a thread")
