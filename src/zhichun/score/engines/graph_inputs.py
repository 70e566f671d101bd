"""From a batch of `Pairs.collate` to the inputs of an exported graph."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from zhichun.score.engines.beside import Beside
from zhichun.text.pairs import Arrays

BESIDE: Final = "beside"


@dataclass(frozen=True)
class GraphInputs:
    """Picks what a graph reads.

    Parameters
    ----------
    names
        The graph's inputs.
    beside
        What is looked up outside of it.
    """

    names: tuple[str, ...]
    beside: Beside

    def of(self, batch: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Give the inputs of one batch, by name."""
        inputs: dict[str, npt.NDArray[Any]] = {name: batch[name] for name in self.names if name != BESIDE}
        if BESIDE in self.names:
            inputs[BESIDE] = np.ascontiguousarray(self.beside.vectors(batch), np.float32)
        return inputs
