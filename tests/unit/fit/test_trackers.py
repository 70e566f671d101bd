"""Trackers get what metrics.jsonl has, by the same steps; off by default, and refused where they are not installed."""

import sys
from types import SimpleNamespace

import pytest
from accelerate import Accelerator
from accelerate.tracking import TensorBoardTracker

from zhichun.core.errors import UserError
from zhichun.fit import loop
from zhichun.fit.recipe import load_recipe
from zhichun.fit.run_folder import RunFolder
from zhichun.fit.train import train


def logged(run, name):
    """Read a figure of metrics.jsonl by its tracked name: {step: value}."""
    found = {}
    for record in run.records():
        group, _, key = name.rpartition("/")
        value = (record.get(group) or {} if group else record).get(key)
        if value is not None:
            found[record["step"]] = value
    return found


def tracked(run, name):
    """Read a figure of TensorBoard's files as its own reader does."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(run.path / "tensorboard"), {"scalars": 0})
    events.Reload()
    steps = [event.step for event in events.Scalars(name)]
    assert len(steps) == len(set(steps))
    return {event.step: event.value for event in events.Scalars(name)}


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_one_that_is_not_installed_is_refused_with_the_command_before_anything_is_made(
    name, tiny_recipe, tiny_dataset, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "get_available_trackers", list)
    with pytest.raises(UserError, match=f"{name}, which is not installed.\nInstall it with: pip install {name}\n"):
        train(tiny_recipe.with_settings([f'train.trackers=["{name}"]']), tiny_dataset, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unknown_one_is_answered_with_one_that_there_is():
    with pytest.raises(UserError, match=r"train\.trackers='tensorbord' is unknown\.\nDid you mean 'tensorboard'\?"):
        load_recipe("tiny").with_settings(['train.trackers=["tensorbord"]'])


def test_none_is_on_by_default(tiny_run):
    assert load_recipe("tiny").train.trackers is None
    assert not (tiny_run / "tensorboard").exists()


def test_tensorboard_shows_the_figures_of_the_run_after_a_resume_too(tiny_recipe, tiny_dataset, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    recipe = tiny_recipe.with_settings(['train.trackers=["tensorboard"]', "train.evaluations=2"])
    half, log = [], RunFolder.log

    def interrupted(run, record):
        log(run, record)
        half.extend([record["step"]] if "validation" in record else [])
        if half and record["step"] == half[0] + 2:  # after the checkpoint of an evaluation
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "log", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tiny_dataset, tmp_path / "run")
    run = train(recipe, tiny_dataset, tmp_path / "run", resume=True)
    for name in ("loss", "gradient_norm", "validation/micro_f1", "validation/loss"):
        assert tracked(run, name) == pytest.approx(logged(run, name), rel=1e-6)
    assert len(logged(run, "validation/loss")) == 2


def test_only_the_first_process_starts_one(tiny_recipe, tmp_path):
    class Second(Accelerator):
        is_main_process = False

    accelerator = Second(cpu=True, log_with=[TensorBoardTracker("tensorboard", tmp_path)])
    with loop._tracked(accelerator, tiny_recipe, RunFolder(tmp_path)):
        assert accelerator.trackers == []
    assert list(tmp_path.iterdir()) == []


def test_weights_and_biases_is_told_run_settings_and_figures(tiny_recipe, tiny_dataset, tmp_path, monkeypatch):
    told, given, settings = {}, {}, {}

    def start(**how):
        given.update(how)
        return SimpleNamespace(
            log=lambda values, step, **_: told.setdefault(step, {}).update(values),
            finish=lambda: given.update(done=True),
        )

    stand_in = SimpleNamespace(init=start, config=SimpleNamespace(update=lambda values, **_: settings.update(values)))
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    monkeypatch.setattr(loop, "get_available_trackers", lambda: ["wandb"])
    run = train(tiny_recipe.with_settings(['train.trackers=["wandb"]']), tiny_dataset, tmp_path / "mine")
    assert given == {"project": "zhichun", "name": "mine", "done": True}
    assert settings["train.epochs"] == "1"
    assert {step: values["loss"] for step, values in told.items()} == logged(run, "loss")


def test_mlflow_keeps_the_figures_in_its_store(tiny_recipe, tiny_dataset, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "store").as_uri())
    run = train(tiny_recipe.with_settings(['train.trackers=["mlflow"]']), tiny_dataset, tmp_path / "mine")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("zhichun")
    (kept,) = client.search_runs([experiment.experiment_id])
    assert (kept.info.run_name, kept.info.status) == ("mine", "FINISHED")
    assert kept.data.params["train.epochs"] == "1"
    history = {each.step: each.value for each in client.get_metric_history(kept.info.run_id, "loss")}
    assert history == pytest.approx(logged(run, "loss"))
