"""The README's results: what is written for each layout, what is refused, and that the page is up to date."""

import importlib.util
import json
from pathlib import Path

import pytest

from zhichun.errors import UserError

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("render_results", ROOT / "benchmarks" / "render_results.py")
render_results = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(render_results)

DIFFERENCE = {"mean": 0.0123, "low": -0.004, "high": 0.03, "p": 0.25}
QUALITY = {
    "encoder": "some/encoder",
    "command": "python benchmarks/quality_esci.py some/encoder",
    "date": "2026-11-21",
    "machine": {"gpu": None, "cores": 2, "processor": "A processor"},
    "pairs": {"training": 2600, "validation": 100, "test": 700},
    "systems": {
        "zhichun": {
            "what": "everything",
            "mean": {"micro_f1": 0.6116, "macro_f1": 0.5, "ndcg": 0.9, "seconds": 99.6},
            "seeds": [{}, {}, {}],
        }
    },
    "always_exact": {"micro_f1": 0.5, "macro_f1": 0.1667},
    "differences": {"zhichun": {"micro_f1": DIFFERENCE}},
}
TINY = {
    "seeds": [0, 1],
    "data": {"test_pairs": 1440},
    "matching": {"micro_f1": [0.7, 0.8], "ndcg": [0.9, 0.92]},
    "random": {"micro_f1": [0.6, 0.6], "ndcg": [0.85, 0.85]},
    "baselines": {"always_exact": 0.6, "random_order": 0.83},
    "difference": {"ndcg": DIFFERENCE},
}


def write(folder, **results):
    for name, result in results.items():
        (folder / f"{name}.json").write_text(json.dumps(result), "utf-8")
    return folder


@pytest.mark.parametrize("folder", ["", "missing"])
def test_without_results_it_says_so(tmp_path, folder):
    assert render_results.render(tmp_path / folder) == "No result is recorded yet."


def test_quality_has_a_row_for_each_system_and_baseline_and_names_its_source(tmp_path):
    text = render_results.render(write(tmp_path, quality_esci=QUALITY))
    assert "| system | micro-F1 | macro-F1 | nDCG | seconds |\n| --- | ---: | ---: | ---: | ---: |\n" in text
    assert "| zhichun: everything | 0.612 | 0.500 | 0.900 | 100 |\n" in text
    assert "| always Exact | 0.500 | 0.167 |  |  |\n" in text
    assert "means over 3 seeds" in text
    assert "on 2 cores of A processor." in text
    assert "micro-F1 +0.0123 (95 %: -0.0040 to +0.0300, p = 0.250)" in text
    assert (
        "(benchmarks/results/quality_esci.json) by `python benchmarks/quality_esci.py some/encoder`, 2026-11-21."
        in text
    )


def test_tiny_start_has_means_over_its_seeds(tmp_path):
    text = render_results.render(write(tmp_path, tiny_start=TINY))
    assert "| matching start | 0.750 | 0.910 |\n| random start | 0.600 | 0.850 |\n" in text
    assert "| always Exact, random order | 0.600 | 0.830 |" in text


def test_results_come_in_order_of_their_names_and_an_unknown_layout_is_named(tmp_path):
    text = render_results.render(write(tmp_path, tiny_start=TINY, another={"what": "Speed"}, quality_esci=QUALITY))
    places = [text.index(f"benchmarks/results/{name}.json") for name in ("another", "quality_esci", "tiny_start")]
    assert places == sorted(places)
    assert text.startswith("**Speed.** ")


@pytest.mark.parametrize("content", ["{", '{"systems": {}}', "[]"])
def test_a_file_that_cannot_be_used_is_named(tmp_path, content):
    (tmp_path / "quality_esci.json").write_text(content, "utf-8")
    with pytest.raises(UserError, match=r"quality_esci\.json"):
        render_results.render(tmp_path)


def test_only_what_is_between_the_markers_changes():
    page = "above\n<!-- results -->\nold\n\nolder\n<!-- /results -->\nbelow\n"
    made = render_results.insert(page, "new")
    assert made == "above\n<!-- results -->\nnew\n<!-- /results -->\nbelow\n"
    assert render_results.insert(made, "new") == made


@pytest.mark.parametrize(
    "page",
    ["", "<!-- results -->", "<!-- /results --> <!-- results -->", 2 * "<!-- results --> <!-- /results -->"],
)
def test_a_page_without_both_markers_is_refused(page):
    with pytest.raises(UserError, match="once each"):
        render_results.insert(page, "new")


def test_the_readme_holds_the_results_of_the_folder():
    page = (ROOT / "README.md").read_text("utf-8")
    rendered = render_results.render(ROOT / "benchmarks" / "results")
    assert render_results.insert(page, rendered) == page, "make results writes it anew"
