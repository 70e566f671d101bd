"""What a benchmark ran on, and when."""

import datetime
import importlib.metadata
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any, Final

import torch

from zhichun.core.device import processor_name

PLACES: Final = ("--work", "--out")


def machine() -> dict[str, Any]:
    """Name CPU, cores, threads, memory and GPU."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(memory / 2**30),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def circumstances(*libraries: str) -> dict[str, Any]:
    """Give what every result is kept with: the date (UTC), the machine, and the versions of libraries."""
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"date": date, "machine": machine(), "versions": versions(*libraries)}


def command_as_given(script: str) -> str:
    """Write the command that this process was called by, without this machine's folders."""
    given, kept = iter(sys.argv[1:]), []
    for argument in given:
        name, joined, _ = argument.partition("=")
        if name in (*PLACES, "--data") and not joined:
            next(given, None)
        if name == "--data":
            kept += ["--data", "DATA_FOLDER"]
        elif name not in PLACES:
            kept.append(_without_place(argument))
    return f"python benchmarks/{script} {shlex.join(kept)}".rstrip()


def _without_place(argument: str) -> str:
    """Write ``bert=/some/folder`` as ``bert=FOLDER``, and an absolute path of a file as its name."""
    before, joined, value = argument.rpartition("=")
    if not Path(value).is_absolute():
        return argument
    return f"{before}{joined}{'FOLDER' if Path(value).is_dir() else Path(value).name.upper()}"


def versions(*libraries: str) -> dict[str, str]:
    """Give the versions of installed libraries."""
    return {name: importlib.metadata.version(name) for name in libraries}
