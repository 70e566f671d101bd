"""Every command as a new user types it: what it prints, what it writes, how it ends."""

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
import typer

from zhichun import schema
from zhichun.cli import app, main
from zhichun.recipe import describe, load_recipe

COMMANDS = typer.main.get_command(app).commands
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
    status: object
    out: str
    err: str


def zhichun(*arguments: object) -> Done:
    """Call the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ending:
        main([str(argument) for argument in arguments])
    return Done(ending.value.code, out.getvalue(), err.getvalue())


def succeed(*arguments: object) -> str:
    done = zhichun(*arguments)
    assert done.status == 0, done.err
    return done.out


def fail(*arguments: object) -> str:
    """Give the one message of a command that says what is wrong with what it was given."""
    done = zhichun(*arguments)
    assert done.status == 1
    assert_one_message(done)
    return done.err


def assert_one_message(done: Done) -> None:
    assert re.findall("^error: |Traceback", done.err, re.MULTILINE) == ["error: "]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with all that the first three commands make: shop, data and run."""
    folder = tmp_path_factory.mktemp("home")
    said = succeed("sample", folder / "shop", "--products", 300, "--queries", 60)
    assert re.search(r"shop: \d+ pairs of 60 queries, 300 products\nlabels E \d\d\.\d% S", said)
    said = succeed("prepare", folder / "shop", folder / "data")
    assert re.search(r"data: (\d+) of \1 pairs, 60 queries, 300 products\n  split: .*\n  locale: .*\n  label: E", said)
    said = succeed("train", "tiny", "--data", folder / "data", "--out", folder / "run", *SHRUNK)
    assert said == f"{folder}/run: trained. Next: zhichun evaluate {folder}/run --data {folder}/data\n"
    return folder


# What each command is for


def test_evaluate_prints_a_table_and_writes_the_figures(home):
    features = set((home / "data" / "features").iterdir())
    said = succeed("evaluate", home / "run", "--data", home / "data")
    assert set((home / "data" / "features").iterdir()) == features, "training and evaluation read the same features"
    measured = json.loads((home / "run" / "metrics.json").read_text("utf-8"))
    wanted = {"micro_f1", "macro_f1", "f1.E", "f1.S", "f1.C", "f1.I", "ndcg", "by_locale", "confusion", "substitute"}
    assert wanted | {"always_exact", "random_order", "ndcg.official-script", "mrr", "gains", "split"} <= set(measured)
    assert set(measured["by_locale"]) == set(schema.LOCALES)
    for name in ("micro_f1", "ndcg"):
        row = [measured[name], *(measured["by_locale"][locale][name] for locale in sorted(schema.LOCALES))]
        assert re.search(rf"{name} +│ " + " │ +".join(f"{figure:.4f}" for figure in row), said)
    assert "judged ↓ predicted →" in said
    assert said.endswith(f"{home}/run/metrics.json\n")
    scored = pq.read_table(home / "run" / "scored.parquet")
    assert scored.num_rows == measured["pairs"]


def test_evaluate_of_another_split_into_another_folder(home, tmp_path):
    succeed("evaluate", home / "run", "--data", home / "data", "--split", "all", "--out", tmp_path / "all")
    measured = json.loads((tmp_path / "all" / "metrics.json").read_text("utf-8"))
    assert measured["pairs"] == pq.read_metadata(home / "data" / schema.EXAMPLES_FILE).num_rows
    assert measured["split"] == "all"


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_score_gives_the_same_rows_back(home, tmp_path, kind):
    pairs = pq.read_table(home / "data" / schema.EXAMPLES_FILE).select(["query", "product_id", "product_locale"])
    pq.write_table(pairs, tmp_path / "pairs.parquet")
    out = tmp_path / f"out.{kind}"
    said = succeed("score", home / "run", tmp_path / "pairs.parquet", out, "--products", home / "data")
    assert said == f"{out}: {pairs.num_rows} pairs scored\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["pairs.parquet", out.name])
    again = tmp_path / "again.parquet"
    succeed("score", home / "run", out, again, "--prefix", "again_", "--products", home / "shop")
    scored = pq.read_table(again)
    for name in pairs.column_names:
        assert scored[name].to_pylist() == pairs[name].to_pylist()
    for name in ("p_E", "p_S", "p_C", "p_I", "gain"):
        both = [np.asarray(scored[column].to_pylist(), np.float64) for column in (name, f"again_{name}")]
        assert np.abs(both[0] - both[1]).max() < 1e-5
    assert scored["label"].to_pylist() == scored["again_label"].to_pylist()


