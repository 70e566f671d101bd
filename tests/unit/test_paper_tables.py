"""`python benchmarks/tables`: the recipes of the rows, figures worked out by hand, and a table taken up again."""

import importlib
import json
import runpy
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from zhichun.core.errors import UserError
from zhichun.fit.recipe import PretrainingRecipe, load_recipe

FOLDER = Path(__file__).parents[2] / "benchmarks" / "tables"
sys.path.insert(0, str(FOLDER))  # where a script finds what stands beside it
paper_tables, table_runs, table_figures, table_page = map(
    importlib.import_module, ("paper_tables", "table_runs", "table_figures", "table_page")
)
command = runpy.run_path(str(FOLDER / "__main__.py"), run_name="tables")
sys.path.pop(0)

Row, Table = paper_tables.Row, paper_tables.Table
POLY = ("objective.loss=Poly1",)
ROWS = (Row(name="CE", paper={"micro_f1": 0.7508}), Row(name="Poly-1", settings=POLY, paper={"micro_f1": 0.7521}))
LOSSES = Table(name="Two losses", caption="Two.", metrics=("micro_f1", "ndcg", "macro_f1"), rows=ROWS)


@pytest.fixture
def plan(tiny_dataset, tiny_recipe, tmp_path):
    def make(*rows, **others):
        given = {"base": tiny_recipe, "data": tiny_dataset, "out": tmp_path / "out", "seeds": 2, **others}
        table = Table(name="T", caption="", metrics=("micro_f1", "mlm_loss"), rows=rows) if rows else LOSSES
        return table_runs.Plan(table=table, pretraining=load_recipe("tiny:pretrain", PretrainingRecipe), **given)

    return make


@pytest.mark.parametrize("name", paper_tables.TABLES)
@pytest.mark.parametrize("recipe", ["tiny", "kdd2022:baseline", "kdd2022:task1"])
def test_the_papers_tables_fit_the_packaged_recipes(name, recipe, plan):
    table = paper_tables.TABLES[name]()
    runs = plan(*table.rows, base=load_recipe(recipe)).runs
    assert len({(str(run.recipe), run.data) for run in runs}) == 2 * len(table.rows)
    assert [run.recipe.train.seed for run in runs] == [0] * len(table.rows) + [1] * len(table.rows)


def test_a_setting_for_all_rows_holds_but_for_what_a_row_sets_itself(plan):
    decay = "objective.ema.decay=0.9"
    off, on = Row(name="off", settings=("objective.ema=null",)), Row(name="on", settings=("objective.ema=EMA",))
    without, averaged, *_ = plan(off, on, settings=("train.epochs=1", decay)).runs
    assert without.recipe.objective.ema is None
    assert averaged.recipe.objective.ema.decay == 0.9
    assert [run.recipe.train.epochs for run in (without, averaged)] == [1, 1]
    assert plan(off, on, settings=(decay,)).overruled == [(decay, ["off"])]
    with pytest.raises(UserError, match=r"--set objective\.ema=EMA has no effect"):
        plan(off, on, settings=("objective.ema=EMA",))
    with pytest.raises(UserError, match="two rows are the same"):
        plan(Row(name="one"), Row(name="other"))
    with pytest.raises(UserError, match="row 'bad': R-Drop needs a second view"):
        plan(Row(name="good"), Row(name="bad", settings=("objective.rdrop=RDrop",)))


