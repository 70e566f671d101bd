"""Models and datasets on the hub, by huggingface_hub against a stand-in of its API."""

import json
import os
import shutil
import subprocess
import sys
from threading import Timer

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_stand_in import TOKEN, Repository, hub_stand_in

from forks import free_port
from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.measure.evaluate import evaluate
from zhichun.score.hub import files_to_push, model_card
from zhichun.score.scorer import Scorer

pytest.importorskip("huggingface_hub")
SECONDS = 120
PAIRS = "query,title\nred shoes,Red running shoes\n"
# Commands, a line each, with the folder and the token that they are given in; says how each ended, and what it printed.
COMMANDS = """
import contextlib, io, json, os, sys
from zhichun.cli import main
for line in sys.stdin:
    folder, os.environ["HF_TOKEN"], arguments = json.loads(line)
    os.chdir(folder)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main(arguments)
        except SystemExit as ending:
            status = ending.code
    print(json.dumps([status, said.getvalue()]), flush=True)
"""


@pytest.fixture(scope="module")
def measured(tiny_run, tiny_dataset, tmp_path_factory):
    """A copy of the finished run with its figures."""
    run = shutil.copytree(tiny_run, tmp_path_factory.mktemp("measured") / "run")
    evaluate(run, tiny_dataset, shown=False)
    return run


@pytest.fixture(scope="module")
def command_line(tmp_path_factory):
    """The command line in a process of its own: huggingface_hub reads at its import where the hub is."""
    home = str(tmp_path_factory.mktemp("home"))
    with hub_stand_in(free_port()) as hub:  # all others of this file have its address
        environment = {**os.environ, **hub.environment(home), "HOME": home}
    command = [sys.executable, "-c", COMMANDS]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        yield hub.port, process
        process.stdin.close()


@pytest.fixture
def hub(command_line):
    with hub_stand_in(command_line[0]) as running:
        yield running


@pytest.fixture
def zhichun(command_line, tmp_path):
    """Call the command line in the folder of the test."""

    def call(*arguments, token=TOKEN, status=0):
        process = command_line[1]
        process.stdin.write(json.dumps([str(tmp_path), token, [*map(str, arguments)]]) + "\n")
        process.stdin.flush()
        late = Timer(SECONDS, process.kill)  # and then the line is empty
        late.start()
        ended, said = json.loads(process.stdout.readline())
        late.cancel()
        assert ended == status, said
        return said

    return call


def test_a_run_goes_to_the_hub_and_is_used_by_its_name(hub, zhichun, measured, tmp_path):
    assert "there is no model card" in zhichun("push", measured, "me/shop", status=1)
    zhichun("card", measured, "--licence", "apache-2.0", "--dataset", "our judgements")
    shown = zhichun("push", measured, "me/shop")
    assert "Nothing was uploaded" in shown
    assert "model/model.safetensors" in shown
    for name in ("shop", "me/our shop", "me/shop@v1", ""):
        assert "no name on the hub" in zhichun("push", measured, name, status=2)
    assert hub.asked == []
    zhichun("push", measured, "me/shop", "--yes")
    repository = hub.repositories["models/me/shop"]
    assert repository.private
    assert {"README.md", "recipe.json", "metrics.json", "model/config.json"} <= set(repository.files)
    texts = {"predictions.parquet", "report.html", "environment.json", "scored.parquet"}
    assert not texts & set(repository.files)
    pushed = dict(repository.files)
    repository.files |= {"model/calibration.json": b"of the model before", "notes.md": b"mine"}
    zhichun("push", measured, "me/shop", "--yes")
    assert repository.files == pushed | {"notes.md": b"mine"}

    (tmp_path / "pairs.csv").write_text(PAIRS)
    zhichun("score", "me/shop", "pairs.csv", "out.parquet")
    expected = Scorer.load(measured, device="cpu").score("red shoes", ["Red running shoes"])
    assert pq.read_table(tmp_path / "out.parquet")["gain"].to_pylist() == pytest.approx(
        expected.score.tolist(), abs=1e-6
    )
    zhichun("push", measured, "me/open", "--public", "--yes")
    assert not hub.repositories["models/me/open"].private
    assert "is public" in zhichun("push", measured, "me/open", "--yes", status=1)


