"""The examples do what they say, on shops and models shrunk to seconds."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from zhichun.cli import app

EXAMPLES = Path(__file__).parents[2] / "examples"
# The recipe `tiny`, shrunk as the fixture `tiny_recipe` is.
SHRUNK = (
    "model.tiny.layers=2",
    "model.tiny.hidden=32",
    "model.tiny.heads=2",
    "model.tiny.pieces=500",
    "model.tiny.matching_layers=1",
    "model.max_length=32",
    "train.epochs=1",
)


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_whole_way_from_python_ends_in_figures_and_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = load("from_python").main(tmp_path, products=300, queries=60, settings=SHRUNK)
    said = capsys.readouterr().out
    assert f"nDCG(gains='esci') @ 10: {value:.4f}, random order" in said
    assert 0 < value <= 1
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    for part in ("Training", "Figures", "Calibration", "train.epochs"):
        assert part in page


def test_two_csv_files_become_a_model_that_is_compared_with_production(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = tiny_dataset.parent / "shop"
    judged = pq.read_table(shop / "shopping_queries_dataset_examples.parquet")
    grades = pa.array([{"E": 3, "S": 2, "C": 1, "I": 0}[label] for label in judged["esci_label"].to_pylist()])
    pairs = judged.select(["query", "product_id", "product_locale"])
    pa_csv.write_csv(pairs.append_column("grade", grades), tmp_path / "judgements.csv")
    columns = {"product_id": "product_id", "product_locale": "locale", "product_title": "title"}
    products = pq.read_table(shop / "shopping_queries_dataset_products.parquet", columns=[*columns])
    pa_csv.write_csv(products.rename_columns([*columns.values()]), tmp_path / "catalogue.csv")
    run = load("own_csv").trained(tmp_path / "judgements.csv", tmp_path / "catalogue.csv", tmp_path, SHRUNK)
    assert (run / "model").is_dir()
    assert "in random order" in capsys.readouterr().out

    ranks = pa.array(range(1, len(pairs) + 1))  # production's order is that of the file
    pa_csv.write_csv(pairs.append_column("rank", ranks), tmp_path / "production.csv")
    said = load("compare_with_production").verdict(run, tmp_path / "production.csv", tmp_path / "data")
    assert "all: nDCG@10 " in said
    assert "ndcg@10>=-0.01 in all: " in said
    assert (run / "against-production" / "index.html").is_file()


@pytest.mark.parametrize("recipe", ["own_recipe.py:small", "own_recipe.py:titles_only", "own_recipe.yaml"])
def test_a_recipe_of_ones_own_is_trained_from_the_command_line(recipe: str, tiny_dataset: Path, tmp_path: Path) -> None:
    settings = [part for setting in (*SHRUNK[:5], SHRUNK[-1]) for part in ("--set", setting)]
    run = tmp_path / "run"
    name = str(EXAMPLES / recipe)
    result = CliRunner().invoke(app, ["train", name, "--data", str(tiny_dataset), "--out", str(run), *settings])
    assert result.exit_code == 0, result.output
    assert (run / "model").is_dir()
    assert "Not evaluated yet" in (run / "report.html").read_text("utf-8")


def test_a_hugging_face_trainer_trains_the_objective(tiny_dataset: Path, tmp_path: Path) -> None:
    before, after = load("with_hf_trainer").main(tiny_dataset, tmp_path, *SHRUNK)
    assert after < before - 0.05


def test_the_notebook_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    titles: list[str] = []

    def show() -> None:
        titles.append(pyplot.gca().get_title())
        pyplot.close()

    monkeypatch.setattr(pyplot, "show", show)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for cell in json.loads((EXAMPLES / "first_look.ipynb").read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
            if "parameters" in cell["metadata"].get("tags", ()):
                names |= {"PRODUCTS": 300, "QUERIES": 60, "SETTINGS": SHRUNK}
    assert titles == ["Judgements by locale", "Loss", "Pairs", "Queries by how well they are ordered", "Calibration"]
    said = capsys.readouterr().out
    assert "to a random order, 95 % from" in said
    assert said.rstrip().endswith(("Desk lamp", "shoes", "women"))
