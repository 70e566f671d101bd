"""The CPU and its instruction sets, read from the system."""

import platform
from functools import cache
from pathlib import Path
from typing import Final

BF16: Final = frozenset({"avx512_bf16", "amx_bf16"})
INT8: Final = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "i8mm", "asimddp"})
BYTES: Final = frozenset({"avx2", *INT8})


@cache
def known() -> dict[str, str]:
    """Read what Linux knows of the first CPU, by name in lower case; empty elsewhere."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    found: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        found.setdefault(name.strip().lower(), value.strip())
    return found


def processor_name() -> str:
    """Name the CPU as Linux knows it; elsewhere, as Python does."""
    return known().get("model name") or platform.processor() or platform.machine()


def flags() -> frozenset[str]:
    """Names of the instruction sets, as Linux writes them; empty where nothing tells them."""
    for name in ("flags", "features"):
        if name in known():
            return frozenset(known()[name].split())
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return frozenset({"asimddp"})
    return frozenset()


def has_bf16() -> bool:
    """Return whether the CPU has hardware bf16; emulated bf16 is slower than fp32."""
    return bool(BF16 & flags())


def has_int8() -> bool:
    """Return whether the CPU has int8 dot products in hardware."""
    return bool(INT8 & flags())


def multiplies_bytes() -> bool:
    """Return whether products of bytes go faster than those in fp32 at least where they are added in 16 bits (AVX2)."""
    return bool(BYTES & flags())
