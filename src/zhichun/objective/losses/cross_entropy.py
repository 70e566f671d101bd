"""Cross-entropy, the baseline of all other losses.

Equation   ``-Σ_c t_c log q_c``; of a hard target ``-log q_y``
Reference  standard; the paper's Table 4, first row
Our number micro-F1 0.555 on the extract of ESCI, 0.710 on the sample shop: `benchmarks/results/tables/table4-esci.md`
Cost       none beside the forward pass
Traps      logits are converted to float32 before the softmax, or half precision loses small probabilities

Legend: ``B`` examples, ``C`` classes.
"""

from dataclasses import dataclass

from torch import Tensor

from zhichun.objective.losses.classification import ClassificationLoss


@dataclass(frozen=True, kw_only=True)
class CrossEntropy(ClassificationLoss):
    """Cross-entropy for 4 or 2 classes; the options are those of `ClassificationLoss`."""

    def of_classes(self, log_q_BC: Tensor, target_BC: Tensor) -> Tensor:
        """Return ``-log q``."""
        return -log_q_BC
