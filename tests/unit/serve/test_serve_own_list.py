"""A list of one's own on the page of a server: ranked without a catalogue, kept where it is refused."""

import html
import re
from types import SimpleNamespace

import numpy as np
import pytest

from zhichun.core.tasks import TASKS
from zhichun.serve.search_page import LINE_LIMIT, LINES_LIMIT, page_router

fastapi = pytest.importorskip("fastapi")


async def rank_backwards(query, products, locale):
    return TASKS["gain"].predict(np.arange(len(products), dtype=np.float32)[:, None])


@pytest.fixture(scope="module")
def page():
    from fastapi.testclient import TestClient

    app = fastapi.FastAPI()
    service = SimpleNamespace(rank=rank_backwards, catalogue=None, task=TASKS["gain"], model="run")
    service.scorer = SimpleNamespace(engine_name="torch")
    app.include_router(page_router(service))
    return TestClient(app)


def plain(text):
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", text)).split())


def test_a_list_of_ones_own_is_ranked_without_a_catalogue(page):
    assert page.get("/?q=red").status_code == 200
    start = page.get("/").text
    assert 'role="search"' not in start
    assert '<details class="own" open>' in start
    answer = page.post("/", data={"q": "靴", "locale": "jp", "products": "赤い 靴\r\n\n  id 9\tBlue &amp; red\n<x>\n"})
    ranked = [plain(part) for part in answer.text.split('<li class="hit card"')[1:]]
    assert len(ranked) == 3
    assert "1 ▲2 up 2, from 3 <x>" in ranked[0]
    assert "2 = unmoved Blue & red" in ranked[1]
    assert "id 9" in ranked[1]
    assert "As given" in answer.text
    assert "BM25" not in plain(answer.text)
    assert "赤い 靴" in answer.text.split("<textarea")[1].split("</textarea>")[0]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"q": "x", "products": " \n\t\n"}, "There is no product to rank. Write one on each line."),
        ({"q": "", "products": "lamp"}, "The query is empty."),
        ({"q": "x"}, "There is no product to rank."),
        ({"q": "x", "products": "lamp\n" * (LINES_LIMIT + 1)}, "There are more than 100 products."),
        ({"q": "x", "products": "a" * (LINE_LIMIT + 1)}, "A product has 2,001 characters; 2,000 are possible."),
        ({"q": "x", "products": "lamp", "locale": "xx"}, "There is no such locale."),
    ],
)
def test_a_list_that_cannot_be_ranked_is_refused_and_kept(page, values, said):
    answer = page.post("/", data=values)
    assert answer.status_code == 422
    assert said in plain(answer.text)
    assert values.get("products", "").strip() in html.unescape(answer.text)


def test_a_body_that_is_too_large_is_not_read_to_its_end(page):
    answer = page.post("/", content=b"q=" + b"x" * 3_000_000)
    assert answer.status_code == 413
    assert "The list is too long." in plain(answer.text)


def test_a_list_that_was_made_to_cost_is_read_no_further_than_its_limit(page, monkeypatch):
    cleaned = []
    monkeypatch.setattr("zhichun.serve.search_page.clean_text", lambda text: cleaned.append(text) or text)
    answer = page.post("/", content=b"q=a&locale=us&products=" + b"a\n" * 1_000_000)
    assert answer.status_code == 422
    assert "There are more than 100 products." in plain(answer.text)
    assert len(cleaned) <= LINES_LIMIT + 2
    answer = page.post("/", content=b"a=1&" * 500_000)
    assert (answer.status_code, "There is no product to rank." in plain(answer.text)) == (422, True)
