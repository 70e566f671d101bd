"""A configuration that was changed in any way changes nothing or is refused with its file; it never ends in a trace."""

import json
import random
import shutil

import numpy as np
import pytest

from zhichun.core.errors import UserError
from zhichun.core.files import HASHES_FILE
from zhichun.data.dataset import Dataset
from zhichun.fit.recipe import load_recipe
from zhichun.measure.run_page import write_report
from zhichun.score.export.export_run import recorded_data
from zhichun.score.make_ensemble import make_ensemble
from zhichun.score.scorer import load_scorer

PRODUCTS = ["Red running shoe", "Desk lamp, 40 W"]
VALUES = [None, True, -1, 1.5, 10**40, float("nan"), float("inf"), "", "x", [], {}, [1, "a"], {"a": {"b": []}}]


def scores(folder):
    return load_scorer(folder).score("shoe", PRODUCTS).score


def places_of(value, above=()):
    """Give the place of every value, as the keys that lead to it."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*above, key)
        yield from places_of(item, (*above, key))


def changed(value, place, change):
    value = json.loads(json.dumps(value))
    inner = value
    for key in place[:-1]:
        inner = inner[key]
    if change == "delete":
        del inner[place[-1]]
    else:
        inner[place[-1]] = change
    return value


def damaged(path, times):
    """Give texts of a JSON file that was damaged, one kind after the other."""
    text = path.read_text("utf-8")
    value, chance = json.loads(text), random.Random(0)
    yield from (text[: len(text) // 2], "", "{", "[]", "null", "3", "[" * 100_000, '{"format": 1}', "\0" * 10)
    places = list(places_of(value))
    for place in chance.sample(places, min(times, len(places))):
        for change in ("delete", chance.choice(VALUES), chance.choice(VALUES)):
            yield json.dumps(changed(value, place, change))


def outcome(use, folder):
    try:
        return use(folder)
    except UserError as error:
        return error


def unharmed(folder, name, use, times=4, same=True):
    """Damage a file in many ways; each time the answer is the same, or a `UserError` names a file of the folder.

    Without hashes a valid value may be another one, which nobody can tell.
    """
    path, expected = folder / name, use(folder)
    whole = path.read_bytes()
    for text in damaged(path, times):
        path.write_text(text, "utf-8")
        found = outcome(use, folder)
        if isinstance(found, UserError):
            assert str(folder) in str(found), text[:200]
        elif same:
            assert np.array_equal(found, expected), text[:200]
    path.write_bytes(whole)


@pytest.fixture
def run(tiny_run, tmp_path):
    return shutil.copytree(tiny_run, tmp_path / "run")


@pytest.mark.parametrize("hashed", [True, False], ids=["with hashes", "without"])
@pytest.mark.parametrize("name", ["config.json", "encoder/config.json", "tokenizer.json"])
def test_a_model_folder(run, name, hashed):
    if not hashed:
        (run / "model" / HASHES_FILE).unlink()
    unharmed(run / "model", name, scores, same=hashed)


def test_the_hashes_themselves(run):
    unharmed(run / "model", HASHES_FILE, scores)


@pytest.mark.parametrize("hashed", [True, False], ids=["with hashes", "without"])
def test_an_export(tiny_export, tmp_path, hashed):
    folder = shutil.copytree(tiny_export, tmp_path / "export")
    if not hashed:
        (folder / HASHES_FILE).unlink()
    unharmed(folder, "config.json", scores, times=8, same=hashed)


def test_an_ensemble(run, tmp_path):
    make_ensemble([run], tmp_path / "ensemble", copy=True)
    unharmed(tmp_path / "ensemble", "ensemble.json", scores)


def test_a_recipe_and_an_environment(run):
    unharmed(run, "recipe.json", lambda folder: len(str(load_recipe(str(folder / "recipe.json")).task)) and 1)
    unharmed(run, "environment.json", lambda folder: recorded_data(folder).name == "data")


def test_a_report_of_damaged_records(run):
    for name in ("recipe.json", "environment.json"):
        unharmed(run, name, lambda folder: write_report(folder).is_file())


def test_a_dataset(tiny_dataset, tmp_path):
    folder = shutil.copytree(tiny_dataset, tmp_path / "data")
    unharmed(folder, "manifest.json", lambda folder: len(Dataset.open(folder).examples))


@pytest.mark.parametrize(
    "name", ["model.safetensors", "tokenizer.json", "vocabulary/brands.parquet", "encoder/config.json"]
)
def test_a_flipped_byte_of_a_model_is_refused(run, name):
    flip(run / "model" / name)
    with pytest.raises(UserError, match=rf"{name}: is damaged: it is not as it was written\.\nCopy the folder again"):
        load_scorer(run)


@pytest.mark.parametrize("name", ["onnx/model.onnx", "tables/trigrams.npy", "vocabulary/brands.parquet"])
def test_a_flipped_byte_of_an_export_is_refused(tiny_export, tmp_path, name):
    folder = shutil.copytree(tiny_export, tmp_path / "export")
    flip(folder / name)
    with pytest.raises(UserError, match=rf"{name}: is damaged: it is not as it was written\.\nCopy the folder again"):
        load_scorer(folder)


def test_a_flipped_byte_of_a_member_is_refused(run, tmp_path):
    make_ensemble([run], tmp_path / "ensemble", copy=True)
    flip(next((tmp_path / "ensemble").rglob("model.safetensors")))
    with pytest.raises(UserError, match="has changed since"):
        load_scorer(tmp_path / "ensemble")


def flip(path):
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
