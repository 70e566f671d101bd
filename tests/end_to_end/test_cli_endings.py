"""How commands end: 0; 1 with one message for what cannot be used; 2 for wrong usage. Never with a trace."""

import contextlib
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer

from zhichun.cli import app, main
from zhichun.core import schema

COMMANDS = typer.main.get_command(app).commands


# Help, and how commands end


def test_help_lists_every_command(zhichun):
    done = zhichun("--help")
    assert done.status == 0
    assert set(re.findall(r"│ (\w+)  +[A-Z]", done.out)) == set(COMMANDS)
    module = subprocess.run([sys.executable, "-m", "zhichun", "--help"], capture_output=True, text=True, check=True)
    assert module.stdout == done.out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_explains_each_of_its_options(command, succeed):
    said = succeed(command, "--help")
    assert f"Usage: zhichun {command} " in said
    for parameter in COMMANDS[command].params:
        assert parameter.help, f"{command}: {parameter.name} is not explained"
        if parameter.opts[0].startswith("--"):
            assert parameter.opts[0] in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluat"],
        ["evaluate"],
        ["evaluate", "run"],
        ["rank", "run", "--products", "data"],
        ["train", "tiny", "--data", "data", "--out", "run", "--epochs", "3"],
        ["rank", "run", "hat", "--products", "data", "--top", "0"],
        ["sample", "shop", "--products", "many"],
        ["sample", "shop", "--text", "medium"],
        ["prepare", "a", "b", "c"],
        ["prepare", "data", "--columns", "query"],
        ["prepare", "data", "--on-bad-rows", "keep"],
        ["score", "run", "pairs.csv", "out.csv", "--columns", "title:name"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(arguments, tmp_path, monkeypatch, zhichun):
    monkeypatch.chdir(tmp_path)
    done = zhichun(*arguments)
    assert done.status == 2
    assert "Usage: zhichun" in done.err
    assert "Error" in done.err
    assert "Traceback" not in done.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "nowhere", "--data", "data"], r"nowhere: there is no such folder\.\nGive a run folder made by"),
        (["evaluate", "run", "--data", "shop"], r"shop: not a dataset folder: .*\n.*zhichun prepare SOURCE DIR"),
        (["evaluate", "run", "--data", "data", "--split", "tests"], r"data: there is no split 'tests'.*\n.*'test'"),
        (["rank", "run", " ", "--products", "data"], r"the query is empty"),
        (
            ["rank", "run", "hat", "--products", "data", "--locale", "uk"],
            r"no product of the locale 'uk'.*\n.*es, jp, us",
        ),
        (["rank", "run", "hat", "--products", "prices.csv"], r"prices\.csv: no column 'product_title'"),
        (["rank", "run", "hat", "--products", "missing.csv"], r"missing\.csv: there is no such file"),
        (["rank", "run", "hat", "--products", "data", "--columns", "query=q"], r"products have no column 'query'"),
        (["score", "run", "missing.csv", "out.csv"], r"missing\.csv: there is no such file"),
        (["score", "run", "cut.parquet", "out.csv"], r"cut\.parquet: is not a complete Parquet file"),
        (["score", "run", "prices.csv", "out.csv"], r"prices\.csv: no column 'query'"),
        (["score", "run", "prices.csv", "out.xlsx"], r"out\.xlsx: is of no known kind"),
        (["score", "run", "pairs.csv", "out.run"], r"out\.run: needs a column 'query_id'"),
        (["train", "tinny", "--data", "data", "--out", "new"], r"there is no recipe 'tinny'\.\nDid you mean 'tiny'"),
        (["train", "tiny", "--data", "shop", "--out", "new"], r"shop: not a dataset folder"),
        (["train", "tiny", "--data", "data", "--out", "run"], r"run: there is a run already\.\nGo on with --resume"),
        (["train", "tiny", "--data", "data", "--out", "prices.csv"], r"prices\.csv"),
        (["train", "tiny", "--set", "train.epoch=3", "--data", "data", "--out", "new"], r"Did you mean 'train.epochs'"),
        (
            ["train", "tiny", "--set", "model.encoder=bare", "--data", "data", "--out", "new"],
            r"encoder 'bare' cannot be",
        ),
        (["recipe", "my.py:small"], r"my\.py: there is no such file"),
        (["recipe", "cut.json"], r"cut\.json: cannot be read"),
        (["prepare", "missing", "new"], r"missing"),
        (["prepare", "shop", "data"], r"data: the folder exists\.\n.*--overwrite"),
        (["prepare", "cut", "new"], r"products\.parquet: is not a complete Parquet file"),
        (["sample", "shop"], r"shop"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_used_ends_with_1_and_one_message(home, tmp_path, monkeypatch, arguments, message, fail):
    for name in ("shop", "data", "run"):
        (tmp_path / name).symlink_to(home / name)
    (tmp_path / "prices.csv").write_text("sku,price\n1,2\n")
    (tmp_path / "pairs.csv").write_text("query,product_title\nhat,red hat\n")
    (tmp_path / "cut.json").write_text('{"format": 1, ')
    shutil.copytree(home / "shop", tmp_path / "cut")
    for path in (tmp_path / "cut" / schema.OFFICIAL_PRODUCTS_FILE, tmp_path / "cut.parquet"):
        whole = (home / "shop" / schema.OFFICIAL_PRODUCTS_FILE).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    encoder_without_weights(tmp_path / "bare", home / "run" / "model")
    there = set(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    assert re.search(message, fail(*arguments))
    left = {path.name for path in set(tmp_path.iterdir()) - there} - {"new"}
    assert not left
    assert not (tmp_path / "new" / "model").exists()


def encoder_without_weights(folder, model):
    shutil.copytree(model / "encoder", folder)
    shutil.copy(model / "tokenizer.json", folder)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')


def test_a_run_that_is_not_finished_says_how_to_go_on(home, tmp_path, fail):
    run = shutil.copytree(home / "run", tmp_path / "run", ignore=shutil.ignore_patterns("model"))
    assert f"{run}: the training is not finished.\nGo on with: zhichun train … --resume" in fail(
        "evaluate", run, "--data", home / "data"
    )


def test_a_damaged_model_is_named(home, tmp_path, fail):
    run = shutil.copytree(home / "run", tmp_path / "run")
    weights = run / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "model.safetensors: is damaged" in fail("rank", run, "hat", "--products", home / "data")
    config = (run / "model" / "config.json").read_text("utf-8")
    for damaged, message in (
        ('{"format": ', r"config\.json: cannot be read"),
        (config.replace('"format": 1', '"format": 99'), r"config\.json: is of format 99, .*this version reads 1"),
        (config.replace('"country": 8', '"country": 6'), r"config\.json: is damaged"),
    ):
        shutil.copy(home / "run" / "model" / "model.safetensors", weights)
        (run / "model" / "config.json").write_text(damaged, "utf-8")
        assert re.search(message, fail("rank", run, "hat", "--products", home / "data"))
    (run / "model" / "encoder" / "config.json").unlink()
    assert "not a model folder: there is no encoder/config.json" in fail(
        "rank", run, "hat", "--products", home / "data"
    )


def test_an_interruption_ends_with_130_and_without_a_trace(monkeypatch, tmp_path, zhichun):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("zhichun.data.sample_shop.write_sample_shop", interrupt)
    done = zhichun("sample", tmp_path / "shop")
    assert done.status == 130
    assert done.err == "error: interrupted; run it again to resume (zhichun train with --resume).\n"


def test_a_folder_that_may_not_be_written_is_told(monkeypatch, home, tmp_path, fail):
    (tmp_path / "file").write_text("")
    said = fail("evaluate", home / "run", "--data", home / "data", "--out", tmp_path / "file" / "figures")
    assert "Not a directory" in said
    assert "Name a place where you may write." in said


def test_a_path_that_cannot_be_is_told(tmp_path, fail):
    (tmp_path / "round.csv").symlink_to(tmp_path / "round.csv")
    for name in ("x" * 300 + ".csv", "round.csv"):
        said = fail("prepare", tmp_path / "data", "--examples", tmp_path / name, "--products", tmp_path / name)
        assert "Check" in said
        assert "path." in said


def test_a_terminal_without_the_letters_is_no_reason_to_fail(home):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    arguments = ["rank", home / "run", "赤い 靴\udcff", "--products", home / "data", "--locale", "jp", "--top", "1"]
    with contextlib.redirect_stdout(stream), pytest.raises(SystemExit) as ending:
        main([str(argument) for argument in arguments])
    assert ending.value.code == 0
    stream.flush()
    assert b"(jp, " in stream.buffer.getvalue()


def test_a_bug_is_not_dressed_up_as_a_mistake_of_the_user(monkeypatch, tmp_path):
    def crash(*arguments, **options):
        raise RuntimeError("a bug")

    monkeypatch.setattr("zhichun.data.sample_shop.write_sample_shop", crash)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["sample", str(tmp_path / "shop")])


def test_the_installed_program_ends_with_the_same_status(tmp_path):
    program, too_few = Path(sys.executable).with_name("zhichun"), ["sample", tmp_path / "shop", "--products", "1"]
    for arguments, status in ((["--version"], 0), (too_few, 1), (["recipe"], 2)):
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == status
        assert "Traceback" not in done.stderr
        assert bool(done.stderr) == (status != 0)


# A full disk


@pytest.fixture
def full_disk(tmp_path, fail):
    """A folder on a disk of a few kilobytes, and how to call a command that writes there and fails."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)]
    if shutil.which("mount") and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        yield folder, fail
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    else:
        yield folder, limited
    shutil.rmtree(folder)


def limited(*arguments: object) -> str:
    """Call a command that may write no file of more than 16 kB."""
    code = (
        "import resource, sys\nfrom zhichun.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 10, 16 << 10))\nmain(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.findall("^error: |Traceback", done.stderr, re.MULTILINE) == ["error: "]
    return done.stderr


@pytest.mark.parametrize("command", ["sample", "prepare", "train", "evaluate", "score"])
def test_a_full_disk_is_told_and_leaves_nothing_under_a_final_name(home, full_disk, tmp_path, command, shrunk):
    folder, fail = full_disk
    pq.write_table(pq.read_table(home / "data" / schema.EXAMPLES_FILE), tmp_path / "pairs.parquet")
    arguments = {
        "sample": [folder / "shop", "--products", 300, "--queries", 60],
        "prepare": [home / "shop", folder / "data"],
        "train": ["tiny", "--data", home / "data", "--out", folder / "run", *shrunk],
        "evaluate": [home / "run", "--data", home / "data", "--split", "all", "--out", folder / "figures"],
        "score": [home / "run", tmp_path / "pairs.parquet", folder / "out.csv", "--products", home / "data"],
    }[command]
    assert re.search(r"(?i)space|disk|file too large|limit", fail(command, *arguments))
    final = {"data", "run/model", "run/report.html", "figures/scored.parquet", "out.csv"}
    final |= {f"shop/{name}" for name in (schema.OFFICIAL_EXAMPLES_FILE, schema.OFFICIAL_PRODUCTS_FILE)}
    assert not {name for name in final if (folder / name).exists()}
    assert not list(folder.rglob("*.partial-*"))
