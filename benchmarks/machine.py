"""What a benchmark ran on, and when."""

import datetime
import importlib.metadata
import os
import platform
from typing import Any

import torch

from zhichun.scoring.processor import processor_name


def machine() -> dict[str, Any]:
    """Name processor, cores, threads, memory and GPU."""
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


def versions(*libraries: str) -> dict[str, str]:
    """Give the versions of installed libraries."""
    return {name: importlib.metadata.version(name) for name in libraries}
