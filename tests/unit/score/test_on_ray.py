"""What an actor of a Ray cluster does, without the cluster; `benchmarks/ray_faults.py` has one."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from zhichun.score.on_ray import _Actor, absolute


@pytest.fixture(scope="module")
def options(tiny_run, tiny_dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("in")
    pq.write_table(pq.read_table(tiny_dataset / "examples.parquet").slice(0, 400), folder / "pairs.parquet")
    return {"run": tiny_run, "pairs": folder, "catalogue": tiny_dataset, "chunk_rows": 50}


def test_an_actor_gives_a_refusal_back_as_it_is(options, tmp_path):
    actor = _Actor({**options, "out": tmp_path / "out"}, 2)
    assert actor({"id": np.asarray([1, 0])}) == {"refused": ["", ""]}
    assert (tmp_path / "out" / "_SUCCESS").is_file()
    other = _Actor({**options, "out": tmp_path / "out", "prefix": "x_"}, 2)
    (refused,) = other({"id": np.asarray([0])})["refused"]
    assert 'another job: prefix was "" and is "x_"' in refused


def test_places_are_named_as_an_actor_in_another_folder_finds_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    given = {"run": Path("run"), "pairs": "in/*.csv", "out": "out", "catalogue": None, "since": "s3://shop/before"}
    found = {"run": tmp_path / "run", "pairs": f"{tmp_path}/in/*.csv", "out": f"{tmp_path}/out"}
    assert absolute(given) == given | found
    assert absolute({"run": "me/shop", "pairs": "/in", "out": "/out"})["run"] == "me/shop"
