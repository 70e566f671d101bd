"""The CPU and its instruction sets, read from the system; and work that keeps two devices busy at once."""

import platform
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar, cast

T = TypeVar("T")

BF16: Final = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
INT8: Final = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "i8mm", "asimddp"})
BYTES: Final = frozenset({"avx2", *INT8})
_END: Final = object()


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


def ahead(items: Iterable[T], lookahead: int) -> Generator[T, None, None]:
    """Give items in their order; one thread makes the next ones meanwhile.

    Useful if producer and consumer use different resources: a CPU that reads texts and a GPU, or
    a disk and a CPU.

    Parameters
    ----------
    items
        Made one after the other, each when the one before it is made; what making one raises is raised where it would
        have been given.
    lookahead
        How many are made ahead, and wait in memory; 0 makes each when it is asked for, without a thread.
    """
    if not lookahead:
        yield from items
        return
    source = iter(items)
    pool = ThreadPoolExecutor(1)
    try:
        waiting: deque[Future[Any]] = deque(pool.submit(next, source, _END) for _ in range(lookahead))
        while (item := waiting.popleft().result()) is not _END:
            waiting.append(pool.submit(next, source, _END))
            yield cast(T, item)
    finally:
        pool.shutdown(cancel_futures=True)
