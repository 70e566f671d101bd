"""What unit tests share: a scorer without a network, a changed catalogue, runs of five folds that nobody trained."""

import hashlib
import itertools
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

# The tests beside it import `scoring_stub`.
sys.path.insert(0, str(Path(__file__).parent))

from scoring_stub import Stub

from zhichun.core import schema
from zhichun.data.dataset import Dataset
from zhichun.data.prepare.clean_catalogue import read_catalogue

TRUSTED, DOUBTED = (0.7, 0.1), (0.05, 0.85)


@pytest.fixture
def scorer() -> Stub:
    """One that remembers how many pairs it was called with."""
    return Stub()


@pytest.fixture(scope="session")
def products(tiny_dataset) -> pa.Table:
    """The catalogue of the tiny dataset."""
    return read_catalogue(tiny_dataset)


@pytest.fixture
def audited_data(tiny_dataset, tmp_path) -> Dataset:
    """A dataset folder of one's own, to be damaged."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("manifest.json", "examples.parquet", "products.parquet"):
        shutil.copy(tiny_dataset / name, folder)
    return Dataset.open(folder)


@pytest.fixture
def fold_runs(audited_data, tmp_path) -> Path:
    """Five finished runs that agree with every label but those of every ninth pair, which they hold for the next."""
    for fold in range(5):
        write_run(tmp_path / "runs" / f"fold-{fold}", audited_data, fold)
    return tmp_path / "runs"


@pytest.fixture
def nested_runs(audited_data, fold_runs) -> Path:
    """The same folder with a run for each two folds."""
    for folds in itertools.combinations(range(5), 2):
        write_run(fold_runs / f"nested-{folds[0]}-{folds[1]}", audited_data, list(folds))
    return fold_runs


def write_run(run: Path, dataset: Dataset, fold: int | list[int]) -> None:
    (run / "model").mkdir(parents=True)
    recipe = {
        "task": "esci",
        "model": {"encoder": "tiny"},
        "train": {"validation_fold": fold, "keep": "last", "soft_labels": None},
    }
    manifest = hashlib.sha256((dataset.folder / "manifest.json").read_bytes()).hexdigest()
    environment = {"dataset": {"folder": "data", "manifest": manifest}}
    (run / "recipe.json").write_text(json.dumps(recipe))
    (run / "environment.json").write_text(json.dumps(environment))
    (run / "model" / "weights").write_text(run.name)
    (run / "model" / "config.json").write_text('{"task": "esci"}')
    is_training = (dataset.column("split") == "train") & (dataset.column("origin") == "judged")
    rows = np.flatnonzero(is_training & dataset.held_out(fold))[::-1]  # a run may order its pairs as it likes
    probabilities = np.array([_probabilities(dataset.labels[row], row % 9 == 0) for row in rows], np.float32)
    table = dataset.examples.take(pa.array(rows))
    for name, values in zip("ESCI", probabilities.T, strict=True):
        table = table.append_column(f"p_{name}", pa.array(values))
    pq.write_table(table, run / "predictions.parquet")


def _probabilities(label: int, doubted: bool) -> np.ndarray:
    own, other = DOUBTED if doubted else TRUSTED
    rest = (1 - own - other) / 2
    return np.roll([own, other, rest, rest], label)


@pytest.fixture(scope="session")
def changed():
    """Give a catalogue with the titles of some rows changed."""

    def change(products, rows):
        titles = products.column(schema.TITLE).to_pylist()
        for row in rows:
            titles[row] = f"{titles[row]} anew"
        place = products.schema.get_field_index(schema.TITLE)
        field = products.schema.field(place)
        return products.set_column(place, field, pa.array(titles, field.type))

    return change
