"""The loop by itself, on an objective that is one linear layer: what it keeps, when it stops, what it refuses."""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from zhichun.core.console import Bar
from zhichun.core.errors import UserError
from zhichun.fit import loop
from zhichun.fit.loop import Loop
from zhichun.fit.run_folder import RunFolder
from zhichun.fit.train_settings import TrainSettings
from zhichun.objective import Total


class Line(nn.Module):
    """A model y = a x with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.a.weight)


class LeastSquares(nn.Module):
    """Counts its steps, so that the seam `after_step` is seen to be used."""

    def __init__(self) -> None:
        super().__init__()
        self.shipped = Line()
        self.steps = 0

    def forward(self, batch: dict[str, torch.Tensor]) -> Total:
        loss_B = (self.shipped.a(batch["x"][:, None])[:, 0] - batch["y"]).square()
        total = loss_B.sum() / batch["normaliser"]
        return Total(total, {})

    def after_step(self) -> None:
        self.steps += 1


class Points:
    """Eight points on y = 2 x in steps of four, each cut into two micro-batches."""

    steps_per_epoch = 2

    def __init__(self, factor: float = 2.0) -> None:
        self.x = np.linspace(0.5, 2, 8, dtype=np.float32)
        self.y = (factor * self.x).astype(np.float32)

    def size(self, step: int) -> int:
        return 4

    def micro_batches(self, step: int, rank: int, processes: int) -> Iterator[dict[str, np.ndarray]]:
        rows = np.arange(8)[step % 2 :: 2]
        for part in np.array_split(rows, 2):
            yield {"x": self.x[part], "y": self.y[part], "normaliser": np.asarray(4, np.float32)}


def run_loop(tmp_path, evaluate, batches=None, **settings):
    run = RunFolder(tmp_path)
    settings = {"epochs": 10, "learning_rate": 0.1, "precision": "fp32", "warmup": 0.0, "metric": "loss", **settings}
    objective = LeastSquares()
    loop = Loop(
        Accelerator(cpu=True), batches or Points(), evaluate, TrainSettings(**settings), run, Bar("", shown=False)
    )
    return loop.fit(objective), objective, run


def distance(model: nn.Module) -> dict[str, float]:
    return {"loss": abs(model.a.weight.item() - 2.0)}


def test_the_last_weights_are_kept_where_nothing_may_choose(tmp_path):
    figures = iter([0.5, 0.1, 0.4])
    progress, _, run = run_loop(tmp_path, lambda model: {"loss": next(figures)}, epochs=3, keep="last")
    assert (progress.best_step, progress.step) == (6, 6)
    assert run.checkpoints.best(6)
    with pytest.raises(UserError, match=r"patience=2 has no effect with train\.keep=last"):
        TrainSettings(keep="last", patience=2)


def test_it_learns_and_logs_every_step_once(tmp_path):
    progress, objective, run = run_loop(tmp_path, distance, epochs=30)
    assert distance(objective.shipped)["loss"] < 0.1
    assert progress.step == objective.steps == 60
    assert [record["step"] for record in run.records() if "loss" in record] == list(range(1, 61))
    assert sum("validation" in record for record in run.records()) == 30


def test_the_best_weights_are_kept_not_the_last(tmp_path):
    values = iter([0.5, 0.1, 0.3, 0.4])
    seen = []

    def evaluate(model):
        seen.append(model.a.weight.item())
        return {"loss": next(values)}

    progress, _, run = run_loop(tmp_path, evaluate, epochs=4)
    assert progress.best_step == 4
    assert float(run.checkpoints.best(4)["a.weight"]) == seen[1]
    assert [path.name for path in run.checkpoints.path.glob("best-*")] == ["best-00000004.safetensors"]


def test_it_stops_early_and_stays_stopped_on_resume(tmp_path):
    progress, _, _ = run_loop(tmp_path, lambda model: {"loss": 1.0}, patience=2)
    assert (progress.step, progress.stopped) == (6, True)
    again, objective, _ = run_loop(tmp_path, lambda model: {"loss": 0.0}, patience=2)
    assert (again.step, objective.steps) == (6, 0)


def test_higher_is_better_but_for_the_loss(tmp_path):
    values = iter([0.5, 0.1, 0.3, 0.4])
    progress, _, _ = run_loop(tmp_path, lambda model: {"micro_f1": next(values)}, epochs=4, metric="micro_f1")
    assert (progress.best_step, progress.best_value) == (2, 0.5)


def test_the_gradient_is_clipped_before_the_step(tmp_path):
    _, clipped, run = run_loop(tmp_path, distance, epochs=1, clip=1e-3)
    norms = [record["gradient_norm"] for record in run.records() if "gradient_norm" in record]
    assert all(norm > 1e-3 for norm in norms)  # what is logged is the norm before clipping
    assert clipped.shipped.a.weight.item() != 0


def test_a_loss_that_is_no_number_ends_the_run_with_a_remedy(tmp_path):
    with pytest.raises(UserError, match=r"not a number at step 1.\n.*learning_rate"):
        run_loop(tmp_path, distance, Points(float("nan")))


def test_evaluations_are_spread_over_the_epochs_and_end_with_the_last_step(tmp_path):
    _, _, run = run_loop(tmp_path, distance, epochs=3, evaluations=2)
    assert [record["step"] for record in run.records() if "validation" in record] == [1, 2, 3, 4, 5, 6]


def test_of_equal_evaluations_the_one_with_the_lower_loss_is_kept(tmp_path):
    losses = iter([1.0, 0.8, 0.9])
    progress, _, _ = run_loop(
        tmp_path, lambda model: {"micro_f1": 0.5, "loss": next(losses)}, epochs=3, metric="micro_f1"
    )
    assert progress.best_step == 4


def test_what_is_waited_for_is_counted_and_what_is_done_meanwhile_is_not(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def slow():
        for item in range(4):
            clock.now += 3
            yield item

    waiting, seen = loop.Waiting(), []
    for item in waiting.timed(slow()):
        seen.append(item)
        clock.now += 1
    assert seen == [0, 1, 2, 3]
    assert waiting.seconds == 9  # the first item is not waited for
    assert waiting.share == 9 / 13
