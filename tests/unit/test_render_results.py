"""The README's results: what is written for each layout, what is refused, and that the page is up to date."""

import importlib.util
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from zhichun.core.errors import UserError

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("render_results", ROOT / "benchmarks" / "render_results.py")
render_results = importlib.util.module_from_spec(_spec)
sys.path.insert(0, str(ROOT / "benchmarks"))  # where a script finds what stands beside it
_spec.loader.exec_module(render_results)
sys.path.pop(0)

DIFFERENCE = {"mean": 0.0123, "low": -0.004, "high": 0.03, "p": 0.25}
QUALITY = {
    "encoder": "some/encoder",
    "command": "python benchmarks/quality_esci.py some/encoder",
    "date": "2026-11-21",
    "machine": {"gpu": None, "cores": 2, "processor": "A processor"},
    "pairs": {"training": 2600, "validation": 100, "test": 700},
    "recipe": {"max_length": 96},
    "systems": {
        "zhichun": {
            "what": "everything",
            "mean": {"micro_f1": 0.6116, "macro_f1": 0.5, "ndcg": 0.9, "seconds": 99.6},
            "seeds": [{}, {}, {}],
        }
    },
    "always_exact": {"micro_f1": 0.5, "macro_f1": 0.1667},
    "differences": {"zhichun": {"micro_f1": DIFFERENCE, "ndcg": {**DIFFERENCE, "p": 0.0001}}},
}
TINY = {
    "seeds": [0, 1],
    "data": {"test_pairs": 1440},
    "matching": {"micro_f1": [0.7, 0.8], "ndcg": [0.9, 0.92]},
    "random": {"micro_f1": [0.6, 0.6], "ndcg": [0.85, 0.85]},
    "baselines": {"always_exact": 0.6, "random_order": 0.83},
    "difference": {"ndcg": DIFFERENCE},
}


