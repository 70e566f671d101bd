"""The page of an audit: nothing in the data can become markup, and in a browser it does what it says."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pyarrow as pa
import pytest

from zhichun.judgements.audit import write_audit_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EVIL = "</script><script>document.title = 'broken'</script><!--<b>\u2028"
COUNTS = {"pairs": 40, "issues": 3, "share": 0.075}
SUMMARY = {
    **COUNTS,
    "folds": 5,
    "estimated_wrong": 0.1,
    "out_of_fold": {"micro_f1": 0.7},
    "labels": list("ESCI"),
    "joint": [[9, 1, 0, 0]] * 4,
    "by_label": dict.fromkeys("ESCI", COUNTS),
    "by_locale": dict.fromkeys(("es", "jp", "us"), COUNTS),
}
ISSUES = pa.table(
    {
        "example_id": [7, 8, 9],
        "query": ["zapatillas", "赤い 靴", EVIL],
        "product_id": ["1", "2", "3"],
        "product_locale": ["es", "jp", "us"],
        "product_title": ["Zapatillas, rojas", "赤い靴", EVIL],
        "product_description": [EVIL, None, None],
        "product_bullet_point": [None, None, None],
        "product_brand": [None, None, 'a "brand"'],
        "product_color": [None, None, None],
        "esci_label": ["E", "I", "S"],
        "likely_label": ["I", "E", "E"],
        **{f"p_{label}": [0.25, 0.25, 0.25] for label in "ESCI"},
        "quality": [0.1, 0.2, 0.3],
    }
)


@pytest.fixture
def page(tmp_path):
    write_audit_page(tmp_path / "index.html", SUMMARY, ISSUES, np.linspace(0, 1, 40), {9: "drop"}, "key")
    return tmp_path / "index.html"


def test_the_page_needs_nothing_from_elsewhere_and_holds_its_data_as_data(page):
    text = page.read_text("utf-8")
    assert not re.search(r"https?://|\bsrc=|@import|url\(", text)
    assert text.count("<script") == text.count("</script>") == 2
    written = re.search(r'<script[^>]*id="issues">(.*?)</script>', text, re.DOTALL)[1]
    assert not set(written) & set("<>&")
    data = json.loads(written)
    assert data["languages"] == {"es": "es", "jp": "ja", "us": "en"}
    assert data["decided"] == {"9": "drop"}
    assert [row[data["columns"].index("query")] for row in data["rows"]] == ISSUES["query"].to_pylist()


def test_what_is_left_out_is_said(tmp_path):
    write_audit_page(tmp_path / "p.html", {**SUMMARY, "issues": 9000}, ISSUES, np.linspace(0, 1, 40), {}, "key")
    assert "This page has the 3 most doubtful ones; issues.csv has all." in (tmp_path / "p.html").read_text("utf-8")


# In a browser. What a script at the end of the page reports comes back as text of an element.

REPORT = """
const seen = () => [...document.querySelectorAll(".pair")].map((pair) => pair.id);
const press = (id, key) => document.querySelector(`#${id} input:checked`)
  .dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
const choose = (id, value) => {
  document.getElementById(id).value = value;
  document.getElementById(id).dispatchEvent(new Event("input", { bubbles: true }));
};
const found = { title: document.title, all: seen() };
found.languages = [...document.querySelectorAll(".pair h3")].map((heading) => heading.lang);
found.texts = [...document.querySelectorAll(".pair h3")].map((heading) => heading.textContent);
found.decided = document.querySelector("#pair-9 input:checked").value;
press("pair-7", "i");
found.focus = document.activeElement.name;
press("pair-8", "i");
choose("state", "decided");
found.afterKeys = seen().map((id) => [id, document.querySelector(`#${id} input:checked`).value]);
choose("state", "");
choose("text", "ｚＡＰatillas ROJAS");
found.searched = seen();
choose("text", "");
choose("locale", "jp");
found.japanese = seen();
choose("locale", "");
choose("size", "10");
found.status = document.getElementById("status").textContent;
const fetchText = (url) => {
  const request = new XMLHttpRequest();
  request.open("GET", url, false);
  request.send();
  found.csv = request.responseText;
};
HTMLAnchorElement.prototype.click = function () { fetchText(this.href); found.file = this.download; };
document.getElementById("download").click();
const out = document.createElement("pre");
out.id = "found";
out.textContent = JSON.stringify(found);
document.body.append(out);
"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_in_a_browser_pairs_are_filtered_decided_by_key_and_downloaded(page, tmp_path):
    page.write_text(page.read_text("utf-8").replace("</main>", f"</main><script>{REPORT}</script>"), "utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    options += ["--disable-component-update", "--disable-sync", "--disable-quic", f"--user-data-dir={tmp_path / 'c'}"]
    command = [CHROMIUM, *options, "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found = json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)[1]))
    assert found["title"] == "Audit of the judgements"
    assert found["all"] == ["pair-7", "pair-8", "pair-9"]
    assert found["languages"] == ["es", "ja", "en"]
    assert found["texts"] == ISSUES["query"].to_pylist()
    assert found["decided"] == "drop"
    assert found["focus"] == "decision-8", "a key goes on to the next pair"
    assert found["afterKeys"] == [["pair-7", "I"], ["pair-8", "keep"], ["pair-9", "drop"]], "I is what 8 is judged"
    assert found["searched"] == ["pair-7"]
    assert found["japanese"] == ["pair-8"]
    assert found["status"].startswith("3 of 3 pairs; 3 decided")
    assert found["file"] == "decisions.csv"
    assert found["csv"].splitlines()[:2] == [
        '"example_id","query","product_id","product_locale","esci_label","decision"',
        '"7","zapatillas","1","es","E","I"',
    ]
