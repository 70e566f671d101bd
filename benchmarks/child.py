"""A measurement in a Python process of its own, so that its memory is its own. Not a script."""

import os
import resource
import subprocess
import sys
from typing import Final

# Ends a child's program. What the system tells of a child that ended counts the parent's memory, from before it began.
_PEAK: Final = """
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def run_child(program: str, *arguments: object) -> tuple[list[str], int, resource.struct_rusage]:
    """Run a program to its end; gives the lines that it printed, its highest memory in KiB, and what else it used.

    Raises
    ------
    SystemExit
        When it fails.
    """
    command = [sys.executable, "-c", program + _PEAK, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    *said, peak_kib = process.stdout.read().splitlines() or [""]
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the measured process ended with status {os.waitstatus_to_exitcode(status)}")
    return said, int(peak_kib), usage