AUDIT = {
    "machine": {"gpu": None, "cores": 2, "processor": "A processor"},
    "pairs": 5800,
    "wrong": 348,
    "chance": 0.06,
    "drop": 0.04,
    "seconds": 600,
    "recipe": {"name": "tiny", "epochs": 3},
    "data": {"folds": 5},
    "issues": {"pairs": 900, "wrong": 300, "precision": 1 / 3, "recall": 0.862, "times_chance": 5.55},
    "dropped": {"pairs": 232, "wrong": 174, "precision": 0.75, "recall": 0.5, "times_chance": 12.5},
    "likely_label_right_of_wrong_issues": 0.8,
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
    assert "| system | micro-F1 | macro-F1 | seconds |\n| --- | ---: | ---: | ---: |\n" in text
    assert "| zhichun: everything | 0.612 | 0.500 | 100 |\n" in text
    assert "| always Exact | 0.500 | 0.167 |  |\n" in text
    assert "Encoder some/encoder, 96 tokens; pairs" in text
    assert "means over 3 seeds" in text
    assert "on 2 cores of A processor." in text
    assert "micro-F1 +0.0123 (95 %: -0.0040 to +0.0300, p = 0.250)" in text
    assert (
        "(../benchmarks/results/quality_esci.json) by `python benchmarks/quality_esci.py some/encoder`, 2026-11-21."
        in text
    )


def test_the_whole_recipe_stands_beside_plain_training_too(tmp_path):
    whole = {"whole_recipe": {"settings": ["objective.ema=EMA"], "minus_zhichun": {"micro_f1": DIFFERENCE}}}
    text = render_results.render(write(tmp_path, quality_esci_whole_recipe={**QUALITY, **whole}))
    assert "\nzhichun-whole-recipe minus zhichun: micro-F1 +0.0123 (95 %: -0.0040 to +0.0300, p = 0.250).\n" in text


def test_tiny_start_has_means_over_its_seeds(tmp_path):
    text = render_results.render(write(tmp_path, tiny_start=TINY))
    assert "| matching start | 0.750 | 0.910 |\n| random start | 0.600 | 0.850 |\n" in text
    assert "| always Exact, random order | 0.600 | 0.830 |" in text


def test_audit_shop_holds_what_is_found_beside_chance(tmp_path):
    text = render_results.render(write(tmp_path, audit_shop=AUDIT))
    assert "5,800 judged training pairs, 348 of them wrong (6.0%); recipe `tiny`, 3 epochs, 5 folds; 10 minutes" in text
    assert (
        "| in doubt | 900 | 300 | 0.333 | 0.862 | 5.5 |\n| worst 4%, dropped | 232 | 174 | 0.750 | 0.500 | 12.5 |"
        in text
    )


def test_pretrain_step_has_a_row_for_each_shape(tmp_path):
    tiny = {
        "parameters": 1_000_000,
        "products_per_step": 32,
        "tokens_per_second": 12345.6,
        "waiting_share": 0.0123,
        "making": {"tokens_per_second": 400_000.0},
    }
    machine = {"gpu": "A GPU"}
    text = render_results.render(write(tmp_path, pretrain_step={"machine": machine, "shapes": {"tiny": tiny}}))
    assert "| tiny | 1 | 32 | 12,346 | 1.2% | 400,000 |" in text
    assert "on A GPU." in text


def test_the_cost_of_lists_has_a_row_for_each_way(tmp_path):
    ways = {"pairs": 1.0, "lists": 1.034}
    result = {
        "machine": {"gpu": None, "processor": "A processor"},
        "encoder": "small",
        "data": "shop",
        "pairs_of_a_list": {"mean": 27.2, "most": 60},
        "ways": {name: {"times_pairs": times, "milliseconds_of_a_pair": [1.0, 2.0]} for name, times in ways.items()},
    }
    said = render_results.render(write(tmp_path, lists_cost=result))
    assert "| lists | 1.034 |" in said
    assert "small on shop, lists of 27 pairs on average; medians of 2" in said


def test_scoring_has_a_row_for_each_engine(tmp_path):
    engine = {
        "pairs_per_second": 204.4,
        "times_faster": 6.04,
        "labels_same": 0.9954,
        "scores_differ": 0.0312,
        "on_test": {"labels_same": 0.9917, "ndcg_difference": -0.0004},
    }
    shared = {key: QUALITY[key] for key in ("encoder", "command", "date", "machine")}
    result = {**shared, "max_length": 256, "mean_tokens": 142.7, "pairs": {"timed": 3559, "test": 761}}
    text = render_results.render(write(tmp_path, score_cpu={**result, "systems": {"openvino-int8": engine}}))
    assert "| openvino-int8 | 204 | 6.0 | 99.5% | 99.2% | -0.0004 | 0.03 |" in text
    assert "256 tokens (mean 143); the same weights and 3,559 pairs of texts for all" in text


def test_scaling_has_a_row_for_each_file_and_sets_the_largest_beside_the_others(tmp_path):
    sizes = [{"pairs": pairs, "pairs_per_second": 1499.6, "peak_mib": 412} for pairs in (10_000, 100_000, 1_000_000)]
    result = {
        **{key: QUALITY[key] for key in ("command", "date", "machine")},
        "shop": {"products": 20_000},
        "engine": "onnx",
        "ways": {"file": sizes, "ray": [{**sizes[1], "peak_mib": 500}]},
        "largest_beside_the_others": {"file": {"throughput": 0.981, "memory": 1.004}},
    }
    text = render_results.render(write(tmp_path, scaling=result))
    assert "| 100,000 into one file | 1,500 | 412 |  |" in text
    assert "| 1,000,000 into one file | 1,500 | 412 | 0.98, 1.00 |" in text
    assert "| 100,000 by two actors of Ray | 1,500 | 500 |  |" in text


@pytest.mark.parametrize(("error", "said"), [(0.0204, "+0.012 ± 0.020"), (None, "+0.012")])
def test_training_on_a_processor_names_each_side_s_precision_and_loss(tmp_path, error, said):
    side = {
        "precision": "bf16",
        "pairs_per_second": 16.23,
        "times_faster": 3.46,
        "loss_of_second_half": [0.9, 1.0],
        "loss_apart": {"mean": 0.0123, "standard_error": error},
    }
    shared = {key: QUALITY[key] for key in ("encoder", "command", "date", "machine")}
    sizes = {"batch_size": 32, "max_length": 256, "rounds": 2, "steps": 16}
    text = render_results.render(write(tmp_path, train_cpu={**shared, **sizes, "systems": {"zhichun in bf16": side}}))
    assert f"| zhichun in bf16 | bf16 | 16.2 | 3.5 | 0.950 | {said} |" in text


def test_the_student_stands_beside_its_teacher(tmp_path):
    side = {"micro_f1": [0.7, 0.8], "ndcg": [0.9, 0.92]}
    result = {
        **{key: TINY[key] for key in ("seeds", "data")},
        **{key: QUALITY[key] for key in ("command", "date", "machine")},
        **dict.fromkeys(("teacher", "soft", "hard"), side),
        "soft_minus_hard": {"ndcg": DIFFERENCE},
        "soft_minus_teacher": {"ndcg": DIFFERENCE},
        "parameters": {"teacher": 1_800_000, "student": 620_000},
        "speed": {"onnx": {"times_faster": 3.14}},
    }
    text = render_results.render(write(tmp_path, student=result))
    assert "| student, soft labels | 0.62 | 0.750 | 0.910 |" in text
    assert "faster than the teacher's, on 2 cores of A processor: 3.1 times by onnx." in text
    assert "Student with soft labels minus teacher: nDCG +0.0123" in text


def test_ensemble_shop_holds_all_six_against_the_best_of_them(tmp_path):
    way = {
        "ndcg": 0.95,
        "micro_f1": 0.7,
        "members": [{"name": "work/member4", "ndcg": 0.94}, {"name": "work/member1", "ndcg": 0.93, "micro_f1": 0.69}],
        "against_best": {"ndcg": {"member": "work/member4", **DIFFERENCE}},
    }
    result = {
        "machine": QUALITY["machine"],
        "members": {"member1": "classifier", "member4": "regressor"},
        "pairs": 1448,
        "queries": 120,
        "random_order": 0.858,
        "equal": way,
        "fitted": way,
    }
    text = render_results.render(write(tmp_path, ensemble_shop=result))
    assert "| member1: classifier | 0.930 | 0.690 |\n| member4: regressor | 0.940 |  |\n" in text
    assert "| all six, equal weights | 0.950 | 0.700 |" in text
    assert "equal weights minus the best member: nDCG +0.0123 (95 %: -0.0040" in text


FRONT = {
    "encoder": "some/encoder",
    "command": "python benchmarks/catalogue_front.py some/encoder",
    "date": "2026-11-27",
    "machine": {"gpu": None, "cores": 2, "processor": "A processor"},
    "max_length": 256,
    "candidates": 100,
    "quality_of": {"data": "chorus", "max_length": 64, "pairs": 3668, "queries": 135},
    "random": {"ndcg": 0.655},
    "quality": {
        "Product2Query first": {
            "Full": {"seeds": [0], "ndcg": 0.88, "micro_f1": 0.8},
            "Split after 4": {"seeds": [0], "ndcg": 0.84, "micro_f1": 0.75, "minus_full": {"ndcg": DIFFERENCE}},
        },
        "with a <teacher>": {"Full": {"seeds": [0, 1, 2], "ndcg": 0.82, "micro_f1": 0.7}},
    },
    "speed": {"Full": {"times_faster": 1.75}, "Split after 4": {"times_faster": 44.0}},
}


def test_a_front_has_speed_and_quality_of_each_form_and_a_picture_of_both(tmp_path):
    (tmp_path / "catalogue_front.json").write_text(json.dumps(FRONT))
    text = render_results.render(tmp_path)
    assert (
        "| Split after 4, Product2Query first | 44.0 | 0.840 |  | 0.750 |  |  | 1 | +0.012 (-0.004 to +0.030) |" in text
    )
    assert "| Full, with a <teacher> | 1.8 | 0.820 |  | 0.700 |  |  | 3 |  |" in text
    assert "](images/catalogue_front.svg)" in text
    image = ElementTree.fromstring(render_results.rendered_catalogue.front_image(FRONT))
    dots = [float(each.get("cx")) for each in image.iter("{http://www.w3.org/2000/svg}circle")]
    assert len(dots) == 3
    assert max(dots) > 2 * dots[0]
    assert {"Full", "4", "with a <teacher>", "Product2Query first"} <= {each.text for each in image}


def test_the_quality_of_an_index_has_a_row_for_each_precision_and_its_first_stage(tmp_path):
    kept = {"bytes_per_product": 18432, "labels_kept": 0.9956, "ndcg": 0.5738, "micro_f1": 0.6718}
    seconds = {"whole": 4.2, "mean states": 0.02, "scoring 500": 0.15}
    first = {"queries": 20, "products": 19406, "recall@500 of the best 10": {"BM25": 0.4}, "seconds": seconds}
    result = {
        "machine": QUALITY["machine"],
        "runs": {"a": {"state": 384, "precisions": {"int8": kept}, "first_stage": first}},
    }
    text = render_results.render(write(tmp_path, index_quality=result))
    assert "| int8 | 18 | 99.6% | 0.574 | 0.672 |  |  |" in text
    assert (
        "20 queries against 19,406 products: recall@500 of the best 10 0.400 by BM25; median of a query: whole 4.20 s"
        in text
    )


def test_serving_has_a_row_for_each_number_of_clients_and_for_what_is_kept(tmp_path):
    cell = {"clients": 8, "p50": 0.254, "p95": 1.5, "requests_per_second": 12.34, "pairs_per_second": 1234.4}
    system = {"fresh": [{**cell, "times_throughput": 4.26}], "repeated": {**cell, "p50": 0.01}}
    result = {
        **{key: QUALITY[key] for key in ("encoder", "command", "date", "machine")},
        "texts": "ESCI",
        "pairs_per_request": 100,
        "max_length": 128,
        "shapes": {"tiny": {"mean_tokens": 41.6, "systems": {"onnx-int8": system}}},
    }
    text = render_results.render(write(tmp_path, serve_latency=result))
    assert "| tiny, onnx-int8 | 8 | 0.25 | 1.50 | 12.3 | 1,234 | 4.3 |\n" in text
    assert "| tiny, onnx-int8, requests that come again | 8 | 0.01 | 1.50 | 12.3 | 1,234 |  |" in text
    assert "by id" not in text
    assert "cut to 128 tokens (mean: tiny 42)" in text


@pytest.mark.parametrize(
    ("statuses", "broken", "said"),
    [
        ({}, [], "load included: 0. Broken promises: none."),
        (
            {"good lost": 2},
            ["accepted requests were lost"],
            "included: 2. Broken promises: accepted requests were lost.",
        ),
    ],
)
def test_faults_of_serving_name_what_was_lost_and_broken(tmp_path, statuses, broken, said):
    result = {
        "machine": QUALITY["machine"],
        "seconds": 600,
        "statuses": {"good 200": 5000, "health 200": 900, "raw_bytes 400": 30, "cut_off gone": 12, **statuses},
        "wrong": 0,
        "growth": {"rss_mib": 3.4, "open_files": -1},
        "idle_mib": 200.0,
        "peak_mib": 450.4,
        "median_health_seconds": 0.011,
        "worst_health_seconds": 0.2,
        "load_average_at_start": 1.5,
        "worker_deaths": {"deaths": 3, "logged": 3, "alive": 2, "statuses": {"good 200": 9, "good lost": 4}},
        "broken": broken,
    }
    text = render_results.render(write(tmp_path, serve_faults=result))
    assert "10 minutes on 2 cores of A processor: 5,000 answers held against the right ones, 0 wrong; 42 faults" in text
    assert "memory changed by +3 MiB and open files by -1; at most 250 MiB were held above" in text
    assert "`/health` took 11 ms by the median and 0.20 s at most" in text
    assert "3 were killed one after the other, which cost 4 requests; 3 were logged, and 2 served in the end" in text
    assert said in text


def test_results_come_in_the_order_of_the_layouts_and_an_unknown_one_is_named_last(tmp_path):
    text = render_results.render(write(tmp_path, tiny_start=TINY, another={"what": "Speed"}, quality_esci=QUALITY))
    places = [text.index(f"benchmarks/results/{name}.json") for name in ("quality_esci", "tiny_start", "another")]
    assert places == sorted(places)
    assert "\n\n**Speed.** " in text


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


def test_a_difference_that_no_draw_reached_has_no_p_of_zero(tmp_path):
    surely = {**TINY, "difference": {"ndcg": {**DIFFERENCE, "p": 1e-4}}}
    text = render_results.render(write(tmp_path, tiny_start=surely))
    assert "p < 0.001" in text
    assert "p = 0.000" not in text


def test_the_page_holds_the_results_of_the_folder():
    page, folder = (ROOT / "docs" / "results.md").read_text("utf-8"), ROOT / "benchmarks" / "results"
    made = f"{render_results.headline(folder)}\n\n{render_results.render(folder)}"
    assert render_results.insert(page, made) == page, "make results writes it anew"


def test_every_script_says_in_the_readme_which_question_it_asks():
    readme = (ROOT / "benchmarks" / "README.md").read_text("utf-8")
    scripts = [path for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text("utf-8")]
    left = {path.name for path in scripts if f"`{path.name}`" not in readme}
    assert left == {"render_results.py", "plain_endpoint.py"}  # `make results`, and what a benchmark starts
