"""The classification head (docs/method.md): dropout, linear, tanh, dropout, classes.

It is computed in float32 whatever the encoder is: in bf16, which keeps 8 bits, two thirds of the logits of a test set
tie with others.

Legend: ``B`` pairs, ``F`` features, ``C`` outputs, ``K`` dropout samples.
"""

import torch
from torch import Tensor, nn


class Head(nn.Sequential):
    """An MLP on the concatenated features.

    Parameters
    ----------
    features
        Size of the input, ``F``.
    hidden
        Size of the layer between; the encoder's, as in the paper.
    outputs
        Classes, or 1 for a regressor.
    dropout
        Dropout before each linear layer.
    samples
        In training, passes with masks of their own, ``K``: multi-sample dropout (Inoue, 2019). A pair's loss is the
        mean over its samples, as there, not the loss of their mean: through the last layer that would be one mask with
        less noise. ``None`` is one pass.
    """

    def __init__(self, features: int, hidden: int, outputs: int, dropout: float, samples: int | None = None) -> None:
        super().__init__(
            nn.Dropout(dropout),
            nn.Linear(features, hidden),
            nn.Tanh(),
            nn.Dropout(dropout),
            nn.Linear(hidden, outputs),
        )
        self.samples = samples

    def forward(self, features_BF: Tensor) -> Tensor:
        """Logits in float32, ``[B, C]``; in training with several samples ``[K, B, C]``."""
        with torch.autocast(features_BF.device.type, enabled=False):
            features_BF = features_BF.float()
            if self.samples is not None and self.training:
                return torch.stack([self._once(features_BF) for _ in range(self.samples)])
            return self._once(features_BF)

    def _once(self, features_BF: Tensor) -> Tensor:
        logits_BC: Tensor = super().forward(features_BF)  # type: ignore[no-untyped-call]
        return logits_BC
