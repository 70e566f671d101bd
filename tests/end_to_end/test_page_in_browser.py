"""The page of a server in a browser: search, filter, judge and download, by mouse and by keyboard, wide and narrow."""

import csv
import shutil
from itertools import pairwise
from urllib.parse import urlencode

import pytest

from zhichun.core import schema
from zhichun.data.dataset import Dataset

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("needs Debian's chromium at /usr/bin", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("fastapi")

OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
RATINGS = {"E": "3", "S": "2", "C": "1", "I": "0"}
SECONDS = 20
QUERY = {"us": "pan black", "es": "zapatillas mujer", "jp": "フライパン ブラック"}
LANGUAGE = {"us": "en", "es": "es", "jp": "ja"}


@pytest.fixture(scope="module")
def address(tiny_dataset, tiny_run, serving):
    """The page of a small trained run and its catalogue."""
    from zhichun.serve.app import ServeSettings

    with serving(ServeSettings(run=tiny_run, products=tiny_dataset)) as url:
        yield f"{url}/"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser, address):
    """Open a page in a browser of its own; whatever its console says is a failure."""
    said, contexts = [], []

    def open_page(path="", **settings):
        contexts.append(browser.new_context(**settings))
        page = contexts[-1].new_page()
        page.set_default_timeout(1000 * SECONDS)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(address + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def found(locale, query=None, **more):
    return "?" + urlencode({"q": query or QUERY[locale], "locale": locale, **more})


def read_csv(page, button, folder):
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button, exact=True).click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    with path.open(encoding="utf-8", newline="") as stream:
        return path, list(csv.DictReader(stream))


def choose(page, number, label):
    page.locator(f"#product-{number} .judge label.of-{label}").click()


def test_a_search_in_each_language_shows_both_orders(open_page):
    page = open_page()
    for locale, query in QUERY.items():
        page.get_by_role("combobox", name="Locale").first.select_option(locale)
        page.get_by_role("combobox", name="Products").select_option("10")
        page.get_by_role("search").get_by_label("Query").fill(query)
        page.get_by_role("button", name="Search").click()
        page.wait_for_url("**q=**")
        playwright.expect(page.locator(".results > h2")).to_have_text(query)
        assert page.locator(".results > h2").get_attribute("lang") == LANGUAGE[locale]
        first, ranked = page.locator(".first .hit"), page.locator(".reranked .hit")
        assert first.count() == ranked.count() == 10
        assert sorted(first.locator("a").all_inner_texts()) == sorted(ranked.locator("h4").all_inner_texts())
        gains = [float(text) for text in ranked.locator(".score .figure").all_inner_texts()]
        assert gains == sorted(gains, reverse=True)
        # A bar is as long as its probability.
        bar, figure = ranked.locator(".chances rect").first, ranked.locator(".chances .figure").first
        assert float(bar.get_attribute("width")) == pytest.approx(100 * float(figure.inner_text()), abs=0.6)
        assert bar.evaluate("bar => bar.getBoundingClientRect().width") > 1
        moves = ranked.locator(".move").all_inner_texts()
        assert len(moves) == 10


def test_a_label_filters_both_lists_and_says_so(open_page):
    page = open_page(found("us", top=50))
    labels = [card.get_attribute("data-label") for card in page.locator(".card").all()]
    for label in (*schema.LABELS, ""):
        page.locator(f'.filter label:has([value="{label}"])').click()
        left = labels.count(label) if label else len(labels)
        assert page.locator(".first .hit:visible").count() == page.locator(".card:visible").count() == left
        said = f"{left} of {len(labels)} products shown" if label else ""
        playwright.expect(page.locator("#filter-status")).to_have_text(said)


def test_without_javascript_it_searches_filters_and_does_not_offer_to_judge(open_page):
    page = open_page(found("us"), java_script_enabled=False)
    labels = [card.get_attribute("data-label") for card in page.locator(".card").all()]
    page.locator('.filter label:has([value="E"])').click()
    assert page.locator(".card:visible").count() == labels.count("E")
    assert page.locator(".judge:visible").count() == page.locator(".judgements:visible").count() == 0
    assert page.get_by_text("Judging results needs JavaScript.").is_visible()


