"""Tables on narrow and wide terminals: numbers stay whole, titles give way, and no text is taken for markup."""

import io
import re

import numpy as np
import pytest
from rich.console import Console

from zhichun.cli.tables import confusion_table, figures_table, ranking_table, settings_table
from zhichun.core.tasks import TASKS
from zhichun.fit.recipe import describe, load_recipe
from zhichun.metrics.figures import measure
from zhichun.score.rank import Ranked

TITLES = [
    "Veltara Wireless Earbuds, Noise Cancelling, 30 hours, with a name that goes on and on for every search engine",
    "[red]Zapatillas[/red] de correr [/x] para mujer [2 pares]",
    "赤い靴 レディース スニーカー 軽量 ２４ｃｍ ランニングシューズ 通気性 メッシュ 滑り止め",
    "",
]


def shown(table, width):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def cells(text):
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if line[:1] == "│"]


@pytest.mark.parametrize("width", [80, 120, 200])
@pytest.mark.parametrize("judged", [None, {"1": "E", "3": "I"}], ids=["", "judged"])
def test_every_number_of_a_ranking_can_be_read(width, judged):
    ranked = [Ranked(str(place), title, 0.91, "S", (0.9, 0.05, 0.03, 0.02)) for place, title in enumerate(TITLES)]
    text = shown(ranking_table("[b] red shoes", ranked, ("E", "S", "C", "I"), judged), width)
    assert text.startswith("[b] red shoes")
    assert [row[0] for row in cells(text)] == ["1", "2", "3", "4"]
    assert {tuple(row[-6:]) for row in cells(text)} == {("S", "0.90", "0.05", "0.03", "0.02", "0.9100")}
    assert cells(text)[1][1].startswith("[red]Zapatil")
    assert cells(text)[2][1].startswith("赤い靴")
    if judged:
        assert [row[2] for row in cells(text)] == ["", "E", "", "I"]


@pytest.mark.parametrize("judged", [None, {"1": "E", "3": "I"}], ids=["", "judged"])
def test_a_narrow_ranking_has_products_and_scores_and_leaves_the_probabilities_out(judged):
    ranked = [Ranked(str(place), title, 0.91, "S", (0.9, 0.05, 0.03, 0.02)) for place, title in enumerate(TITLES)]
    text = shown(ranking_table("red shoes", ranked, ("E", "S", "C", "I"), judged, width=40), 40)
    assert max(map(len, text.splitlines())) <= 40
    assert {tuple(row[-2:]) for row in cells(text)} == {("S", "0.9100")}
    assert all(row[1].startswith(title[:2]) for row, title in zip(cells(text), TITLES, strict=True))


def test_a_ranking_by_a_regressor_has_scores_alone():
    text = shown(ranking_table("q", [Ranked("1", "hat", 0.25, None, ())], ()), 80)
    assert cells(text) == [["1", "hat", "0.2500"]]


def figures_of(task, locales):
    rows = np.arange(20)
    logits = (np.outer(rows, np.arange(TASKS[task].outputs)) % 3).astype(np.float32)
    place = np.minimum(np.maximum(rows - 3, 0) // 3, len(locales) - 1)
    return {"split": "test", **measure(TASKS[task].predict(logits), rows % 4, rows % 2, np.array(locales)[place])}


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("locales", [["us"], ["us", "es", "jp"], ["us", "es", "jp", "de", "fr", "it"]], ids=len)
@pytest.mark.parametrize("task", TASKS)
def test_every_figure_can_be_read(width, locales, task):
    measured = figures_of(task, locales)
    text = shown(figures_table(measured), width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    numbers = [cell for row in cells(text) for cell in row[1:] if cell]
    assert all(re.fullmatch(r"\d+\.\d{4}", number) for number in numbers)
    columns = [line for line in text.splitlines() if line.startswith("┃")]
    baselines = {"esci": ["Exact", "order"], "substitute": ["Other"], "gain": ["order"]}[task]
    heading = " ".join(columns).split()
    assert all(name in heading for name in ["all", "us", *baselines])
    assert ("Exact" in heading) == (task == "esci")
    assert len({"us", "es", "jp", "de", "fr", "it"} & set(heading)) == min(4, len(locales))


def test_the_figures_are_those_that_were_measured():
    measured = figures_of("esci", ["us", "jp"])
    rows = {row[0]: row[1:] for row in cells(shown(figures_table(measured), 120))}
    by_locale = measured["by_locale"]
    assert rows["ndcg"] == [
        *(f"{figures['ndcg']:.4f}" for figures in (measured, by_locale["jp"], by_locale["us"])),
        "",
        f"{measured['random_order']['ndcg']:.4f}",
    ]
    assert rows["substitute.micro_f1"][0] == f"{measured['substitute']['micro_f1']:.4f}"
    assert rows["micro_f1"][3] == f"{measured['always_exact']['micro_f1']:.4f}"


def test_a_confusion_of_millions_can_be_read():
    measured = {"confusion": [[1_234_567, 2, 3, 4], [5, 6, 7, 8], [0, 0, 0, 0], [1, 1, 1, 1]]}
    rows = cells(shown(confusion_table(measured, ("E", "S", "C", "I")), 80))
    assert rows[0] == ["E", "1,234,567", "2", "3", "4", "1.000"]
    assert [row[-1] for row in rows] == ["1.000", "0.231", "0.000", "0.250"]


@pytest.mark.parametrize("width", [80, 120])
def test_names_of_settings_can_be_copied(width):
    settings = describe(load_recipe("kdd2022:task2"))
    text = shown(settings_table(settings), width)
    assert "…" not in text
    named = [row[0] for row in cells(text) if row[0]]
    assert named == [name for name, _, _ in settings]
    assert '"microsoft/infoxlm-large"' in text
