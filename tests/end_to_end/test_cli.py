"""Every command as a new user types it: what it prints and what it writes."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from zhichun.core import schema
from zhichun.fit.recipe import describe, load_recipe

# What each command is for


def test_evaluate_prints_a_table_and_writes_the_figures(home, succeed):
    features = set((home / "data" / "features").iterdir())
    said = succeed("evaluate", home / "run", "--data", home / "data")
    assert set((home / "data" / "features").iterdir()) == features, "training and evaluation read the same features"
    measured = json.loads((home / "run" / "metrics.json").read_text("utf-8"))
    wanted = {"micro_f1", "macro_f1", "f1.E", "f1.S", "f1.C", "f1.I", "ndcg", "by_locale", "confusion", "substitute"}
    assert wanted | {"always_exact", "random_order", "ndcg.official-script", "mrr", "gains", "split"} <= set(measured)
    assert set(measured["by_locale"]) == set(schema.LOCALES)
    for name in ("micro_f1", "ndcg"):
        row = [measured[name], *(measured["by_locale"][locale][name] for locale in sorted(schema.LOCALES))]
        assert re.search(rf"{name} +│ " + " │ +".join(f"{figure:.4f}" for figure in row), said)
    assert "judged ↓ predicted →" in said
    assert said.endswith(f"{home}/run/metrics.json\n")
    scored = pq.read_table(home / "run" / "scored.parquet")
    assert scored.num_rows == measured["pairs"]


def test_evaluate_of_another_split_into_another_folder(home, tmp_path, succeed):
    succeed("evaluate", home / "run", "--data", home / "data", "--split", "all", "--out", tmp_path / "all")
    measured = json.loads((tmp_path / "all" / "metrics.json").read_text("utf-8"))
    assert measured["pairs"] == pq.read_metadata(home / "data" / schema.EXAMPLES_FILE).num_rows
    assert measured["split"] == "all"


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_score_gives_the_same_rows_back(home, tmp_path, kind, succeed):
    pairs = pq.read_table(home / "data" / schema.EXAMPLES_FILE).select(["query", "product_id", "product_locale"])
    pq.write_table(pairs, tmp_path / "pairs.parquet")
    out = tmp_path / f"out.{kind}"
    said = succeed("score", home / "run", tmp_path / "pairs.parquet", out, "--products", home / "data")
    assert said == f"{out}: {pairs.num_rows} pairs scored by torch\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["pairs.parquet", out.name])
    again = tmp_path / "again.parquet"
    succeed("score", home / "run", out, again, "--prefix", "again_", "--products", home / "shop")
    scored = pq.read_table(again)
    for name in pairs.column_names:
        assert scored[name].to_pylist() == pairs[name].to_pylist()
    for name in ("p_E", "p_S", "p_C", "p_I", "gain"):
        both = [np.asarray(scored[column].to_pylist(), np.float64) for column in (name, f"again_{name}")]
        assert np.abs(both[0] - both[1]).max() < 1e-5
    assert scored["label"].to_pylist() == scored["again_label"].to_pylist()


def test_score_does_not_replace_a_file_that_is_there(home, tmp_path, succeed, fail):
    (tmp_path / "pairs.csv").write_text("query,title\nred shoes,Red running shoes\n")
    (tmp_path / "out.csv").write_text("mine")
    arguments = ["score", home / "run", tmp_path / "pairs.csv", tmp_path / "out.csv"]
    assert "out.csv: the file is there already.\nChoose another name, or give --overwrite." in fail(*arguments)
    assert (tmp_path / "out.csv").read_text() == "mine"
    succeed(*arguments, "--overwrite")
    assert (tmp_path / "out.csv").read_text().startswith('"query","title","p_E"')


@pytest.mark.parametrize(
    ("query", "locale"),
    [("red running shoes", "us"), ("zapatillas rojas de mujer", "es"), ("赤い 靴 レディース", "jp")],
)
def test_rank_shows_the_best_products_of_a_locale(home, query, locale, succeed):
    said = succeed("rank", home / "run", query, "--products", home / "data", "--locale", locale, "--top", 3)
    assert said.startswith(f"{query} ({locale}, ")
    rows = re.findall(
        r"│ +(\d) │ (.+?) │ ([ESCI]) +│ (0\.\d\d) │ (0\.\d\d) │ (0\.\d\d) │ (0\.\d\d) │ (0\.\d{4}) │", said
    )
    assert [row[0] for row in rows] == ["1", "2", "3"]
    scores = [float(row[-1]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert all(sum(map(float, row[3:7])) == pytest.approx(1, abs=0.03) for row in rows)


def test_rank_of_a_table_of_ones_own(home, tmp_path, succeed):
    table = tmp_path / "shop.csv"
    table.write_text('sku,name\n1,"[red] shoes [/b]"\n2,blue hat\n')
    columns = "product_id=sku,title=name"
    said = succeed("rank", home / "run", "red [shoes]", "--products", table, "--columns", columns, "--locale", "fr")
    assert "red [shoes] (fr, 2 products)" in said
    assert "[red] shoes [/b]" in said
    assert "blue hat" in said


def test_recipe_shows_every_setting_with_its_value_and_meaning(succeed):
    said = succeed("recipe", "kdd2022:task1", "--set", "train.epochs=7", "--set", "model.brand=null")
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in said.splitlines() if line[0] == "│"]
    value = {setting: value for setting, value, _ in rows if setting}
    assert (value["train.epochs"], value["model.brand"], value["objective.loss"]) == ("7", "null", "SquaredError")
    assert value["model.encoder"] == '"microsoft/infoxlm-large"'
    assert set(value) == {setting for setting, _, _ in describe(load_recipe("kdd2022:task1"))}
    assert all(meaning for setting, _, meaning in rows if setting)


@pytest.mark.parametrize(
    ("recipe", "settings", "headings", "columns"),
    [
        ("kdd2022:task3", [], "label │ other │", ["p_other", "p_S", "label"]),
        ("kdd2022:task1", ["--set=train.metric=ndcg"], "product", ["gain"]),
    ],
)
def test_the_other_two_tasks_go_the_same_way(home, tmp_path, recipe, settings, headings, columns, succeed, shrunk):
    run = tmp_path / "run"
    small = ["--set=model.encoder=tiny", *shrunk, "--set=train.learning_rate=1e-3", *settings]
    succeed("train", recipe, "--data", home / "data", "--out", run, *small)
    said = succeed("evaluate", run, "--data", home / "data")
    assert ("ndcg" in said) == (columns == ["gain"])
    assert ("always" in said) == ("judged ↓ predicted →" in said) == (columns != ["gain"])
    (tmp_path / "pairs.csv").write_text("query,title\nred shoes,Red running shoes\n")
    succeed("score", run, tmp_path / "pairs.csv", tmp_path / "out.parquet")
    assert pq.read_schema(tmp_path / "out.parquet").names == ["query", "title", *columns]
    assert re.search(r"│ +1 │ .*\d\.\d{4} │", succeed("rank", run, "red shoes", "--products", home / "data"))


def test_demo_goes_the_whole_way_and_uses_what_is_there(tmp_path, shrunk, monkeypatch, succeed):
    monkeypatch.setattr("zhichun.cli.using.PRODUCTS", 300)
    monkeypatch.setattr("zhichun.cli.using.QUERIES", 60)
    monkeypatch.setattr("zhichun.cli.using.FASTER", [setting.removeprefix("--set=") for setting in shrunk])
    said = succeed("demo", tmp_path / "demo")
    commands = re.findall(r"^\$ zhichun (\w+) ", said, re.MULTILINE)
    assert commands == ["sample", "prepare", "train", "evaluate"]
    assert re.search(r"ndcg +│ 0\.\d+ │", said)
    assert [said.count(f" ({locale})") for locale in schema.LOCALES] == [1, 1, 1]
    named = re.findall(rf"^  ({tmp_path}/\S+)  ", said, re.MULTILINE)
    assert len(named) == 3
    assert all(Path(path).exists() for path in named)
    weights = (tmp_path / "demo" / "run" / "model" / "model.safetensors").stat().st_mtime_ns
    succeed("demo", tmp_path / "demo")
    assert (tmp_path / "demo" / "run" / "model" / "model.safetensors").stat().st_mtime_ns == weights


# One's own data


@pytest.fixture
def own(tmp_path):
    """A catalogue and three kinds of judgements of it, as they come out of other systems."""
    (tmp_path / "catalogue.csv").write_text("sku,name,maker\n1,Red shoe,Nike\n2,Blue hat,\n3,Shoe laces,\n")
    (tmp_path / "own.csv").write_text("search_term,sku,grade\nred shoe,1,3\nred shoe,2,0\nred shoe,3,1\nhat,2,3\n")
    (tmp_path / "quepid.csv").write_text("query,docid,rating\nred shoe,1,3\nred shoe,2,0\nred shoe,3,1\nhat,2,3\n")
    (tmp_path / "judged.qrels").write_text("7 0 1 3\n7 0 2 0\n7 0 3 1\n8 0 2 3\n")
    (tmp_path / "topics.tsv").write_text("7\tred shoe\n8\that\n")
    return tmp_path


@pytest.mark.parametrize(
    ("judgements", "more"),
    [
        ("own.csv", ["--columns", "query=search_term,product_id=sku,label=grade,title=name,brand=maker"]),
        ("quepid.csv", ["--columns", "products.product_id=sku,title=name,brand=maker"]),
        ("judged.qrels", ["--topics", "topics.tsv", "--columns", "products.product_id=sku,title=name,brand=maker"]),
    ],
)
def test_prepare_reads_tables_of_ones_own(own, monkeypatch, judgements, more, succeed):
    monkeypatch.chdir(own)
    tables = ["--examples", judgements, "--products", "catalogue.csv"]
    said = succeed("prepare", "data", *tables, *more, "--labels", "3=E,2=S,1=C,0=I", "--locale", "de")
    assert said.startswith("data: 4 of 4 pairs, 2 queries, 3 products\n")
    assert "  locale: de 4\n  label: E 2, S 0, C 1, I 1\n" in said
    found = pq.read_table("data/examples.parquet").to_pylist()
    assert sorted((row["query"], row["product_id"], row["esci_label"]) for row in found) == [
        ("hat", "2", "E"),
        ("red shoe", "1", "E"),
        ("red shoe", "2", "I"),
        ("red shoe", "3", "C"),
    ]
    brands = pq.read_table("data/products.parquet").select(["product_title", "product_brand"]).to_pylist()
    assert brands[0] == {"product_title": "Red shoe", "product_brand": "Nike"}


def test_prepare_names_bad_rows_and_drops_them_when_told_to(own, monkeypatch, succeed, fail):
    monkeypatch.chdir(own)
    with Path("quepid.csv").open("a") as file:
        file.write("hat,9,3\n")
    prepare = ["prepare", "data", "--examples", "quepid.csv", "--products", "catalogue.csv"]
    prepare += ["--columns", "products.product_id=sku,title=name", "--labels", "3=E,1=C,0=I"]
    assert "quepid.csv, row 5: no such product" in fail(*prepare)
    assert not Path("data").exists()
    said = succeed(*prepare, "--on-bad-rows", "drop")
    assert "data: 4 of 5 pairs" in said
    assert "dropped examples: 1 × no such product (see rejected.parquet)" in said


def test_plan_says_what_a_model_costs_here(home, tmp_path, succeed, fail):
    asked = ("plan", home / "run", "--seconds", 0.2, "--tokens", 16, "--pairs", 5000, "--candidates", 7)
    said = succeed(*asked, "--out", tmp_path / "plan.json")
    assert "scoring 5,000 pairs of about 16 tokens" in said
    row, *_ = json.loads((tmp_path / "plan.json").read_text())["scoring"]
    assert row["engine"] == "torch"
    assert row["seconds"] == pytest.approx(5000 / row["pairs_per_second"])
    assert "cannot be loaded" in fail("plan", tmp_path / "missing")
    assert "pairs=0: must be above 0" in fail("plan", "--pairs", 0)
