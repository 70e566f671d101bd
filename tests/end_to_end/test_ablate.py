"""`zhichun ablate`: a table from its runs, killed and called again, and refused before anything is run."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from zhichun.ablate import Ablation, Row, ablate
from zhichun.ablate import run as run_module
from zhichun.core.errors import UserError

TABLE = Ablation(
    name="Two losses",
    caption="Two losses.",
    metrics=("micro_f1", "ndcg"),
    rows=(Row(name="CE"), Row(name="Poly-1", settings=("objective.loss=Poly1",), paper={"micro_f1": 0.7521})),
)
OWN_FILE = """
from zhichun.ablate import Ablation, Row
def table() -> Ablation:
    rows = (Row(name="CE"), Row(name="Poly-1", settings=("objective.loss=Poly1",)))
    return Ablation(name="Two losses", caption="", metrics=("micro_f1", "ndcg"), rows=rows)
"""
MOMENTS = {  # audit event, pattern of its path, at which of them
    "a training is in the middle": ("open", "/metrics.jsonl", 4),
    "a run is trained and not measured": ("os.rename", "partial-metrics.json", 1),
    "a run is measured and has no outcome": ("os.rename", "partial-outcome", 1),
    "the outcome is there and the table is not": ("os.rename", "partial-table.json", 1),
    "another run is trained": ("os.rename", "partial-model$", 2),
}


def figures(out):
    return [row["figures"] for row in json.loads((out / "table.json").read_text())["rows"]]


@pytest.fixture(scope="module")
def made(tiny_dataset, tiny_recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("ablation") / "out"
    said = []
    result = ablate(TABLE, tiny_dataset, out, recipe=tiny_recipe, seeds=2, say=said.append)
    return out, result, said


def test_every_row_is_run_with_every_seed_and_compared(made):
    out, result, said = made
    assert [line.partition(",")[0] for line in said] == [
        "run 1 of 4: CE",
        "run 2 of 4: Poly-1",
        "run 3 of 4: CE",
        "run 4 of 4: Poly-1",
    ]
    assert not result["partial"]
    first, second = (row["figures"]["micro_f1"] for row in result["rows"])
    metrics = json.loads((out / "poly-1" / "seed-1" / "metrics.json").read_text())
    assert second["by_seed"]["1"] == pytest.approx(metrics["micro_f1"])
    assert second["ours"]["mean"] == pytest.approx(sum(second["by_seed"].values()) / 2)
    assert second["difference"]["mean"] == pytest.approx(second["ours"]["mean"] - first["ours"]["mean"])
    assert second["paper"] == 0.7521
    assert all(row["seconds"] > 0 for row in result["rows"])
    assert json.loads((out / "table.json").read_text()) == json.loads(json.dumps(result))
    assert "| Poly-1 |" in (out / "table.md").read_text()
    assert "<svg" in (out / "table.html").read_text()


def test_weights_go_when_a_run_is_measured_and_what_is_compared_stays(made):
    run = made[0] / "ce" / "seed-0"
    assert not (run / "model").exists()
    assert not (run / "checkpoint").exists()
    assert set(pq.read_schema(run / "scored.parquet").names) >= {"example_id", "query_id", "esci_label", "p_E", "gain"}
    assert "query" not in pq.read_schema(run / "scored.parquet").names


def test_nothing_is_run_twice_and_more_seeds_are_only_added(made, tiny_dataset, tiny_recipe, monkeypatch):
    out, result, _ = made

    def refuse(*arguments, **options):
        raise AssertionError("a finished run was run again")

    monkeypatch.setattr(run_module, "train", refuse)
    again = ablate(TABLE, tiny_dataset, out, recipe=tiny_recipe, seeds=2)
    assert again["rows"] == result["rows"]
    # What is there of a larger table is shown, and marked.
    with pytest.raises(AssertionError, match="run again"):
        ablate(TABLE, tiny_dataset, out, recipe=tiny_recipe, seeds=3)


def test_a_row_can_be_run_alone_and_its_weights_kept(tiny_dataset, tiny_recipe, tmp_path):
    options = {"recipe": tiny_recipe, "seeds": 1, "only": ["poly-1"], "keep_models": True}
    result = ablate(TABLE, tiny_dataset, tmp_path, **options)
    assert [row["runs"]["done"] for row in result["rows"]] == [0, 1]
    assert result["partial"]
    assert "**Partial: 1 of 2 runs are done.**" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "poly-1" / "seed-0" / "model").is_dir()


def test_bad_settings_are_refused_before_anything_is_run(tiny_dataset, tiny_recipe, tmp_path):
    bad = Row(name="bad", settings=("objective.rdrop=RDrop",))
    table = Ablation(name="T", caption="", metrics=("ndcg",), rows=(Row(name="good"), bad))
    with pytest.raises(UserError, match="row 'bad': R-Drop compares two views"):
        ablate(table, tiny_dataset, tmp_path / "out", recipe=tiny_recipe)
    with pytest.raises(UserError, match=r"no row 'plyo'\.\nPossible: CE, Poly-1|Did you mean"):
        ablate(TABLE, tiny_dataset, tmp_path / "out", recipe=tiny_recipe, only=["plyo"])
    assert not (tmp_path / "out").exists()


def test_killed_at_the_worst_moments_it_goes_on_to_the_same_table(tiny_dataset, tiny_recipe, made, tmp_path):
    (tmp_path / "mine.py").write_text(OWN_FILE)
    (tmp_path / "recipe.json").write_text(json.dumps(tiny_recipe.to_json()))
    out = tmp_path / "out"
    arguments = ["ablate", f"{tmp_path / 'mine.py'}:table", "--data", tiny_dataset, "--out", out, "--seeds", 2]
    arguments += ["--recipe", tmp_path / "recipe.json"]
    script = Path(__file__).with_name("killed_at.py")
    command = [sys.executable, script, json.dumps(list(MOMENTS.values())), *arguments]
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, check=True, text=True, timeout=240)
    endings = dict(zip(MOMENTS, json.loads(done.stdout.splitlines()[-1]), strict=True))
    assert [moment for moment, ending in endings.items() if ending != -signal.SIGKILL] == []
    partial = json.loads((out / "table.json").read_text())
    assert partial["partial"]
    ablate(TABLE, tiny_dataset, out, recipe=tiny_recipe, seeds=2)
    assert figures(out) == figures(made[0])


def test_a_pre_training_is_done_before_the_row_and_its_loss_shown(tiny_dataset, tiny_recipe, tmp_path):
    from zhichun.fit.recipe import PretrainingRecipe, load_recipe

    off = tuple(f"objective.{task}=null" for task in ("product2query", "contrastive", "product2color"))
    rows = (Row(name="fresh"), Row(name="MLM", pretraining=(*off, "objective.product2brand=null")))
    table = Ablation(name="T", caption="", metrics=("micro_f1", "mlm_loss"), rows=rows)
    result = ablate(
        table,
        tiny_dataset,
        tmp_path,
        recipe=tiny_recipe,
        pretraining=load_recipe("tiny:pretrain", PretrainingRecipe),
        pretraining_settings=["train.epochs=1"],
        seeds=1,
    )
    fresh, pretrained = (row["figures"] for row in result["rows"])
    assert "mlm_loss" not in fresh
    assert pretrained["mlm_loss"]["ours"]["mean"] > 0
    (run,) = (tmp_path / "pretraining").iterdir()
    assert not (run / "encoder").exists()  # no run needs it any more
    assert result["rows"][1]["seconds_before"] > 0


def test_a_row_without_the_doubtful_judgements_trains_on_fewer_pairs(tiny_dataset, tiny_recipe, tmp_path):
    pytest.importorskip("cleanlab")
    from zhichun.ablate import Dropping
    from zhichun.data.dataset.dataset import Dataset

    rows = (Row(name="all"), Row(name="fewer", dropping=Dropping(share=0.04)))
    table = Ablation(name="T", caption="", metrics=("micro_f1",), rows=rows)
    result = ablate(table, tiny_dataset, tmp_path, recipe=tiny_recipe, seeds=1)
    (stage,) = (tmp_path / "reduced").iterdir()
    before, after = Dataset.open(tiny_dataset), Dataset.open(stage / "data")
    listed = (stage / "audit" / "drop.csv").read_text().splitlines()[1:]
    dropped = after.manifest["without"]["listed"]
    assert 0 < dropped <= len(listed)
    assert len(after.examples) == len(before.examples) - dropped
    test_pairs = [sum(dataset.column("split") == "test") for dataset in (before, after)]
    assert test_pairs[0] == test_pairs[1]
    assert sum(after.manifest["examples"]["by_label"].values()) == len(after.examples)
    assert "difference" in result["rows"][1]["figures"]["micro_f1"]


def test_the_command_lists_the_tables_and_runs_one(zhichun, succeed, fail, home, shrunk, tmp_path):
    listed = succeed("ablate")
    assert "ablations:table4  Losses: cross-entropy, focal, GHM-C and Poly-1." in listed
    assert "ablations:table4 needs --data" in fail("ablate", "ablations:table4", "--out", tmp_path)
    assert "Did you mean 'table4'?" in fail("ablate", "ablations:tabel4", "--data", home / "data", "--out", tmp_path)
    out = tmp_path / "out"
    options = ["--data", home / "data", "--out", out, "--seeds", 1, "--row", "CE", "--row", "Poly-1", *shrunk]
    done = zhichun("ablate", "ablations:table4", *options)
    assert done.status == 0
    assert "ablate: run 1 of 2: CE, seed 0" in done.err
    assert str(out / "table.md") in done.out
    assert sorted(path.name for path in out.iterdir()) == ["ce", "poly-1", "table.html", "table.json", "table.md"]
