"""What the tests of the command line share: calling it in this process, and a folder with all that it makes."""

import contextlib
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from zhichun.cli import main

# The recipe `tiny`, shrunk to a second.
SHRUNK = [
    f"--set={setting}"
    for setting in (
        "train.epochs=1",
        "model.tiny.layers=2",
        "model.tiny.hidden=32",
        "model.tiny.heads=2",
        "model.tiny.pieces=500",
        "model.tiny.matching_layers=1",
        "model.max_length=32",
        "model.trigrams=8",
    )
]


class Done(NamedTuple):
    """How a command ended."""

    status: object
    out: str
    err: str


def call(*arguments: object) -> Done:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ending:
        main([str(argument) for argument in arguments])
    return Done(ending.value.code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def zhichun() -> Callable[..., Done]:
    """Call the command line."""
    return call


@pytest.fixture(scope="session")
def succeed() -> Callable[..., str]:
    """Call a command that ends well, for what it prints."""

    def succeed(*arguments: object) -> str:
        done = call(*arguments)
        assert done.status == 0, done.err
        return done.out

    return succeed


@pytest.fixture(scope="session")
def fail() -> Callable[..., str]:
    """Call a command that cannot use what it is given, for its one message."""

    def fail(*arguments: object) -> str:
        done = call(*arguments)
        assert done.status == 1
        assert re.findall("^error: |Traceback", done.err, re.MULTILINE) == ["error: "]
        return done.err

    return fail


@pytest.fixture(scope="session")
def shrunk() -> list[str]:
    """Settings that make the recipe `tiny` a matter of a second."""
    return SHRUNK


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory, succeed: Callable[..., str]) -> Path:
    """A folder with all that the first commands make: shop, data and run."""
    folder = tmp_path_factory.mktemp("home")
    said = succeed("sample", folder / "shop", "--products", 300, "--queries", 60)
    assert re.search(r"shop: \d+ pairs of 60 queries, 300 products\nlabels E \d\d\.\d% S", said)
    said = succeed("prepare", folder / "shop", folder / "data")
    assert re.search(r"data: (\d+) of \1 pairs, 60 queries, 300 products\n  split: .*\n  locale: .*\n  label: E", said)
    said = succeed("train", "tiny", "--data", folder / "data", "--out", folder / "run", *SHRUNK)
    assert said == f"{folder}/run: trained. Next: zhichun evaluate {folder}/run --data {folder}/data\n"
    return folder
