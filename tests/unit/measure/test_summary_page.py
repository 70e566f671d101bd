"""The summary page of a dataset, read back as HTML: right about what it shows, escaped, and needing nothing else."""

import html
import re

import pytest

from zhichun.core.errors import UserError
from zhichun.core.files import read_json, write_json
from zhichun.data.prepare.making import Rebalance
from zhichun.data.prepare.prepare import prepare
from zhichun.data.prepare.summary import SUMMARY_FILE
from zhichun.data.sample_shop import write_sample_shop
from zhichun.measure.dataset_page import MOST_PLOTS, PAGE_FILE, write_summary_page

NASTY = "<script>alert(\"1\")</script> & 'co'"


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    write_sample_shop(folder, products=300, queries=60, text="esci")
    return folder


@pytest.fixture
def folder(shop, tmp_path):
    prepare(shop, tmp_path / "data", steps=[Rebalance()])
    return tmp_path / "data"


def change(folder, name, edit):
    value = read_json(folder / name)
    edit(value)
    write_json(folder / name, value)


def page_of(folder):
    return write_summary_page(folder).read_text("utf-8")


def rows_of(page):
    """Give the cells of each row of each table by the table's caption."""
    found = {}
    for caption, body in re.findall(r"<table.*?<caption>(.*?)</caption>(.*?)</table>", page, re.DOTALL):
        rows = [re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)]
        found[text_of(caption)] = [[text_of(cell) for cell in row] for row in rows]
    return found


def text_of(markup):
    return html.unescape(re.sub(r"<[^>]*>", "", markup))


def test_the_page_shows_what_was_counted(folder):
    tables, summary = rows_of(page_of(folder)), read_json(folder / SUMMARY_FILE)
    manifest = read_json(folder / "manifest.json")
    judged = manifest["examples"]["kept"]
    counts = {
        label: sum(row["pairs"] for row in summary["pairs"] if (row["origin"], row["label"]) == ("judged", label))
        for label in "ESCI"
    }
    by_label = tables["Pairs by label and locale, with their share of the column"]
    assert by_label[0] == ["label", "all", "us", "es", "jp"]
    assert [row[1] for row in by_label[1:]] == [
        *(f"{count:,} ({count / judged:.1%})" for count in counts.values()),
        f"{judged:,}",
    ]
    assert by_label[1][0] == "E\u00a0Exact"
    without, products = summary["products"]["without"]["color"], summary["products"]["by_locale"]
    [color] = [row for row in tables["Share of products whose field is empty, by locale"] if row[0] == "color"]
    assert color[1:] == [
        f"{without_ / of:.1%}"
        for without_, of in [
            (sum(without.values()), 300),
            *((without[name], products[name]) for name in ("us", "es", "jp")),
        ]
    ]
    queries = summary["lengths"]["query"]["characters"]["by_locale"]["jp"]
    [length] = [row for row in tables["Lengths of queries; bytes are those of UTF-8"] if row[0] == "characters, jp"]
    assert length[1:] == [
        str(queries["texts"]),
        f"{queries['mean']:.1f}",
        *(str(queries[n]) for n in ("median", "p95", "longest")),
    ]
    [brand, count] = summary["brands"]["us"]["top"][0]
    [shown] = [rows for caption, rows in tables.items() if re.fullmatch(r"us: \d+ different brands.*", caption)]
    assert shown[1] == [brand, str(count), f"{count / products['us']:.2%}"]


def test_steps_made_pairs_and_their_weight_are_shown(folder):
    tables, manifest = rows_of(page_of(folder)), read_json(folder / "manifest.json")
    steps = tables["Pairs through the steps of preparing"]
    assert [row[0] for row in steps[1:]] == [step["step"] for step in manifest["steps"]]
    assert steps[-1][-1] == f"{manifest['steps'][-1]['kept']:,}"
    judged, balanced = tables["Training pairs by origin"][1:]
    made = manifest["examples"]["made"]["balanced"]
    assert balanced[:4] == ["balanced", f"{made:,}", "0.3", f"{0.3 * made:,.1f}"]
    weights = [float(row[3].replace(",", "")) for row in (judged, balanced)]
    assert balanced[4] == f"{weights[1] / sum(weights):.1%}"


