"""Shapes of encoders that people score catalogues with, from which random weights are made: nothing is downloaded.

Legend: ``T`` tokens of a pair.
"""

from dataclasses import dataclass
from typing import Final

OUTPUTS: Final = 4
PIECES: Final = 1000  # of what is timed: looking tokens up costs the same in a table of any size
# The last layer is computed for one token alone in an export, but for its keys and values: a sixth of its products.
LAST_LAYER: Final = 1 / 6
MEASURED_LAYERS: Final = 2
WIDE: Final = 512


@dataclass(frozen=True, kw_only=True)
class Shape:
    """An encoder of BERT's kind.

    Parameters
    ----------
    name
        What it is known by.
    layers, hidden, heads, intermediate
        Of the transformer.
    pieces
        Rows of the table of tokens.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    intermediate: int
    pieces: int

    @property
    def parameters(self) -> int:
        """Weights in all, but for norms and biases."""
        layer = 4 * self.hidden**2 + 2 * self.hidden * self.intermediate
        return self.layers * layer + self.pieces * self.hidden

    @property
    def measured_layers(self) -> int:
        """Layers that are made and timed; one of a wide encoder takes long enough."""
        return min(self.layers, MEASURED_LAYERS if self.hidden <= WIDE else 1)

    def times_measured(self, *, first_token_only: bool) -> float:
        """How many times the work of the layers that are timed the whole encoder is.

        Parameters
        ----------
        first_token_only
            Whether the last layer is computed for one token, as in an export.
        """
        layers = self.layers - 1 + LAST_LAYER if first_token_only else self.layers
        return layers / self.measured_layers


SHAPES: Final = {
    shape.name: shape
    for shape in (
        Shape(name="tiny", layers=4, hidden=128, heads=4, intermediate=512, pieces=8_000),
        Shape(name="MiniLM-L6-384", layers=6, hidden=384, heads=12, intermediate=1536, pieces=30_522),
        Shape(name="XLM-R-base", layers=12, hidden=768, heads=12, intermediate=3072, pieces=250_002),
        Shape(name="XLM-R-large", layers=24, hidden=1024, heads=16, intermediate=4096, pieces=250_002),
    )
}
