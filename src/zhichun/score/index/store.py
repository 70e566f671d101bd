"""A folder of products' states, found by a hash of the products' texts.

``manifest.json`` says which model made it and how states are kept, ``products.parquet`` is the catalogue. The states
lie in ``shard-00000`` and so on, each complete or not there: ``states.npy``, which is memory-mapped, ``scales.npy``,
``means.npy`` (mean state of each product), ``side.npy`` (side features) and ``kept.parquet``, hash and tokens of each
product. What is not found in an index is computed from its texts. States of products that are removed are overwritten
by zeros, the first one first, so that whoever has mapped them can tell: an index that is being changed never gives a
wrong score.

Legend: ``R`` products of a shard, ``N`` their tokens, ``S`` size of a state, ``F`` of the side features; ``P`` products
that are looked for, ``B`` of a block, ``T`` tokens of the longest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from zhichun.core import schema
from zhichun.core.arrays import Int64
from zhichun.core.errors import UserError, readable
from zhichun.core.files import new_file, read_json
from zhichun.core.settings import read_settings
from zhichun.core.tasks import CALIBRATION_FILE, Floats
from zhichun.score.folders import fingerprint
from zhichun.text.features import HASH_BYTES, Texts, hash_texts

Precision = Literal["fp32", "fp16", "int8"]
FORMAT: Final = 3
KIND: Final = "index"
SHARDS: Final = "shard-*"
REMEDY: Final = "Make it again with: zhichun index"
DTYPES: Final = {"fp32": np.float32, "fp16": np.float16, "int8": np.int8}
KEPT: Final = "kept.parquet"


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """What ``manifest.json`` says: whose states they are, how they are kept, and their size."""

    model: str
    precision: Precision
    size: int

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one state."""
        return self.size * np.dtype(DTYPES[self.precision]).itemsize + 4 * (self.precision == "int8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read it from an index."""
        if not is_begun(folder):
            remedy = "Make one with: zhichun index RUN --products DATA --out INDEX"
            raise UserError("is no index of products.", file=folder, remedy=remedy)
        return read_settings(cls, folder / schema.MANIFEST_FILE, format=FORMAT, remedy=REMEDY)

    @classmethod
    def of_finished(cls, folder: Path) -> Self:
        """Read it from an index, and refuse one that is not finished."""
        if is_begun(folder) and not is_index(folder):
            raise UserError("the index is not finished.", file=folder, remedy="Call zhichun index again: it goes on.")
        return cls.load(folder)

    def open_states(self, folder: Path, model: str, run: Path) -> "States":
        """Open the index's states, and refuse those of another model than the one that lies in a folder."""
        if self.model != model:
            remedy = f"Make one with: zhichun index {run}"
            raise UserError(f"the index is not of the model {run}.", file=folder, remedy=remedy)
        return States.open(folder)


def is_begun(folder: Path) -> bool:
    """Tell a folder of `zhichun index` from others, whether it is finished or not."""
    manifest = folder / schema.MANIFEST_FILE
    return manifest.is_file() and read_json(manifest).get("kind") == KIND


def is_index(folder: Path) -> bool:
    """Tell a folder whose states can be read."""
    return folder.is_dir() and ((folder / schema.PRODUCTS_FILE).is_file() and any(folder.glob(f"{SHARDS}/{KEPT}")))


def whose_states(model: Path) -> str:
    """Hash a model folder but for its temperature, which divides logits and changes no state."""
    return fingerprint(model, but=CALIBRATION_FILE)


def content_hashes(columns: Mapping[str, Texts]) -> npt.NDArray[np.uint64]:
    """Hash the texts of each product, ``[P, 2]``; a missing text is an empty one, and no hash is zero."""
    given = (columns[name] for name in schema.TEXT_COLUMNS)
    hashed = b"".join(map(hash_texts, zip(*given, strict=True)))
    return np.frombuffer(hashed, np.uint64).reshape(-1, 2).copy()


def places_of(wanted_P2: npt.NDArray[np.uint64], sorted_R2: npt.NDArray[np.uint64]) -> Int64:
    """Find hashes among others, sorted by their first half: the place of each, ``[P]``, -1 where there is none."""
    if not len(sorted_R2):
        return np.full(len(wanted_P2), -1)
    place_P = np.searchsorted(sorted_R2[:, 0], wanted_P2[:, 0]).clip(max=len(sorted_R2) - 1)
    return np.where((sorted_R2[place_P] == wanted_P2).all(axis=1), place_P, -1)


class Encoded(NamedTuple):
    """States as they are kept, ``[N, S]``, and what each is to be multiplied by, ``[N]``."""

    states_NS: npt.NDArray[Any]
    scales_N: Floats | None

    @classmethod
    def of(cls, states_NS: Floats, precision: Precision) -> Self:
        """Round states; as whole numbers each by a scale of its own."""
        if precision != "int8":
            return cls(states_NS.astype(DTYPES[precision]), None)
        scales_N: Floats = np.maximum(np.abs(states_NS).max(axis=1), np.float32(1e-12)) / np.float32(127)
        return cls(np.rint(states_NS / scales_N[:, None]).astype(np.int8), scales_N)

    @property
    def decoded(self) -> Floats:
        """What they stand for, a copy."""
        states_NS: Floats = self.states_NS.astype(np.float32)
        return states_NS if self.scales_N is None else states_NS * self.scales_N[:, None]


class Block(NamedTuple):
    """States of some products, padded to the longest, ``[B, T, S]``, with scales ``[B, T]`` and tokens ``[B]``."""

    states_BTS: npt.NDArray[Any]
    scales_BT: Floats | None
    lengths_B: Int64

    @classmethod
    def of(cls, states: Sequence[npt.NDArray[Any]], scales: Sequence[Floats] | None = None) -> Self:
        """Copy those of each product side by side."""
        lengths_B = np.asarray(list(map(len, states)), np.int64)
        return cls(_padded(states), None if scales is None else _padded(scales), lengths_B)


def _padded(parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    made = np.zeros((len(parts), max(map(len, parts)), *parts[0].shape[1:]), parts[0].dtype)
    for place, part in enumerate(parts):
        made[place, : len(part)] = part
    return made


@dataclass(frozen=True)
class Shard:
    """States of some products, in memory or mapped into it.

    Parameters
    ----------
    encoded
        Their states, one product after the other.
    means_RS
        The mean of each product's states, in float32 and before they were rounded.
    side_RF
        Their side features.
    hashes_R2
        Hashes of their texts; zeros where a product was removed.
    lengths_R
        Tokens of each.
    """

    encoded: Encoded
    means_RS: Floats
    side_RF: Floats
    hashes_R2: npt.NDArray[np.uint64]
    lengths_R: Int64

    @cached_property
    def starts_R(self) -> Int64:
        """Where the states of each product begin."""
        return np.cumsum(self.lengths_R) - self.lengths_R

    def encoded_of(self, row: int) -> Encoded:
        """Return the states of one product, ``[T, S]``, which are not copied."""
        own = slice(self.starts_R[row], self.starts_R[row] + self.lengths_R[row])
        scales_N = self.encoded.scales_N
        return Encoded(self.encoded.states_NS[own], None if scales_N is None else scales_N[own])

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map a shard that `save` wrote.

        Raises
        ------
        UserError
            When something in it is missing or damaged.
        """
        scales, remedy = folder / "scales.npy", f"Delete it. {REMEDY}"
        with readable(folder, remedy, EOFError, KeyError):
            # Copy on write: torch warns of what it may not write to.
            states_NS, means_RS = (
                np.asarray(np.load(folder / f"{name}.npy", mmap_mode="c")) for name in ("states", "means")
            )
            kept = pq.read_table(folder / KEPT)
            encoded = Encoded(states_NS, np.load(scales) if scales.is_file() else None)
            hashes_R2 = np.frombuffer(b"".join(kept.column("hash").to_pylist()), np.uint64).reshape(-1, 2).copy()
            shard = cls(encoded, means_RS, np.load(folder / "side.npy"), hashes_R2, kept.column("tokens").to_numpy())
        if len(states_NS) != shard.lengths_R.sum() or not len(shard.side_RF) == len(means_RS) == len(hashes_R2):
            raise UserError("its parts are not of the same products.", file=folder, remedy=remedy)
        return shard

    def save(self, folder: Path) -> None:
        """Write into an empty folder."""
        for name, array in (
            ("states", self.encoded.states_NS),
            ("scales", self.encoded.scales_N),
            ("means", self.means_RS),
            ("side", self.side_RF),
        ):
            if array is not None:
                np.save(folder / f"{name}.npy", array, allow_pickle=False)
        self._save_kept(folder)

    def _save_kept(self, folder: Path) -> None:
        hashes = pa.array([row.tobytes() for row in self.hashes_R2], pa.binary(HASH_BYTES))
        with new_file(folder / KEPT) as partial:
            pq.write_table(pa.table({"hash": hashes, "tokens": pa.array(self.lengths_R, pa.int64())}), partial)

    def remove(self, rows: Int64, folder: Path) -> None:
        """Forget some products: nobody finds them any more, then their states become zeros, the first one first."""
        self.hashes_R2[rows] = 0
        self._save_kept(folder)
        for name, first_R, last_R in (
            ("states", self.starts_R, self.starts_R + self.lengths_R),
            ("means", np.arange(len(self.lengths_R)), np.arange(len(self.lengths_R)) + 1),
        ):
            array = np.load(folder / f"{name}.npy", mmap_mode="r+")
            array[first_R[rows]] = 0
            for row in rows.tolist():
                array[first_R[row] : last_R[row]] = 0
            array.flush()


class States:
    """All states of an index, by the hash of a product's texts.

    Parameters
    ----------
    shards
        Where they are.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = tuple(shards)
        counts = [len(shard.lengths_R) for shard in shards]
        hashes_R2 = np.concatenate([np.zeros((0, 2), np.uint64), *(shard.hashes_R2 for shard in shards)])
        order_R = np.argsort(hashes_R2[:, 0], kind="stable")
        self._hashes_R2 = hashes_R2[order_R]
        # The place -1, of what is not found, is behind all.
        self._shard_R = np.append(np.repeat(np.arange(len(counts)), counts)[order_R], -1)
        self._row_R = np.append(np.concatenate([np.zeros(0, np.int64), *map(np.arange, counts)])[order_R], 0)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the shards of an index."""
        return cls([Shard.open(path) for path in shard_folders(folder)])

    def find(self, hashes_P2: npt.NDArray[np.uint64]) -> tuple[Int64, Int64]:
        """Find products: the shard of each, ``[P]``, -1 where there is none, and its row there."""
        place_P = places_of(hashes_P2, self._hashes_R2)
        return self._shard_R[place_P], self._row_R[place_P]


def shard_folders(folder: Path) -> list[Path]:
    """List the shards of an index, in the order in which they were made."""
    return [path for path in sorted(folder.glob(SHARDS)) if (path / KEPT).is_file() and "." not in path.name]


def block_of(shards: Sequence[Shard], shard_B: Int64, row_B: Int64) -> tuple[Block, Int64]:
    """Copy the states of some products side by side; gives also the places of those that were removed meanwhile."""
    found = [shards[number].encoded_of(row) for number, row in zip(shard_B.tolist(), row_B.tolist(), strict=True)]
    scales = [scales_T for _, scales_T in found if scales_T is not None]
    block = Block.of([states_TS for states_TS, _ in found], scales or None)
    # Looked at after the copy. No state is all zeros: the last norm of a layer makes none.
    gone = [place for place, (states_TS, _) in enumerate(found) if not states_TS[0].any()]
    return block, np.asarray(gone, np.int64)