def test_killed_in_its_third_run_a_table_goes_on_and_runs_nothing_twice(plan, tmp_path, monkeypatch):
    trained, train = [], table_runs.train

    def stop_once(recipe, data, folder, **options):
        trained.append(folder.relative_to(tmp_path / "out").as_posix())
        if len(trained) == 3:
            raise KeyboardInterrupt
        return train(recipe, data, folder, **options)

    monkeypatch.setattr(table_runs, "train", stop_once)
    with pytest.raises(KeyboardInterrupt):
        command["run_table"](plan())
    partial = json.loads((tmp_path / "out" / "table.json").read_text())
    assert partial["partial"]
    assert partial["runs"] == {"done": 2, "planned": 4}
    assert "**Partial: 2 of 4 runs are done.**" in (tmp_path / "out" / "table.md").read_text()
    command["run_table"](plan())
    assert trained == ["ce/seed-0", "poly-1/seed-0", "ce/seed-1", "ce/seed-1", "poly-1/seed-1"]
    result = json.loads((tmp_path / "out" / "table.json").read_text())
    first, second = (row["figures"]["micro_f1"] for row in result["rows"])
    measured = json.loads((tmp_path / "out" / "poly-1" / "seed-1" / "metrics.json").read_text())
    assert second["by_seed"]["1"] == measured["micro_f1"]
    assert second["ours"]["mean"] == pytest.approx(sum(second["by_seed"].values()) / 2)
    assert second["difference"]["mean"] == pytest.approx(second["ours"]["mean"] - first["ours"]["mean"])
    assert second["difference"]["low"] <= second["difference"]["mean"] <= second["difference"]["high"]
    assert second["paper_difference"] == 0.0013
    macro = result["rows"][1]["figures"]["macro_f1"]["ours"]
    assert macro["low"] is None
    assert macro["over"] == "seeds"
    page = (tmp_path / "out" / "table.md").read_text()
    assert "Partial" not in page
    for heading in ("## micro-F1", "## nDCG", "## macro-F1", "## Rows", "## How it was measured"):
        assert heading in page.splitlines()
    assert not (tmp_path / "out" / "ce" / "seed-0" / "model").exists()
    with pytest.raises(UserError, match="other settings or another dataset"):
        command["run_table"](plan(settings=("train.epochs=2",)))


def test_a_pre_training_comes_before_its_row_and_doubtful_judgements_are_left_out(plan, tmp_path):
    pytest.importorskip("cleanlab")
    tasks = ("product2query", "product2brand", "product2color", "contrastive")
    mlm = Row(name="MLM", pretraining=("train.epochs=1", *(f"objective.{task}=null" for task in tasks)))
    made = plan(mlm, Row(name="fewer", dropping=0.04), seeds=1)
    command["run_table"](made)
    pretrained, fewer = table_figures.make_result(made)["rows"]
    assert pretrained["figures"]["mlm_loss"]["ours"]["mean"] > 0
    assert pretrained["seconds_before"] > 0
    assert "mlm_loss" not in fewer["figures"]
    whole, reduced = (pq.read_table(folder / "examples.parquet") for folder in (made.data, made.runs[1].data))
    listed = (made.runs[1].data.parent / "audit" / "drop.csv").read_text().splitlines()
    assert 0 < len(whole) - len(reduced) < len(listed)  # validation pairs on the list stay
    assert not list((tmp_path / "out").glob("**/encoder"))


def test_a_probability_below_a_thousandth_is_not_written_as_zero(plan):
    row = {"name": "a|b", "settings": [], "pretraining": None, "dropping": None, "compared_with": "CE", "seconds": 61.4}
    better = {"mean": 0.01, "low": 0.005, "high": 0.02, "p": 0.0, "over": "queries"}
    figures = {"micro_f1": {"ours": {"mean": 0.7, "low": None, "high": None, "over": "queries"}, "difference": better}}
    runs = {"done": 1, "planned": 2}
    result = table_figures.make_result(plan()) | {
        "rows": [{**row, "seconds_before": None, "runs": runs, "figures": figures}],
        "floor": {"esci": {"micro_f1": 0.6637}},
    }
    lines = table_page.markdown(result).splitlines()
    assert "| row | micro-F1 | minus CE | 95 % of it | p |" in lines
    assert r"| a\|b (1 of 2 runs) | 0.7000 | +0.0100 | +0.0050 to +0.0200 | < 0.001 |" in lines
    assert "One class always gives 0.6637." in lines
