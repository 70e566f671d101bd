"""Side features, looked up with NumPy: embeddings of country, brand and color, pooled trigrams.

They are constants of a query or a product, so an exported graph takes them as one input instead of carrying the tables:
a bag of any length becomes one vector, and nothing is padded.

Legend: ``B`` pairs, ``N`` trigrams of a batch, ``V`` rows of a table, ``G`` size of a trigram's vector, ``S`` size of
all parts together.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from zhichun.core.arrays import Int64
from zhichun.core.errors import UserError
from zhichun.core.tasks import Floats
from zhichun.text.pairs import Arrays

TABLES: Final = "tables"
TRIGRAMS: Final = "trigrams"
SIDE: Final = "side_features"  # the graph's input
# In the order in which `model.relevance_model` puts its parts side by side.
IDS: Final = ("country", "brand", "color")
BAGS: Final = ("query_trigrams", "product_trigrams", "description_trigrams")


class SideFeatures:
    """The tables of a model's side features.

    Parameters
    ----------
    tables
        Rows and sizes, by part (`IDS` and ``trigrams``); a part that the model does not have is missing.
    """

    def __init__(self, tables: dict[str, Floats]) -> None:
        assert set(tables) <= {*IDS, TRIGRAMS}
        self.tables = tables

    @classmethod
    def load(cls, folder: Path, parts: Iterable[str]) -> "SideFeatures":
        """Map the tables of an export folder into memory.

        Raises
        ------
        UserError
            When one is missing or damaged.
        """
        tables = {}
        for part in parts:
            path = folder / TABLES / f"{part}.npy"
            try:
                tables[part] = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as error:
                raise UserError(
                    f"cannot be read ({error}).", file=path, remedy="Make the folder again with: zhichun export RUN"
                ) from error
        return cls(tables)

    def save(self, folder: Path) -> None:
        """Write one NumPy file for each part."""
        (folder / TABLES).mkdir()
        for part, table_VG in self.tables.items():
            np.save(folder / TABLES / f"{part}.npy", table_VG, allow_pickle=False)

    @property
    def sizes(self) -> dict[str, int]:
        """Size of each part in the pair's vector, in their order."""
        ids = {part: self.tables[part].shape[1] for part in IDS if part in self.tables}
        bags = {TRIGRAMS: len(BAGS) * self.tables[TRIGRAMS].shape[1]} if TRIGRAMS in self.tables else {}
        return ids | bags

    def vectors(self, batch: Arrays) -> Floats:
        """Look up and pool those of each pair, ``[B, S]``."""
        parts = [self.tables[part][batch[part]] for part in IDS if part in self.tables]
        if TRIGRAMS in self.tables:
            parts += [_mean(self.tables[TRIGRAMS], batch[name], batch[f"{name}_offsets"]) for name in BAGS]
        vectors_BS: Floats = np.concatenate(parts, axis=1)
        return vectors_BS


@dataclass(frozen=True)
class GraphInputs:
    """From a batch of `Pairs.collate` to the inputs of an exported graph.

    Parameters
    ----------
    names
        The graph's inputs.
    side
        The side features.
    """

    names: tuple[str, ...]
    side: SideFeatures

    def of(self, batch: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Return the inputs of one batch, by name."""
        inputs: dict[str, npt.NDArray[Any]] = {name: batch[name] for name in self.names if name != SIDE}
        if SIDE in self.names:
            inputs[SIDE] = np.ascontiguousarray(self.side.vectors(batch), np.float32)
        return inputs


def _mean(table_VG: Floats, ids_N: Int64, offsets_B1: Int64) -> Floats:
    """Average the rows of each bag, ``[B, G]``; an empty bag is zeros. Padding, id 0, is in no bag."""
    counts_B = np.diff(offsets_B1)
    mean_BG: Floats = np.zeros((len(counts_B), table_VG.shape[1]), np.float32)
    filled_B = counts_B > 0
    if filled_B.any():
        # Empty bags begin where the next one does, so between the starts of the filled ones lie whole bags.
        total = np.add.reduceat(table_VG[ids_N], offsets_B1[:-1][filled_B], axis=0)
        mean_BG[filled_B] = total / counts_B[filled_B, None]
    return mean_BG
