"""Pre-train, fine-tune, evaluate as a user types it; killed at the worst moments it ends with the same bytes."""

import json
import re
import shutil
import signal
from dataclasses import replace

import pytest

from forks import Job
from zhichun.fit.pretrain import pretrain
from zhichun.fit.recipe import PretrainingRecipe, load_recipe
from zhichun.fit.run_folder import RunFolder
from zhichun.model.encoder_settings import EncoderSettings

PRODUCED = ("model.safetensors", "config.json", "tokenizer.json", "tables.safetensors")
MOMENTS = {  # audit event, pattern of its path, at which of them
    "the catalogue is half copied": ("os.rename", "/catalogue/.*partial", 1),
    "the recipe is not written yet": ("os.rename", "recipe.*partial", 1),
    "a step is done and not yet logged": ("open", "/metrics.jsonl", 4),
    "a checkpoint lacks a file": ("open", "/step-.*partial.*/progress.json", 2),
    "a checkpoint is whole and has no name yet": ("os.rename", "/step-[0-9]*.partial", 2),
    "two checkpoints are there": ("shutil.rmtree", "/step-[0-9]*$", 2),
    "the best weights have no name yet": ("os.rename", "/best-.*partial", 1),
    "the report has no name yet": ("os.rename", "report.*partial", 1),
    "the encoder is being written": ("os.rename", "tokenizer_config.*partial", 1),
    "the encoder has no name yet": ("os.rename", "/encoder.partial[^/]*$", 1),
    "the checkpoints of a finished run are still there": ("shutil.rmtree", "/checkpoint$", 1),
}


@pytest.fixture(scope="module")
def recipe(tiny_recipe):
    """All tasks with all that they keep from step to step, shrunk to a second."""
    model = EncoderSettings(tiny=tiny_recipe.model.tiny, max_length=tiny_recipe.model.max_length)
    settings = [
        "train.epochs=2",
        "train.batch_size=80",
        "train.evaluations=2",
        "train.checkpoint_minutes=0.0",
        "objective.product2brand.size=8",
        "objective.product2color.size=8",
        "objective.contrastive.queue=100",
        "objective.ema=EMA",
    ]
    return replace(load_recipe("tiny:pretrain", PretrainingRecipe), model=model).with_settings(settings)


@pytest.fixture(scope="module")
def in_peace(recipe, tiny_dataset, tmp_path_factory):
    return pretrain(recipe, tiny_dataset, tmp_path_factory.mktemp("in-peace") / "run")


@pytest.fixture
def data(tiny_dataset, tmp_path):
    """The dataset, without a copy of its texts."""
    return shutil.copytree(tiny_dataset, tmp_path / "data", ignore=shutil.ignore_patterns("catalogue", "features"))


def test_killed_at_the_worst_moments_it_resumes_to_the_same_bytes(forks, recipe, data, in_peace, tmp_path):
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.to_json()))
    arguments = ["-m", "zhichun", "pretrain", tmp_path / "recipe.json", "--resume"]
    arguments += ["--data", data, "--out", tmp_path / "run"]
    endings = {name: forks.run(Job(arguments, killed_at=moment)) for name, moment in MOMENTS.items()}
    assert {name: ending for name, ending in endings.items() if ending != [-signal.SIGKILL]} == {}
    run = pretrain(recipe, data, tmp_path / "run", resume=True)
    for name in (*(f"encoder/{name}" for name in PRODUCED), "metrics.jsonl"):
        assert (run.path / name).read_bytes() == (in_peace.path / name).read_bytes(), name
    assert {path.name for path in run.path.iterdir()} == {path.name for path in in_peace.path.iterdir()}
    assert len(list((data / "catalogue").iterdir())) == 1


def test_a_finished_run_is_left_as_it_is(recipe, tiny_dataset, in_peace):
    before = {path: path.stat().st_mtime_ns for path in sorted(in_peace.path.rglob("*"))}
    pretrain(recipe, tiny_dataset, in_peace.path, resume=True)
    assert {path: path.stat().st_mtime_ns for path in sorted(in_peace.path.rglob("*"))} == before


def test_every_task_is_measured_at_every_evaluation(in_peace, recipe):
    measured = [record["validation"] for record in in_peace.records() if "validation" in record]
    names = {f"{task.name}.{figure}" for task in recipe.objective.tasks for figure in ("loss", "accuracy")}
    assert len(measured) == 4
    assert all(set(figures) == {"loss", *names} for figures in measured)
    assert measured[-1]["mlm.loss"] < measured[0]["mlm.loss"]
    page = (in_peace.path / "report.html").read_text("utf-8")
    for said in (
        "Pre-training with Contrastive, MLM, Product2Brand, Product2Color, Product2Query",
        "Loss of each task on the held-out products",
        "MLM: accuracy",
    ):
        assert said in page


def test_from_catalogue_to_figures_on_the_command_line(home, succeed, shrunk, tmp_path):
    shape = [setting for setting in shrunk if "tiny" in setting or "max_length" in setting]
    fast = ["--set", "train.epochs=1", "--set", "objective.product2query=null", "--set", "objective.contrastive=null"]
    pre, run = tmp_path / "pre", tmp_path / "run"
    said = succeed("pretrain", "tiny:pretrain", "--data", home / "data", "--out", pre, *shape, *fast)
    then = re.search(r"encoder: pre-trained\. Next: zhichun (train) RECIPE .* --set (model\.encoder=\S+)", said)
    rest = [setting for setting in shrunk if "tiny" not in setting]
    succeed(then[1], "tiny", "--data", home / "data", "--out", run, "--set", then[2], *rest)
    succeed("evaluate", run, "--data", home / "data")
    assert 0 < json.loads((run / "metrics.json").read_text())["ndcg"] < 1
    assert RunFolder(pre).encoder.is_dir()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["pretrain", "tiny"],
            "tiny is a recipe for `zhichun train`.\nName another, or use it with: zhichun train tiny",
        ),
        (["train", "tiny:pretrain"], "tiny:pretrain is a recipe for `zhichun pretrain`"),
        (["pretrain", "tiny:pretrain", "--set", "objective.mlm=null"], "leaves no mlm.loss"),
        (["pretrain", "tiny:pretrain", "--set", "train.validation_fold=1"], "no effect: no task reads queries"),
        (["pretrain", "tiny:pretrain", "--set", "train.held_out=1e-9"], "no product to validate on.\nRaise"),
        (["pretrain", "tiny:pretrain", "--set", "train.held_out=0.999999"], "no product to train on.\nLower"),
    ],
)
def test_what_cannot_be_done_is_said_with_what_can(arguments, message, home, fail, tmp_path):
    said = fail(*arguments, "--data", home / "data", "--out", tmp_path / "run")
    assert message in said


def test_the_recipe_command_shows_both_kinds(succeed):
    said = succeed("recipe", "kdd2022:pretrain")
    assert "objective.product2query.weight" in said
    assert "objective.ema.decay" in said