def test_score_does_not_replace_a_file_that_is_there(home, tmp_path):
    (tmp_path / "pairs.csv").write_text("query,title\nred shoes,Red running shoes\n")
    (tmp_path / "out.csv").write_text("mine")
    arguments = ["score", home / "run", tmp_path / "pairs.csv", tmp_path / "out.csv"]
    assert "out.csv: the file is there already.\nChoose another name, or give --overwrite." in fail(*arguments)
    assert (tmp_path / "out.csv").read_text() == "mine"
    succeed(*arguments, "--overwrite")
    assert (tmp_path / "out.csv").read_text().startswith('"query","title","p_E"')


@pytest.mark.parametrize(
    ("query", "locale"),
    [("red running shoes", "us"), ("zapatillas rojas de mujer", "es"), ("赤い 靴 レディース", "jp")],
)
def test_rank_shows_the_best_products_of_a_locale(home, query, locale):
    said = succeed("rank", home / "run", query, "--products", home / "data", "--locale", locale, "--top", 3)
    assert said.startswith(f"{query} ({locale}, ")
    rows = re.findall(
        r"│ +(\d) │ (.+?) │ ([ESCI]) +│ (0\.\d\d) │ (0\.\d\d) │ (0\.\d\d) │ (0\.\d\d) │ (0\.\d{4}) │", said
    )
    assert [row[0] for row in rows] == ["1", "2", "3"]
    scores = [float(row[-1]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert all(sum(map(float, row[3:7])) == pytest.approx(1, abs=0.03) for row in rows)


def test_rank_of_a_table_of_ones_own(home, tmp_path):
    table = tmp_path / "shop.csv"
    table.write_text('sku,name\n1,"[red] shoes [/b]"\n2,blue hat\n')
    columns = "product_id=sku,title=name"
    said = succeed("rank", home / "run", "red [shoes]", "--products", table, "--columns", columns, "--locale", "fr")
    assert "red [shoes] (fr, 2 products)" in said
    assert "[red] shoes [/b]" in said
    assert "blue hat" in said


def test_recipe_shows_every_setting_with_its_value_and_meaning():
    said = succeed("recipe", "kdd2022:task1", "--set", "train.epochs=7", "--set", "model.brand=null")
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in said.splitlines() if line[0] == "│"]
    value = {setting: value for setting, value, _ in rows if setting}
    assert (value["train.epochs"], value["model.brand"], value["objective.loss"]) == ("7", "null", "SquaredError")
    assert value["model.encoder"] == '"microsoft/infoxlm-large"'
    assert set(value) == {setting for setting, _, _ in describe(load_recipe("tiny"))}
    assert all(meaning for setting, _, meaning in rows if setting)


@pytest.mark.parametrize(
    ("recipe", "settings", "headings", "columns"),
    [
        ("kdd2022:task3", [], "label │ other │", ["p_other", "p_S", "label"]),
        ("kdd2022:task1", ["--set=train.metric=ndcg"], "product", ["gain"]),
    ],
)
def test_the_other_two_tasks_go_the_same_way(home, tmp_path, recipe, settings, headings, columns):
    run = tmp_path / "run"
    small = ["--set=model.encoder=tiny", *SHRUNK, "--set=train.learning_rate=1e-3", *settings]
    succeed("train", recipe, "--data", home / "data", "--out", run, *small)
    said = succeed("evaluate", run, "--data", home / "data")
    assert ("ndcg" in said) == (columns == ["gain"])
    assert ("always" in said) == ("judged ↓ predicted →" in said) == (columns != ["gain"])
    (tmp_path / "pairs.csv").write_text("query,title\nred shoes,Red running shoes\n")
    succeed("score", run, tmp_path / "pairs.csv", tmp_path / "out.parquet")
    assert pq.read_schema(tmp_path / "out.parquet").names == ["query", "title", *columns]
    assert re.search(r"│ +1 │ .*\d\.\d{4} │", succeed("rank", run, "red shoes", "--products", home / "data"))


def test_demo_goes_the_whole_way_and_uses_what_is_there(tmp_path, tiny_recipe, monkeypatch):
    monkeypatch.setattr("zhichun.demo.PRODUCTS", 300)
    monkeypatch.setattr("zhichun.demo.QUERIES", 60)
    monkeypatch.setattr("zhichun.demo.load_recipe", lambda name: tiny_recipe)
    said = succeed("demo", tmp_path / "demo")
    assert re.search(r"micro-F1 0\.\d+ \(always Exact: 0\.\d+\), nDCG 0\.\d+ \(random order: 0\.\d+\)", said)
    assert [said.count(f" ({locale})") for locale in schema.LOCALES] == [1, 1, 1]
    named = re.findall(rf"^  ({tmp_path}/\S+)  ", said, re.MULTILINE)
    assert len(named) == 6
    assert all(Path(path).exists() for path in named)
    weights = (tmp_path / "demo" / "run" / "model" / "model.safetensors").stat().st_mtime_ns
    succeed("demo", tmp_path / "demo")
    assert (tmp_path / "demo" / "run" / "model" / "model.safetensors").stat().st_mtime_ns == weights


# One's own data


@pytest.fixture
def own(tmp_path):
    """A catalogue and three kinds of judgements of it, as they come out of other systems."""
    (tmp_path / "catalogue.csv").write_text("sku,name,maker\n1,Red shoe,Nike\n2,Blue hat,\n3,Shoe laces,\n")
    (tmp_path / "own.csv").write_text("search_term,sku,grade\nred shoe,1,3\nred shoe,2,0\nred shoe,3,1\nhat,2,3\n")
    (tmp_path / "quepid.csv").write_text("query,docid,rating\nred shoe,1,3\nred shoe,2,0\nred shoe,3,1\nhat,2,3\n")
    (tmp_path / "judged.qrels").write_text("7 0 1 3\n7 0 2 0\n7 0 3 1\n8 0 2 3\n")
    (tmp_path / "topics.tsv").write_text("7\tred shoe\n8\that\n")
    return tmp_path


@pytest.mark.parametrize(
    ("judgements", "more"),
    [
        ("own.csv", ["--columns", "query=search_term,product_id=sku,label=grade,title=name,brand=maker"]),
        ("quepid.csv", ["--columns", "products.product_id=sku,title=name,brand=maker"]),
        ("judged.qrels", ["--topics", "topics.tsv", "--columns", "products.product_id=sku,title=name,brand=maker"]),
    ],
)
def test_prepare_reads_tables_of_ones_own(own, monkeypatch, judgements, more):
    monkeypatch.chdir(own)
    tables = ["--examples", judgements, "--products", "catalogue.csv"]
    said = succeed("prepare", "data", *tables, *more, "--labels", "3=E,2=S,1=C,0=I", "--locale", "de")
    assert said.startswith("data: 4 of 4 pairs, 2 queries, 3 products\n")
    assert "  locale: de 4\n  label: E 2, S 0, C 1, I 1\n" in said
    found = pq.read_table("data/examples.parquet").to_pylist()
    assert sorted((row["query"], row["product_id"], row["esci_label"]) for row in found) == [
        ("hat", "2", "E"),
        ("red shoe", "1", "E"),
        ("red shoe", "2", "I"),
        ("red shoe", "3", "C"),
    ]
    brands = pq.read_table("data/products.parquet").select(["product_title", "product_brand"]).to_pylist()
    assert brands[0] == {"product_title": "Red shoe", "product_brand": "Nike"}


def test_prepare_names_bad_rows_and_drops_them_when_told_to(own, monkeypatch):
    monkeypatch.chdir(own)
    with Path("quepid.csv").open("a") as file:
        file.write("hat,9,3\n")
    prepare = ["prepare", "data", "--examples", "quepid.csv", "--products", "catalogue.csv"]
    prepare += ["--columns", "products.product_id=sku,title=name", "--labels", "3=E,1=C,0=I"]
    assert "quepid.csv, row 5: no such product" in fail(*prepare)
    assert not Path("data").exists()
    said = succeed(*prepare, "--on-bad-rows", "drop")
    assert "data: 4 of 5 pairs" in said
    assert "dropped examples: 1 × no such product (see rejected.parquet)" in said


# Help, and how commands end


def test_help_lists_every_command():
    done = zhichun("--help")
    assert done.status == 0
    assert set(re.findall(r"│ (\w+)  +[A-Z]", done.out)) == set(COMMANDS)
    module = subprocess.run([sys.executable, "-m", "zhichun", "--help"], capture_output=True, text=True, check=True)
    assert module.stdout == done.out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_explains_each_of_its_options(command):
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
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(arguments, tmp_path, monkeypatch):
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
        (["rank", "run", "hat", "--products", "prices.csv"], r"prices\.csv: no column 'product_id'"),
        (["rank", "run", "hat", "--products", "missing.csv"], r"missing\.csv: there is no such file"),
        (["rank", "run", "hat", "--products", "data", "--columns", "query=q"], r"products have no column 'query'"),
        (["score", "run", "missing.csv", "out.csv"], r"missing\.csv: there is no such file"),
        (["score", "run", "cut.parquet", "out.csv"], r"cut\.parquet: cannot be read as Parquet"),
        (["score", "run", "prices.csv", "out.csv"], r"prices\.csv: has no column 'query'"),
        (["score", "run", "prices.csv", "out.xlsx"], r"out\.xlsx: is of no known kind"),
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
        (["recipe", "cut.json"], r"cut\.json: cannot be read as a recipe"),
        (["prepare", "missing", "new"], r"missing"),
        (["prepare", "shop", "data"], r"data: the folder exists\n.*--overwrite"),
        (["prepare", "cut", "new"], r"products\.parquet: is not a whole Parquet file"),
        (["sample", "shop"], r"shop"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_used_ends_with_1_and_one_message(home, tmp_path, monkeypatch, arguments, message):
    for name in ("shop", "data", "run"):
        (tmp_path / name).symlink_to(home / name)
    (tmp_path / "prices.csv").write_text("sku,price\n1,2\n")
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


def test_a_run_that_is_not_finished_says_how_to_go_on(home, tmp_path):
    run = shutil.copytree(home / "run", tmp_path / "run", ignore=shutil.ignore_patterns("model"))
    assert f"{run}: the training is not finished.\nGo on with: zhichun train … --resume" in fail(
        "evaluate", run, "--data", home / "data"
    )


def test_a_damaged_model_is_named(home, tmp_path):
    run = shutil.copytree(home / "run", tmp_path / "run")
    weights = run / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "model.safetensors: the weights cannot be read" in fail("rank", run, "hat", "--products", home / "data")
    config = (run / "model" / "config.json").read_text("utf-8")
    for damaged, message in (
        ('{"format": ', r"config\.json: cannot be read"),
        (config.replace('"format": 1', '"format": 99'), r"config\.json: is of model format 99; this version reads 1"),
        (config.replace('"country": 8', '"country": 6'), r"model\.safetensors: the weights are of another model"),
    ):
        shutil.copy(home / "run" / "model" / "model.safetensors", weights)
        (run / "model" / "config.json").write_text(damaged, "utf-8")
        assert re.search(message, fail("rank", run, "hat", "--products", home / "data"))
    (run / "model" / "encoder" / "config.json").unlink()
    assert "not a model folder: there is no encoder/config.json" in fail(
        "rank", run, "hat", "--products", home / "data"
    )


def test_an_interruption_ends_with_130_and_without_a_trace(monkeypatch, tmp_path):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("zhichun.data.sample_shop.write_sample_shop", interrupt)
    done = zhichun("sample", tmp_path / "shop")
    assert done.status == 130
    assert done.err == "error: interrupted; call it again to go on (zhichun train with --resume).\n"


def test_a_folder_that_may_not_be_written_is_told(monkeypatch, home, tmp_path):
    (tmp_path / "file").write_text("")
    said = fail("evaluate", home / "run", "--data", home / "data", "--out", tmp_path / "file" / "figures")
    assert "Not a directory" in said
    assert "Name another place, one where you may write." in said


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
    program = Path(sys.executable).with_name("zhichun")
    for arguments, status in ((["recipe", "tiny"], 0), (["recipe", "tinny"], 1), (["recipe"], 2)):
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == status
        assert "Traceback" not in done.stderr
        assert bool(done.stderr) == (status != 0)


# A full disk

Runner = Callable[..., tuple[object, str]]


@pytest.fixture
def full_disk(tmp_path):
    """A folder on a disk of a few kilobytes, and how to call a command that writes there."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)]
    if shutil.which("mount") and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        yield folder, zhichun
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    else:
        yield folder, limited
    shutil.rmtree(folder)


def limited(*arguments: object) -> Done:
    """Call a command that may write no file of more than 16 kB."""
    code = (
        "import resource, sys\nfrom zhichun.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 10, 16 << 10))\nmain(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("command", ["sample", "prepare", "train", "evaluate", "score"])
def test_a_full_disk_is_told_and_leaves_nothing_under_a_final_name(home, full_disk, tmp_path, command):
    folder, call = full_disk
    pq.write_table(pq.read_table(home / "data" / schema.EXAMPLES_FILE), tmp_path / "pairs.parquet")
    arguments = {
        "sample": [folder / "shop", "--products", 300, "--queries", 60],
        "prepare": [home / "shop", folder / "data"],
        "train": ["tiny", "--data", home / "data", "--out", folder / "run", *SHRUNK],
        "evaluate": [home / "run", "--data", home / "data", "--split", "all", "--out", folder / "figures"],
        "score": [home / "run", tmp_path / "pairs.parquet", folder / "out.csv", "--products", home / "data"],
    }[command]
    done = call(command, *arguments)
    assert done.status == 1, done.err
    assert_one_message(done)
    assert re.search(r"(?i)space|disk|file too large|limit", done.err)
    final = {"data", "run/model", "run/report.html", "figures/scored.parquet", "out.csv"}
    final |= {f"shop/{name}" for name in (schema.OFFICIAL_EXAMPLES_FILE, schema.OFFICIAL_PRODUCTS_FILE)}
    assert not {name for name in final if (folder / name).exists()}
    assert not list(folder.rglob("partial-*"))
