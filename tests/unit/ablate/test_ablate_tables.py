"""What is written of a table: Markdown by its content, and the page."""

import re

import pytest

from zhichun.ablate.markdown import markdown
from zhichun.measure.report.ablation_page import ablation_page

PAIRED = {"low": -0.004, "high": 0.03, "p": 0.125, "over": "queries"}
OF_QUERIES, OF_SEEDS = {"low": 0.6, "high": 0.8, "over": "queries"}, {"low": 1.5, "high": 2.5, "over": "seeds"}


def row(name, figures, **others):
    planned = {
        "name": name,
        "settings": ["task=esci"],
        "pretraining": None,
        "dropping": None,
        "compared_with": None,
        "runs": {"done": 2, "planned": 2},
        "seconds": 61.4,
        "seconds_before": None,
        "figures": figures,
    }
    return {**planned, **others}


@pytest.fixture
def result():
    plain = {
        "micro_f1": {"ours": {"mean": 0.7, **OF_QUERIES}, "seed_deviation": 0.01, "paper": 0.7508},
        "mlm_loss": {"ours": {"mean": 2.0, **OF_SEEDS}, "seed_deviation": 0.1},
    }
    difference = {"mean": 0.0123, **PAIRED, "seeds": [0, 1]}
    better = {
        "ours": {"mean": 0.7123, **OF_QUERIES},
        "seed_deviation": 0.02,
        "difference": difference,
        "paper": 0.7521,
        "paper_difference": 0.0013,
    }
    runs = {"done": 1, "planned": 2}
    settings = ["task=esci", "objective.loss=Poly1"]
    return {
        "name": "Table 4: losses",
        "caption": "One loss after another.",
        "compared_with": "first",
        "metrics": ["micro_f1", "ndcg", "mlm_loss"],
        "partial": True,
        "runs": {"done": 3, "planned": 4},
        "seeds": [0, 1],
        "rows": [
            row("CE", plain),
            row("Poly|1 <b>", {"micro_f1": better}, settings=settings, compared_with="CE", runs=runs, seconds=None),
        ],
        "floor": {"esci": {"micro_f1": 0.6637}},
        "dataset": {"folder": "data", "manifest": "abc123", "test_pairs": 1448, "test_queries": 120},
        "recipe": {
            "model": {"encoder": "tiny", "max_length": 64},
            "train": {"epochs": 6, "batch_size": 32, "learning_rate": 0.0005},
        },
        "settings": ["train.epochs=6"],
        "pretraining_settings": [],
        "overruled": [{"setting": "objective.loss=Focal", "rows": ["Poly-1"]}],
        "command": "zhichun ablate ablations:table4 --data data --out out",
        "date": "2026-11-21",
        "machine": {
            "processor": "A processor",
            "cores": 2,
            "threads": 1,
            "gpu": None,
            "python": "3.11.9",
            "libraries": {"torch": "2.10"},
        },
    }


def test_markdown_holds_every_figure_beside_the_papers(result):
    written = markdown(result)
    for line in (
        "# Table 4: losses",
        "**Partial: 3 of 4 runs are done.**",
        "| row | micro-F1 | 95 % | deviation over seeds | minus CE | 95 % of it | p | paper | paper's difference |",
        "| CE | 0.7000 | 0.6000 to 0.8000 | 0.0100 |  |  |  | 0.7508 |  |",
        r"| Poly\|1 <b> (1 of 2 runs) | 0.7123 | 0.6000 to 0.8000 | 0.0200 | +0.0123 | -0.0040 to +0.0300 | 0.125 "
        "| 0.7521 | +0.0013 |",
        "One class always gives 0.6637.",
        "| row | MLM loss (lower is better) | 95 % | deviation over seeds |",
        "| CE | 2.0000 | 1.5000 to 2.5000 over seeds | 0.1000 |",
        "| row | set | seconds a training | runs |",
        "| CE | nothing | 61 | 2 of 2 |",
        r"| Poly\|1 <b> | objective.loss=Poly1 |  | 1 of 2 |",
        "Set in all rows: train.epochs=6, task=esci.",
        "objective.loss=Focal does not hold for Poly-1, which set it themselves.",
        "Dataset: SHA-256 of its manifest `abc123`.",
        "2026-11-21; A processor, 2 cores, 1 threads, GPU none; Python 3.11.9, torch 2.10.",
        "zhichun ablate ablations:table4 --data data --out out",
    ):
        assert line in written.splitlines(), line
    assert "nDCG" not in written  # no row has it
    assert "its differences can be held beside ours" in written


def test_a_whole_table_is_not_marked_and_one_without_the_papers_figures_does_not_speak_of_them(result):
    result |= {"partial": False, "rows": result["rows"][:1]}
    del result["rows"][0]["figures"]["micro_f1"]["paper"]
    assert "Partial" not in markdown(result)
    assert "paper" not in markdown(result)


def test_a_table_that_adds_up_says_so(result):
    assert "| minus the row above |" in markdown(result | {"compared_with": "above"})


def test_the_page_draws_the_differences_and_escapes_names(result):
    page = ablation_page(result)
    assert "<b>" not in page
    assert "Poly|1 &lt;b&gt;</text>" in page
    assert "micro-F1: each row minus CE, with 95 %." in page
    assert page.count("<svg") == 1
    whisker = re.search(r'class="whisker" x1="([\d.]+)" y1="[\d.]+" x2="([\d.]+)"', page)
    zero = re.search(r'class="mark" x1="([\d.]+)"', page)
    dot = re.search(r'<circle class="dot a" cx="([\d.]+)"', page)
    left, right = float(whisker[1]), float(whisker[2])
    assert left < float(zero[1]) < float(dot[1]) < right
    # Places are proportional to values: the dot is 0.0163 of 0.034 along the whisker.
    assert (float(dot[1]) - left) / (right - left) == pytest.approx(0.0163 / 0.034, abs=0.01)
