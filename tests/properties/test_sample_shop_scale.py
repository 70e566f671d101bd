"""Four times the sample shop needs hardly more memory."""

import subprocess
import sys
from pathlib import Path

import pytest

MEASURE = """
import sys
from pathlib import Path
from zhichun.data.sample_shop import write_sample_shop

for number, products in enumerate((60_000, 240_000)):
    folder = Path(sys.argv[1]) / str(number)
    write_sample_shop(folder, products=products, queries=products // 14, candidates=20, text="esci")
    # Not getrusage: what it gives begins with the memory of the process that forked this one.
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    print(int(status["VmHWM"].split()[0]) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux")
def test_memory_is_bounded(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True)
    small, large = (int(line) for line in run.stdout.split())
    # The texts of the additional products alone are above 200 MiB.
    assert large - small < 150
    assert large < 600
