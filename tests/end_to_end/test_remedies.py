"""Every remedy names options of the command that is running, and works: applied, the command ends well."""

import re
import shutil

import pytest
import typer

from zhichun.cli import app
from zhichun.data.dataset import VALIDATION_BUCKET, query_bucket, query_fold

COMMANDS = typer.main.get_command(app).commands
LABELS = ["--labels", "3=E,2=S,1=C,0=I"]
FILES = {
    "p.csv": "product_id,title\n1,Red shoe\n2,Blue hat\n",
    "named.csv": "sku,Bezeichnung\n1,Red shoe\n2,Blue hat\n",
    "twice.csv": "product_id,title\n1,Red shoe\n1,Red shoe again\n2,Blue hat\n",
    "e.csv": "query,docid,rating\nshoe,1,E\nhat,2,E\n",
    "graded.csv": "query,docid,rating\nshoe,1,3\nhat,2,0\n",
    "two.csv": "query,docid,rating\nshoe,1,3\nShoe ,1,3\nshoe,1,2\nhat,2,0\n",
    "named_e.csv": "query,docid,Urteil\nshoe,1,E\n",
    "lost.csv": "query,docid,rating\nshoe,1,E\nhat,9,E\n",
    "same.csv": "query,docid,rating,judge\nshoe,1,E,a\nshoe,1,S,a\nhat,2,E,a\n",
    "j.qrels": "1 0 1 3\n2 0 2 0\n",
    "t.tsv": "1\tshoe\n2\that\n",
    "pairs.csv": "query,title\nshoe,Red shoe\n",
    "named_pairs.csv": "query,Bezeichnung\nshoe,Red shoe\n",
    "ids.csv": "query,product_id\nshoe,1\n",
    "taken.csv": "query,title,label\nshoe,Red shoe,x\n",
    "there.csv": "",
}
OWN = ["prepare", "new", "--examples"]
# What is called, the remedy as a part of the message, and what is added to the call to follow it.
REMEDIES = {
    "own grades": ([*OWN, "graded.csv", "--products", "p.csv"], "--labels 3=E,2=S,…", LABELS),
    "two labels": ([*OWN, "two.csv", "--products", "p.csv", *LABELS], "--judges majority", ["--judges", "majority"]),
    "or their mean": ([*OWN, "two.csv", "--products", "p.csv", *LABELS], "mean or", ["--judges", "mean"]),
    "or their shares": (
        [*OWN, "two.csv", "--products", "p.csv", *LABELS],
        "distribution",
        ["--judges", "distribution"],
    ),
    "one judge": ([*OWN, "same.csv", "--products", "p.csv"], "--on-bad-rows drop", ["--on-bad-rows", "drop"]),
    "no product": ([*OWN, "lost.csv", "--products", "p.csv"], "--on-bad-rows drop", ["--on-bad-rows", "drop"]),
    "variants": ([*OWN, "e.csv", "--products", "twice.csv"], "--on-bad-rows drop", ["--on-bad-rows", "drop"]),
    "own column": ([*OWN, "named_e.csv", "--products", "p.csv"], "--columns label=…", ["--columns", "label=Urteil"]),
    "own columns of products": (
        [*OWN, "e.csv", "--products", "named.csv", "--columns", "products.product_id=sku"],
        "--columns products.title=…",
        ["--columns", "products.product_id=sku,products.title=Bezeichnung"],
    ),
    "topics": ([*OWN, "j.qrels", "--products", "p.csv", *LABELS], "--topics FILE", ["--topics", "t.tsv"]),
    "no table": (["prepare", "new"], "--examples FILE --products FILE", ["--examples", "e.csv", "--products", "p.csv"]),
    "no official file": (
        ["prepare", "empty", "new"],
        "--examples FILE --products FILE",
        ["--examples", "e.csv", "--products", "p.csv"],
    ),
    "a dataset is there": (["prepare", "shop", "copy"], "--overwrite", ["--overwrite"]),
    "rank variants": (["rank", "run", "shoe", "--products", "twice.csv"], "--on-bad-rows", ["--on-bad-rows", "drop"]),
    "rank own columns": (
        ["rank", "run", "shoe", "--products", "named.csv", "--columns", "product_id=sku"],
        "--columns products.title=…",
        ["--columns", "product_id=sku,products.title=Bezeichnung"],
    ),
    "score variants": (
        ["score", "run", "ids.csv", "new.csv", "--products", "twice.csv"],
        "--on-bad-rows drop",
        ["--on-bad-rows", "drop"],
    ),
    "score own columns": (
        ["score", "run", "named_pairs.csv", "new.csv"],
        "--columns title=…",
        ["--columns", "title=Bezeichnung"],
    ),
    "score own columns of products": (
        ["score", "run", "ids.csv", "new.csv", "--products", "named.csv", "--columns", "products.product_id=sku"],
        "--columns products.title=…",
        ["--columns", "products.product_id=sku,products.title=Bezeichnung"],
    ),
    "score ids": (["score", "run", "ids.csv", "new.csv"], "--products", ["--products", "p.csv"]),
    "score over": (["score", "run", "pairs.csv", "there.csv"], "--overwrite", ["--overwrite"]),
    "score again": (["score", "run", "taken.csv", "new.csv"], "--prefix", ["--prefix", "new_"]),
    "a run is there": (["train", "ran/recipe.json", "--data", "data", "--out", "ran"], "--resume", ["--resume"]),
}


