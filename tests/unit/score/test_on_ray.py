"""What an actor of a Ray cluster does, without the cluster; `benchmarks/ray_faults.py` has one."""

import socket
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from zhichun.core.errors import UserError
from zhichun.score.on_ray import _Actor, _connect, absolute


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


@pytest.fixture
def connected(tmp_path, monkeypatch):
    """Connect as `zhichun score --ray ADDRESS` does; gives the address that Ray is asked for."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    asked = []
    errors = SimpleNamespace(AuthenticationError=PermissionError)
    ray = SimpleNamespace(init=lambda address, **_: asked.append(address), exceptions=errors)

    def connected(address):
        _connect(ray, address)
        return asked.pop()

    return connected


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_the_cluster_of_this_machine_is_the_one_on_record_if_it_answers(connected, listener, tmp_path, monkeypatch):
    assert connected("auto") == "local"
    record = tmp_path / "ray" / "ray_current_cluster"
    record.parent.mkdir()
    record.write_text(f"{listener}\n")
    assert connected("auto") == listener
    record.write_text("127.0.0.1:1")  # of a head that was killed: Ray waits for it for minutes
    assert connected("auto") == "local"
    monkeypatch.setenv("RAY_ADDRESS", listener)
    assert connected("auto") == listener


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "127.0.0.1:99999", ""])
def test_an_address_where_nobody_answers_is_refused_at_once(connected, address):
    with pytest.raises(UserError, match="no Ray cluster at"):
        connected(address)


def test_what_ray_raises_when_it_does_not_start_is_a_refusal():
    def init(**_):
        raise type("Of_Ray", (Exception,), {})("the node timed out during startup")

    ray = SimpleNamespace(init=init, exceptions=SimpleNamespace(AuthenticationError=PermissionError))
    with pytest.raises(UserError, match=r"no Ray cluster at 'local' \(the node timed out"):
        _connect(ray, "local")


def test_a_client_s_address_is_left_to_ray(connected):
    assert connected("ray://127.0.0.1:1") == "ray://127.0.0.1:1"