def test_judgements_are_kept_downloaded_and_read_by_prepare(open_page, tiny_dataset, tmp_path, succeed):
    page = open_page(found("us", "=black"))  # a spreadsheet would take it for a formula
    assert page.get_by_role("button", name="Download CSV").is_disabled()
    for number, label in enumerate("ESCIS", start=1):
        choose(page, number, label)
    choose(page, 5, "I")  # a second thought
    page.locator("#product-4 .clear").click()
    records = [
        page.evaluate("n => JSON.parse(document.getElementById(`product-${n}`).dataset.record)", n) for n in (1, 5)
    ]
    page.goto(page.url.split("?")[0] + found("es"))
    choose(page, 1, "E")
    page.reload()
    assert page.locator("#product-1 .judge :checked").input_value() == "E"
    playwright.expect(page.locator("#judgements-status")).to_have_text("5 judgements of 2 queries.")

    whole, rows = read_csv(page, "Download CSV", tmp_path)
    assert [(row["query"], row["locale"], row["label"]) for row in rows] == [
        (" =black", "us", "E"),
        (" =black", "us", "S"),
        (" =black", "us", "C"),
        (" =black", "us", "I"),
        (QUERY["es"], "es", "E"),
    ]
    for row, record in zip((rows[0], rows[3]), records, strict=True):
        assert (row["product_id"], row["model_label"]) == (record["product_id"], record["model_label"])
        assert {name: float(row[f"p_{name}"]) for name in "ESCI"} == record["probabilities"]
        assert float(row["score"]) == record["score"]

    judged = {(row["product_id"], row["label"]) for row in rows if row["locale"] == "us"}
    path, quepid = read_csv(page, "Download for Quepid, us", tmp_path)
    assert list(quepid[0]) == ["query", "docid", "rating"]
    assert {(row["docid"], row["rating"]) for row in quepid} == {(name, RATINGS[label]) for name, label in judged}
    products = tiny_dataset / schema.PRODUCTS_FILE
    assert "5 of 5 pairs, 2 queries" in succeed(
        "prepare", tmp_path / "all", "--examples", whole, "--products", products
    )
    arguments = ["--examples", path, "--products", products, "--labels", "3=E,2=S,1=C,0=I"]
    succeed("prepare", tmp_path / "data", *arguments)
    examples = Dataset.open(tmp_path / "data").examples
    assert set(examples.column(schema.QUERY).to_pylist()) == {"=black"}
    pairs = (examples.column(name).to_pylist() for name in (schema.PRODUCT_ID, schema.LABEL))
    assert set(zip(*pairs, strict=True)) == judged

    page.get_by_text("Forget them", exact=True).click()
    page.get_by_role("button", name="Forget all judgements").click()
    playwright.expect(page.locator("#judgements-status")).to_contain_text("None yet.")
    assert page.locator(".judge :checked").count() == page.locator(".quepid").count() == 0


def test_everything_is_done_by_keyboard(open_page):
    page = open_page()
    keys = page.keyboard
    focused = "document.activeElement"

    def tab_until(selector):
        for _ in range(60):
            keys.press("Tab")
            if page.evaluate(f"{focused}.matches({selector!r})"):
                return
        pytest.fail(f"no way to {selector}")

    tab_until("input[name=q]")
    keys.type(QUERY["us"])
    keys.press("Enter")
    page.wait_for_url("**q=**")
    keys.press("Tab")
    assert page.evaluate(f"{focused}.textContent") == "Skip to the reranked products"
    keys.press("Enter")
    tab_until("#product-1 .judge input")
    keys.press("Space")
    ring = f"getComputedStyle({focused}.parentElement).outlineStyle"
    assert page.evaluate(ring) == "solid"
    chosen = page.locator("#product-1 .judge :checked")
    assert chosen.input_value() == "E"
    keys.press("ArrowRight")
    assert chosen.input_value() == "S"
    tab_until("#product-1 .clear")
    keys.press("Enter")
    assert chosen.count() == 0
    assert page.evaluate(f"{focused}.matches('#product-1 .judge input')")


def test_names_for_screen_readers(open_page):
    page = open_page(found("us"))
    assert page.get_by_role("banner").count() == page.get_by_role("main").count() == 1
    assert page.get_by_role("contentinfo").count() == page.get_by_role("search").count() == 1
    headings = [int(each.evaluate("h => h.tagName[1]")) for each in page.get_by_role("heading").all()]
    assert headings[0] == 1
    assert all(lower - upper <= 1 for upper, lower in pairwise(headings))
    nameless = "[...document.querySelectorAll('input, select, textarea')].filter(e => !e.labels.length).length"
    assert page.evaluate(nameless) == 0
    assert page.get_by_role("radio", name="Irrelevant").count() > 1
    assert page.get_by_role("group", name="Your judgement of number 1,").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_is_never_wider_than_its_screen_and_text_has_contrast(open_page, scheme):
    phone = {"viewport": {"width": 360, "height": 740}, "color_scheme": scheme, "reduced_motion": "reduce"}
    page = open_page("", **phone)
    for path in ("", found("us"), found("jp"), found("es", "z" * 500), found("us", "nothingatall")):
        page.goto(page.url.split("?")[0] + path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.goto(page.url.split("?")[0] + found("us"))
    for selector in (".badge", ".quiet", ".move.down", ".move.up", ".judge label", "button", "summary", ".first a"):
        for element in page.locator(selector).all()[:3]:
            assert element.evaluate(CONTRAST) >= 4.5, selector


# The contrast of WCAG 2 between a text and the nearest background behind it.
CONTRAST = """(element) => {
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => {
    const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = parts(color).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const isClear = (one) => parts(getComputedStyle(one).backgroundColor)[3] === 0;
  let behind = element;
  while (behind.parentElement && isClear(behind)) behind = behind.parentElement;
  const both = [light(getComputedStyle(element).color), light(getComputedStyle(behind).backgroundColor)];
  return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
}"""