def test_what_was_not_made_or_refused_is_not_spoken_of(shop, tmp_path):
    prepare(shop, tmp_path / "data")
    page = page_of(tmp_path / "data")
    assert "Made pairs" not in page
    assert "No row was refused." in page
    assert "zhichun summary DIR --tokenizer" in page


def test_refused_rows_are_listed_by_reason_with_their_share(folder):
    def refuse(manifest):
        manifest["examples"] |= {"read": 200, "dropped": {"duplicate": 3, "no such product": 5}}
        manifest["products"] |= {"read": 1000, "dropped": {"missing product id": 4}}
        manifest["refused_issues"] = {"no such example": 1}
        manifest["steps"][-1] |= {"made": 50, "dropped": {"duplicate": 2}}

    change(folder, "manifest.json", refuse)
    page = page_of(folder)
    assert rows_of(page)["Refused rows by reason"][1:] == [
        ["no such product", "judgements", "5", "2.50%"],
        ["missing product id", "catalogue", "4", "0.40%"],
        ["duplicate", "judgements", "3", "1.50%"],
        ["duplicate", "rebalance", "2", "4.00%"],
        ["no such example", "corrections", "1", "–"],
    ]


def test_texts_of_the_data_are_text(folder):
    def spoil(summary):
        summary["brands"]["us"]["top"][0][0] = NASTY
        summary["pairs"][-1]["split"] = NASTY

    change(folder, SUMMARY_FILE, spoil)
    change(folder, "manifest.json", lambda manifest: manifest["sources"][0].update(file=NASTY))
    page = page_of(folder)
    assert NASTY not in page
    assert "<script" not in page
    assert text_of(page).count(NASTY) >= 4


def test_the_page_needs_nothing_from_elsewhere_and_speaks_the_languages_of_its_texts(folder):
    page = page_of(folder)
    assert not re.search(r"https?:|\ssrc=|\shref=|<script|<link|<iframe|nan\b", page)
    assert {"en", "es", "ja"} == set(re.findall(r'<span lang="(\w+)"', page))
    drawings = re.findall(r"<svg [^>]*>", page)
    assert len(drawings) == 9
    assert all('role="img" aria-label="' in drawing for drawing in drawings)


def test_folder_and_time_of_making_change_no_byte(shop, folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    prepare(shop, tmp_path / "elsewhere" / "other", steps=[Rebalance()])
    assert page_of(tmp_path / "elsewhere" / "other") == page_of(folder)


def test_many_locales_are_all_listed_and_the_largest_drawn(folder):
    def copy(summary):
        for described in (summary["judged_products"], summary["lengths"]["query"]["characters"]):
            few = {**described["by_locale"]["jp"], "texts": 1, "bars": [1], "beyond": 0}
            described["by_locale"] |= {f"x{number}": few for number in range(9)}

    change(folder, SUMMARY_FILE, copy)
    page = page_of(folder)
    assert page.count("<svg ") == 2 * MOST_PLOTS + 3
    names = [row[0] for row in rows_of(page)["How many products are judged for a query"][1:]]
    assert names == ["us", "es", "jp", *(f"x{number}" for number in range(9))]


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda path: path.unlink(), r"there is no summary\.json"),
        (lambda path: path.write_text("{"), r"summary\.json: cannot be read"),
        (lambda path: write_json(path, {"format": 99}), r"summary\.json: is of another version"),
    ],
)
def test_without_the_right_figures_there_is_no_page(folder, edit, problem):
    edit(folder / SUMMARY_FILE)
    with pytest.raises(UserError, match=problem):
        write_summary_page(folder)
    assert not (folder / PAGE_FILE).exists()


def test_a_dataset_of_nothing_has_a_page(folder):
    def empty(summary):
        summary |= {"pairs": [], "queries": [], "brands": {}, "colors": {}}
        summary["products"] |= {"by_locale": {}, "without": {"color": {}}, "made": {}}
        for described in (
            summary["judged_products"],
            *(u for units in summary["lengths"].values() for u in units.values()),
        ):
            described["by_locale"] = {}

    def none_kept(manifest):
        manifest["examples"] |= {"kept": 0, "made": {}, "by_fold": {}}

    change(folder, SUMMARY_FILE, empty)
    change(folder, "manifest.json", none_kept)
    assert "0.0% for testing" in page_of(folder)
