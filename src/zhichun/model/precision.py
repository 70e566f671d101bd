"""Where bf16 is faster than fp32: on GPUs and processors that have units for it."""

from collections.abc import Callable
from typing import Any

import torch


def has_bf16(device: torch.device) -> bool:
    """Tell whether a device multiplies bf16 matrices in hardware; emulated, it is slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities: Callable[[], dict[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)  # not in torch 2.11
        found = capabilities()
        return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False
