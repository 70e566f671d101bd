"""What the processor has units for, read off the system; nothing is measured."""

import platform
from functools import cache
from pathlib import Path
from typing import Final

BF16: Final = frozenset({"avx512_bf16", "amx_bf16"})
INT8: Final = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "i8mm", "asimddp"})


@cache
def flags() -> frozenset[str]:
    """Names of the instruction sets, as Linux writes them; empty where nothing tells them."""
    known = Path("/proc/cpuinfo")
    if known.is_file():
        for line in known.read_text("utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip().lower() in ("flags", "features"):
                return frozenset(value.split())
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return frozenset({"asimddp"})
    return frozenset()


def has_bf16() -> bool:
    """Tell whether matrices in bf16 are multiplied by units for it; emulated, they are slower than in fp32."""
    return bool(BF16 & flags())


def has_int8() -> bool:
    """Tell whether there are units for sums of int8 products."""
    return bool(INT8 & flags())
