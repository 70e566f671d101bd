"""A job on a Ray cluster, which is this machine here: the parts of the plain command."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytest.importorskip("ray")


def score(*arguments: str | Path, status: int = 0) -> str:
    command = [sys.executable, "-m", "zhichun", "score", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=240)
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout


def test_ray_makes_the_parts_of_the_plain_command(tiny_run, tiny_dataset, tmp_path):
    pairs = tmp_path / "in" / "pairs.parquet"
    pairs.parent.mkdir()
    table = pq.read_table(tiny_dataset / "examples.parquet")
    pq.write_table(table, pairs)
    options = ("--products", tiny_dataset, "--part-rows", "200")
    score(tiny_run, pairs.parent, tmp_path / "plain", *options)
    said = score(tiny_run, pairs.parent, tmp_path / "ray", *options, "--ray", "auto")
    assert said == f"{tmp_path / 'ray'}: complete, {table.num_rows:,} pairs scored\n"
    parts = {path.name: path.read_bytes() for path in (tmp_path / "plain").glob("part-*")}
    assert {path.name: path.read_bytes() for path in (tmp_path / "ray").glob("part-*")} == parts
    assert len(parts) > 3
    refused = score(tiny_run, pairs.parent, tmp_path / "ray", *options, "--ray", "auto", "--prefix", "x_", status=1)
    assert "error: " in refused
    assert 'prefix was "" and is "x_"' in refused
    assert "Traceback" not in refused