def test_what_the_hub_has_not_or_refuses_is_said_with_a_remedy(hub, zhichun, measured, tmp_path):
    (tmp_path / "pairs.csv").write_text(PAIRS)
    message = zhichun("score", "me/nothing", "pairs.csv", "out.csv", status=1)
    assert "could not be had from the hub" in message
    assert "HF_TOKEN" in message
    (tmp_path / "runs").mkdir()
    before = len(hub.asked)
    assert "no such folder" in zhichun("score", "runs/mine", "pairs.csv", "out.csv", status=1)
    assert len(hub.asked) == before  # a path below a folder that is here is no name
    zhichun("card", measured)
    assert "could not be uploaded" in zhichun("push", measured, "me/shop", "--yes", token="wrong", status=1)
    assert hub.repositories == {}
    hub.close()
    assert "could not be uploaded" in zhichun("push", measured, "me/shop", "--yes", status=1)


def test_a_card_has_the_figures_the_data_and_the_limits(measured, tiny_run):
    yaml = pytest.importorskip("yaml")
    card = model_card(measured, licence="apache-2.0", dataset="owner/esci")
    _, front, text = card.split("---\n", 2)
    about, found = yaml.safe_load(front), json.loads((measured / "metrics.json").read_text("utf-8"))
    (result,) = about["model-index"][0]["results"]
    figures = {each["type"]: each["value"] for each in result["metrics"]}
    assert figures["ndcg"] == pytest.approx(found["ndcg"], abs=1e-6)
    assert figures["micro_f1"] == pytest.approx(found["micro_f1"], abs=1e-6)
    assert about["license"] == "apache-2.0"
    assert about["datasets"] == ["owner/esci"]
    assert "base_model" not in about  # `tiny` is none
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1
    assert f"| nDCG | {found['ndcg']:.4f} |" in text
    assert {"## Use", "## Data and method", "## Figures", "## Limits", "## Licence"} <= set(text.splitlines())
    odd = {"licence": "a: b # c", "dataset": 'shop: "1"'}
    about = yaml.safe_load(model_card(measured, **odd).split("---\n")[1])
    assert [about["license"], about["model-index"][0]["results"][0]["dataset"]["name"]] == [*odd.values()]
    with pytest.raises(UserError, match=r"no metrics\.json(.|\n)*zhichun evaluate"):
        model_card(tiny_run)
    for use in (model_card, files_to_push):
        with pytest.raises(UserError, match=r"no finished run(.|\n)*zhichun train"):
            use(tiny_run / "model")


def test_a_copy_of_esci_is_prepared_from_the_hub(hub, zhichun, tmp_path):
    """As copies are: a row a pair with the product's texts, labels in full, a file for each split."""
    rows = [
        {
            "example_id": number,
            "query": f"query {number // 4}",
            "query_id": number // 4,
            "product_id": f"B{number % 7}",
            "product_locale": "us" if number % 2 else "es",
            "esci_label": ("Exact", "Substitute", "Complement", "Irrelevant")[number % 4],
            "small_version": 1,
            "large_version": 1,
            "product_title": f"Product {number % 7}",
            "product_description": None,
            "product_text": "all of it",
        }
        for number in range(80)
    ]
    files = {}
    for name, part in (("train-00000-of-00001", rows[:60]), ("test-00000-of-00001", rows[60:])):
        pq.write_table(pa.Table.from_pylist(part), tmp_path / "part.parquet")
        files[f"data/{name}.parquet"] = (tmp_path / "part.parquet").read_bytes()
    hub.repositories["datasets/owner/esci"] = Repository(private=False, files={**files, "README.md": b"# ESCI"})
    zhichun("prepare", "hf:owner/esci", "data")
    examples = pq.read_table(tmp_path / "data" / "examples.parquet").sort_by(schema.EXAMPLE_ID)
    assert examples[schema.LABEL].to_pylist() == [row["esci_label"][0] for row in rows]
    assert examples[schema.SPLIT].to_pylist() == ["train"] * 60 + ["test"] * 20
    assert pq.read_metadata(tmp_path / "data" / "products.parquet").num_rows == 14
    asked = len([call for call in hub.asked if "/resolve/" in call])
    zhichun("prepare", "hf:owner/esci", "again")
    assert len([call for call in hub.asked if "/resolve/" in call]) == asked  # both caches are used
    hub.repositories["datasets/owner/text"] = Repository(private=False, files={"README.md": b"# none"})
    assert "has no Parquet files" in zhichun("prepare", "hf:owner/text", "none", status=1)
