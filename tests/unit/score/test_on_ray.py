"""What an actor of a Ray cluster does, without the cluster; `benchmarks/ray_faults.py` has one."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from zhichun.score.on_ray import _Actor


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
