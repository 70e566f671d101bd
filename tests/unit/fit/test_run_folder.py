"""The run folder: what it records, and which it refuses to go on with."""

import json
import os

import pytest

from zhichun.core.device import processor_name
from zhichun.core.errors import UserError
from zhichun.fit.run_folder import RunFolder, one_run

RECIPE = {"format": 1, "task": "esci"}


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "manifest.json").write_text('{"format": 1}')
    return tmp_path / "data"


@pytest.fixture
def begun(tmp_path, data):
    """A run that has done three steps."""
    run = RunFolder.create(tmp_path / "run", RECIPE, data, resume=False)
    for step in (1, 2, 3):
        run.log({"step": step, "loss": 1 / step})
    return run


def test_it_records_recipe_and_environment(begun, data):
    assert json.loads((begun.path / "recipe.json").read_text()) == RECIPE
    environment = json.loads((begun.path / "environment.json").read_text())
    assert environment["dataset"]["folder"] == str(data)
    assert {"torch", "transformers", "zhichun"} <= environment["libraries"].keys()
    assert (environment["cores"], environment["gpu"] is None) == (os.cpu_count(), True)
    assert environment["processor"] == processor_name()


def test_what_is_refused_before_its_first_step_leaves_nothing_and_a_run_stays(tmp_path, data, begun):
    def refuse(path, **options):
        with one_run(path, writes=True):
            RunFolder.create(path, RECIPE, data, **options)
            raise UserError("a step is too small.")

    for path, options in ((tmp_path / "new", {"resume": False}), (begun.path, {"resume": True})):
        with pytest.raises(UserError, match="a step is too small"):
            refuse(path, **options)
    assert not (tmp_path / "new").exists()
    assert {path.name for path in begun.path.iterdir()} == {"recipe.json", "environment.json", "metrics.jsonl"}


def test_a_run_that_is_there_is_not_begun_anew(begun, data):
    with pytest.raises(UserError, match=r"there is a run already\.\n.*--resume"):
        RunFolder.create(begun.path, RECIPE, data, resume=False)


def test_resume_opens_it(begun, data):
    assert RunFolder.create(begun.path, RECIPE, data, resume=True) == begun


def test_resume_where_nothing_is_begins(tmp_path, data):
    assert RunFolder.create(tmp_path / "new" / "run", RECIPE, data, resume=True).path.is_dir()


def test_another_recipe_is_refused_and_the_recorded_one_named(begun, data):
    with pytest.raises(
        UserError, match=r"of another recipe\.\nGo on with it: zhichun train .*run/recipe\.json --data .* --resume"
    ):
        RunFolder.create(begun.path, {**RECIPE, "task": "gain"}, data, resume=True)


def test_another_dataset_is_refused(begun, data):
    (data / "manifest.json").write_text('{"format": 1, "sources": "others"}')
    with pytest.raises(UserError, match="another dataset"):
        RunFolder.create(begun.path, RECIPE, data, resume=True)


def test_a_dataset_of_the_same_content_elsewhere_is_the_same(begun, data):
    moved = data.rename(data.with_name("moved"))
    assert RunFolder.create(begun.path, RECIPE, moved, resume=True) == begun


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_of_something_else_is_refused(tmp_path, data, resume):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mother.txt").write_text("dear")
    with pytest.raises(UserError, match=r"holds no run.\nChoose another --out"):
        RunFolder.create(tmp_path / "letters", RECIPE, data, resume=resume)


@pytest.mark.parametrize("left", ["environment.json", "environment.json recipe.json.partial-1-0badcafe", "recipe.json"])
def test_a_run_that_ended_before_its_first_step_is_no_run_yet(tmp_path, data, left):
    (tmp_path / "run").mkdir()
    for name in left.split():
        (tmp_path / "run" / name).write_text('{"half": "done"}')
    run = RunFolder.create(tmp_path / "run", RECIPE, data, resume=False)
    assert json.loads((run.path / "recipe.json").read_text()) == RECIPE


def test_a_line_that_a_kill_cut_off_is_left_out(begun):
    with (begun.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    assert [record["step"] for record in begun.records()] == [1, 2, 3]


def test_steps_that_are_done_again_are_forgotten(begun):
    begun.forget_after(2)
    begun.log({"step": 3, "loss": 0.5})
    assert [(record["step"], record["loss"]) for record in begun.records()] == [(1, 1.0), (2, 0.5), (3, 0.5)]
    assert sorted(path.name for path in begun.path.iterdir()) == ["environment.json", "metrics.jsonl", "recipe.json"]
