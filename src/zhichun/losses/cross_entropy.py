"""Cross-entropy, the loss that all others are measured against.

Equation   ``-log p_y``
Reference  standard; the paper's Table 4, first row
Our number see `benchmarks/results/` (the plain fine-tuning of `quality_esci`)
Cost       none beside the forward pass
Traps      logits go to float32 before the softmax, or half precision loses the small probabilities

Legend: ``B`` examples, ``C`` classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """Cross-entropy for 4 or 2 classes."""

    def __call__(self, logits_BC: Tensor, targets_B: Tensor) -> Tensor:
        """Loss of each example, ``[B]``; targets are class indices (int64)."""
        return functional.cross_entropy(logits_BC.float(), targets_B.to(torch.int64), reduction="none")