@pytest.fixture
def place(home, tmp_path, monkeypatch):
    """A folder with a shop, its dataset and run, and the files."""
    for name in ("shop", "data", "run"):
        (tmp_path / name).symlink_to(home / name)
    shutil.copytree(home / "data", tmp_path / "copy")
    shutil.copytree(home / "run", tmp_path / "ran")
    (tmp_path / "empty").mkdir()
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def require_options(message, command):
    """Check that each option of a message is one of the command that it speaks of: that which ran, or one it names."""
    for part in re.split(r"(?=zhichun \w)", message):
        named = re.match(r"zhichun (\w+)", part)
        known = {option for each in COMMANDS[named[1] if named else command].params for option in each.opts}
        assert set(re.findall(r"--[a-z][a-z-]*", part)) <= known, part


@pytest.mark.parametrize(("call", "remedy", "more"), REMEDIES.values(), ids=REMEDIES)
def test_a_remedy_works_and_a_command_that_failed_leaves_nothing(place, fail, succeed, call, remedy, more, request):
    before = {path.name for path in place.iterdir()}
    message = fail(*call)
    assert remedy in message
    require_options(message, call[0])
    left = {path.name for path in place.iterdir()} - before
    assert all(name in message for name in left), left
    if request.node.callspec.id == "no official file":
        call = ["prepare", "new"]
    if more[0] in call:
        call = call[: call.index(more[0])]
    succeed(*call, *more)


@pytest.mark.parametrize(
    ("call", "files"),
    [
        (["serve", "run", "--products", "twice.csv"], {}),
        (["serve", "run", "--products", "named.csv"], {}),
        (["serve", "run", "--host", "0.0.0.0"], {}),
        (["train", "tiny", "--data", "data", "--out", "new", "--set", "task=gain"], {}),
        (["train", "tiny", "--data", "data", "--out", "new", "--set", "train.validation_fold=7"], {}),
        (["train", "tiny", "--data", "data", "--out", "new", "--folds", "3"], {}),
        (["train", "tiny", "--data", "data", "--out", "p.csv"], {}),
        (["evaluate", "run", "--data", "data", "--version", "tiny"], {}),
        (["prepare", "shop", "new", "--drop-issues", "decided.csv"], {"decided.csv": "example_id,decision\n1,keep\n"}),
        ([*OWN, "e.csv", "--products", "p.csv", "--judges", "strict", "--drop-issues", "p.csv"], {}),
        (["pretrain", "tiny", "--data", "data", "--out", "run"], {}),
        (["audit", "--data", "data", "--runs", "run", "--out", "new"], {}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_message_names_only_options_that_there_are(place, fail, call, files):
    for name, text in files.items():
        (place / name).write_text(text)
    before = {path.name for path in place.iterdir()}
    message = fail(*call)
    require_options(message, call[0])
    assert {path.name for path in place.iterdir()} - before <= {"new"}


def is_in(query, fold):
    return query_fold(query) == fold and query_bucket(query) != VALIDATION_BUCKET


def test_what_queries_are_too_few_for_is_said_at_once_and_its_remedy_works(place, shrunk, succeed, fail):
    of_fold = {fold: next(text for text in map("shoe {}".format, range(999)) if is_in(text, fold)) for fold in (1, 3)}
    (place / "few.csv").write_text("query,docid,rating\n" + "".join(f"{text},1,E\n" for text in of_fold.values()))
    said = succeed(*OWN, "few.csv", "--products", "p.csv", "--test-share", 0)
    warnings = [line for line in said.splitlines() if line.startswith("Too few queries: ")]
    assert len(warnings) == 3
    require_options("\n".join(warnings), "prepare")
    share = re.search(r"\(--test-share ([\d.]+) takes one", warnings[0])[1]
    fold = re.search(r"zhichun train … (--set train.validation_fold=\d)", warnings[1])[1]
    folds = re.search(r"no training query is in fold .* of 5: judge more, or take fewer with --folds", warnings[2])
    assert folds
    assert fold in fail("train", "tiny", "--data", "new", "--out", "tried", *shrunk)
    succeed("train", "tiny", "--data", "new", "--out", "tried", *shrunk, *fold.split(" "))
    said = succeed(*OWN, "few.csv", "--products", "p.csv", "--test-share", share, "--overwrite")
    assert re.search(r"split: test \d", said)
    assert "there is no test query" not in said
    assert "Too few queries" not in succeed("prepare", "shop", "whole")
