"""What is said while something runs: a plain log where there is no terminal, a bar where there is one."""

import re

import pytest
from rich.console import Console

from zhichun.core import console
from zhichun.core.console import Bar, Stages


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    made = Clock()
    monkeypatch.setattr(console, "time", made)
    return made


@pytest.fixture
def terminal(monkeypatch):
    made = Console(force_terminal=True, width=100, record=True, stderr=True)
    monkeypatch.setattr(console, "stderr", made)
    return made


def test_without_a_terminal_a_line_tells_place_rate_loss_and_time_left(clock, capsys):
    bar = Bar("train", "pairs")
    bar.start(100, 300)  # a run that goes on at step 100
    for _ in range(50):
        clock.now += 1
        bar.advance(32, loss=0.5)
    lines = capsys.readouterr().err.splitlines()
    # One line every ten seconds; 40 of the 200 steps that were left took 40 seconds.
    assert len(lines) == 5
    assert lines[3] == "train: 140/300  32 pairs/s  loss 0.5000  160 s left"


def test_quick_work_says_nothing(clock, capsys):
    with Bar("score", "pairs") as bar:
        bar.start(0, 10)
        bar.advance(10, steps=10)
    assert capsys.readouterr() == ("", "")


def test_where_the_end_is_unknown_no_time_is_promised(clock, capsys):
    bar = Bar("score", "pairs")
    bar.start(0, 0)
    clock.now += 20
    bar.advance(3000, steps=3000)
    assert capsys.readouterr().err == "score: 3,000  150 pairs/s\n"


def test_an_evaluation_is_noted_with_its_place(capsys):
    bar = Bar("train", "pairs")
    bar.start(5, 10)
    bar.note("micro_f1 0.7000")
    assert capsys.readouterr().err == "train: 5/10  micro_f1 0.7000\n"


def test_processes_after_the_first_are_silent(clock, capsys):
    bar = Bar("train", "pairs", shown=False)
    bar.start(0, 10)
    clock.now += 60
    bar.advance(32)
    bar.note("micro_f1 0.7000")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("total", "place"), [(10, "4/10"), (0, "4/?")])
def test_on_a_terminal_there_is_a_bar_with_place_and_rate(terminal, clock, capsys, total, place):
    with Bar("score", "pairs") as bar:
        bar.start(0, total)
        clock.now += 2
        bar.advance(4, steps=4)
    text = re.sub(r"\s+", " ", terminal.export_text())
    assert "score" in text
    assert place in text
    assert "2 pairs/s" in text


def test_stages_come_one_after_the_other(clock, capsys):
    stages = Stages("rows")
    for stage in ("examples", "products"):
        for done in (10, 20):
            clock.now += 15
            stages(stage, done, 40)
    stages.stop()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["examples: 20/40", "products: 20/40"]
    assert lines[0].endswith("1 rows/s  15 s left")
