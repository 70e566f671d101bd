"""The classification head (docs/method.md): dropout, linear, tanh, dropout, classes.

Legend: ``B`` pairs, ``F`` features, ``C`` outputs.
"""

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
    """

    def __init__(self, features: int, hidden: int, outputs: int, dropout: float) -> None:
        super().__init__(
            nn.Dropout(dropout),
            nn.Linear(features, hidden),
            nn.Tanh(),
            nn.Dropout(dropout),
            nn.Linear(hidden, outputs),
        )

    def forward(self, features_BF: Tensor) -> Tensor:
        """Logits in float32, ``[B, C]``."""
        logits_BC: Tensor = super().forward(features_BF)  # type: ignore[no-untyped-call]
        return logits_BC.float()
