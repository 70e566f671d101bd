"""A dozen kills at random moments; `python benchmarks/kills.py` does 200, also of pre-training and export."""

import json
import subprocess
import sys
from pathlib import Path

KILLS = Path(__file__).parents[2] / "benchmarks" / "kills.py"


def test_a_dozen_kills_leave_every_byte_as_it_is_without_them(tmp_path):
    out = tmp_path / "kills.json"
    options = ["--kills", "12", "--only", "prepare", "train", "score", "--out", str(out)]
    done = subprocess.run([sys.executable, str(KILLS), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text("utf-8"))
    assert sum(found["kills"].values()) == 12
    assert found["faults"] == []
