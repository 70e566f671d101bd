"""Embedding mixup: interpolates two pairs of the batch, in the [CLS] vector and in the label.

Equation   ``h = λ h_i + (1 - λ) h_j``, ``y = λ y_i + (1 - λ) y_j``, λ ~ Beta(a, a) for each pair, ``j`` drawn from the
           batch; the loss of (h, y) is averaged with that of the plain pass
Reference  Zhang et al., 2018, *mixup: Beyond Empirical Risk Minimization*; on hidden vectors, Sun et al., 2020,
           *Mixup-Transformer*; the paper, with a = 0.2
Our number no gain measured: micro-F1 -0.000 (95 % -0.002 to +0.000) on the extract of ESCI, +0.005 on the sample
           shop; `benchmarks/results/tables/table5-esci.md`
Cost       a pass through the head alone
Traps      partners come from the same micro-batch, so a step's gradient depends on its micro-batches,
           and a pair alone is its own partner. A regressor has no labels to mix: it is refused

Differences: the paper does not say whether λ is drawn for each pair or each batch. With ``mixed="cls"`` trigrams and
ids stay those of the first pair.

Legend: ``B`` pairs, ``F`` features, ``C`` classes.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from zhichun.core.settings import require_range
from zhichun.objective.losses import target_probabilities
from zhichun.objective.views import FirstView


@dataclass(frozen=True, kw_only=True)
class Mixup:
    """Mixup of features and labels.

    Parameters
    ----------
    alpha
        Both parameters of the Beta distribution; small ones keep λ near 0 or 1.
    mixed
        `cls`, only the encoder's vector, as in the paper; or `features`, the head's whole input.
    """

    alpha: float = 0.2
    mixed: Literal["cls", "features"] = "cls"

    def __post_init__(self) -> None:
        require_range(self, "alpha", above=0, remedy="Switch it off with objective.mixup=null.")

    def loss(self, first: FirstView) -> Tensor:
        """Return the mixed pairs' share of the step's mean, from the features of the plain pass."""
        features_BF, weight_B = first.features_BF, first.batch["weight"]
        count, device = len(features_BF), features_BF.device
        # Drawn on the CPU, so that every device mixes the same; the loop has seeded it for this micro-batch.
        share_B = torch.distributions.Beta(self.alpha, self.alpha).sample((count,)).to(device)
        partner_B = torch.randperm(count).to(device)
        target_BC = target_probabilities(first.target, first.model.outputs)

        def mix(values: Tensor) -> Tensor:
            share = share_B.view(-1, *[1] * (values.ndim - 1))
            return share * values + (1 - share) * values[partner_B]

        size = first.model.encoder.hidden if self.mixed == "cls" else features_BF.shape[1]
        mixed_BF = torch.cat([mix(features_BF[:, :size]), features_BF[:, size:]], dim=1)
        return first.mean(first.loss(first.model.head(mixed_BF), mix(target_BC)), mix(weight_B))
