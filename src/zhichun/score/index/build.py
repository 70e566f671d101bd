"""Makes an index of a catalogue, or brings one up to date: only what is new is computed.

Legend: ``R`` products.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from zhichun.core import schema
from zhichun.core.arrays import Int64
from zhichun.core.console import Bar
from zhichun.core.errors import UserError
from zhichun.core.files import LOCK_FILE, in_use, new_file, new_folder, read_json
from zhichun.core.settings import write_settings
from zhichun.data.dataset.dataset import of_catalogue
from zhichun.score.engines.engine import AUTO
from zhichun.score.index.network import SplitNetwork, load_network
from zhichun.score.index.store import (
    FORMAT,
    KEPT,
    KIND,
    SHARDS,
    IndexConfig,
    Precision,
    Shard,
    States,
    check_precision,
    content_hashes,
    places_of,
    shard_folders,
)

SHARD_PRODUCTS: Final = 2048
# A shard of which as much was removed is computed again without it.
MOST_REMOVED: Final = 0.25
# Products that are computed first, to say how long it will take; of few products a share.
TIMED: Final = 64
SHARE_TIMED: Final = 1 / 32


@dataclass(frozen=True)
class Changes:
    """What was done: products of the catalogue, how many of them were computed, states that were removed."""

    products: int
    computed: int
    removed: int


def build_index(
    run: Path,
    products: pa.Table,
    out: Path,
    *,
    precision: Precision = "fp16",
    device: str | None = None,
    engine: str = AUTO,
    say: Callable[[str], None] = lambda line: None,
    shown: bool = False,
) -> Changes:
    """Make an index of a catalogue, or bring one up to date; after a kill the same call goes on.

    Parameters
    ----------
    run
        Run folder of a model with ``model.interaction=Split``, or an export of one.
    products
        The catalogue, as `read_catalogue` gives it.
    out
        Folder to make, or an index of the same model.
    precision
        How states are kept: ``fp32``, ``fp16`` or ``int8``.
    device, engine
        As for `Scorer.load`; of a run always torch in fp32.
    say
        Called with a line on size and time before it starts.
    shown
        Whether to show progress.

    Raises
    ------
    UserError
        For a model that does not read query and product apart, and for an index of another one or other precision.
    """
    check_precision(precision)
    network = load_network(run, device, engine)
    config = IndexConfig(model=network.states, precision=precision, size=network.size)
    with in_use(out):
        _claim(out, config)
        return _Build(network, config, out, say, Bar("index", "products", shown=shown)).update(products)


def _claim(out: Path, config: IndexConfig) -> None:
    """Write whose index it is, or refuse one of another model."""
    manifest = out / schema.MANIFEST_FILE
    ours = read_json(manifest).get("kind") == KIND if manifest.is_file() else {*out.iterdir()} <= {out / LOCK_FILE}
    if not ours:
        raise UserError("the folder holds something else.", file=out, remedy="Name another folder.")
    if not manifest.is_file():
        write_settings(config, manifest, format=FORMAT, kind=KIND)
    elif (found := IndexConfig.load(out)) != config:
        other = "another model" if found.model != config.model else f"the precision {found.precision}"
        raise UserError(f"is an index of {other}.", file=out, remedy="Name another folder, or delete this one.")


@dataclass(frozen=True)
class _Build:
    network: SplitNetwork
    config: IndexConfig
    out: Path
    say: Callable[[str], None]
    bar: Bar

    def update(self, products: pa.Table) -> Changes:
        products = of_catalogue(products)
        starts = range(0, products.num_rows, SHARD_PRODUCTS)
        parts = [content_hashes(_texts(products.slice(start, SHARD_PRODUCTS))) for start in starts]
        hashes_R2 = np.concatenate([np.zeros((0, 2), np.uint64), *parts])
        _, first_R = np.unique(hashes_R2, axis=0, return_index=True)
        wanted_R = np.sort(first_R)
        removed = self._remove_others(hashes_R2[wanted_R])
        missing_R = wanted_R[States.open(self.out).find(hashes_R2[wanted_R])[0] < 0]
        if len(missing_R):
            self._announce(products, missing_R, len(wanted_R))
        with self.bar:
            self.bar.start(len(wanted_R) - len(missing_R), len(wanted_R))
            for start in range(0, len(missing_R), SHARD_PRODUCTS):
                rows = missing_R[start : start + SHARD_PRODUCTS]
                shard = self._computed(products, rows, lambda done: self.bar.advance(done, steps=done))
                with new_folder(self._next_folder()) as partial:
                    shard.save(partial)
        with new_file(self.out / schema.PRODUCTS_FILE) as partial:
            pq.write_table(products, partial)
        return Changes(products.num_rows, len(missing_R), removed)

    def _remove_others(self, wanted_W2: npt.NDArray[np.uint64]) -> int:
        """Remove the states of what is not in the catalogue; a shard that has lost much goes as a whole."""
        known_W2, removed, whole = wanted_W2[np.argsort(wanted_W2[:, 0])], 0, shard_folders(self.out)
        for folder in {*self.out.glob(SHARDS)} - {*whole}:
            shutil.rmtree(folder)
        for folder in whole:
            shard = Shard.open(folder)
            dead_R = places_of(shard.hashes_R2, known_W2) < 0
            gone_R = dead_R & shard.hashes_R2.any(axis=1)
            removed += int(gone_R.sum())
            if dead_R.mean() > MOST_REMOVED:
                (folder / KEPT).unlink()  # first, so that a kill leaves no part of a shard
                shutil.rmtree(folder)
            elif dead_R.any():  # those of an earlier call too: it may have been killed
                shard.remove(np.flatnonzero(dead_R), folder)
        return removed

    def _computed(self, products: pa.Table, rows: Int64, progress: Callable[[int], None] | None = None) -> Shard:
        columns = _texts(products.take(pa.array(rows)))
        features = self.network.featurizer.products(columns, self.network.max_length)
        return self.network.shard(features, content_hashes(columns), self.config.precision, progress)

    def _next_folder(self) -> Path:
        numbers = [int(path.name.rpartition("-")[2]) for path in shard_folders(self.out)]
        return self.out / f"shard-{max(numbers, default=-1) + 1:05d}"

    def _announce(self, products: pa.Table, missing_R: Int64, wanted: int) -> None:
        """Say how large the states will be, and how long they take by some that are tried."""
        few = min(TIMED, 1 + int(SHARE_TIMED * len(missing_R)))
        tried = missing_R[:: -(-len(missing_R) // few)]
        began = time.monotonic()
        shard = self._computed(products, tried)
        seconds = (time.monotonic() - began) / len(tried) * len(missing_R)
        size = shard.lengths_R.mean() * self.config.bytes_per_token
        self.say(
            f"{len(missing_R):,} of {wanted:,} products are to be computed: {size * len(missing_R) / 1e9:.2f} GB more, "
            f"{size / 1e3:.0f} kB a product in {self.config.precision}; about {seconds / 60:.0f} minutes."
        )


def _texts(products: pa.Table) -> dict[str, list[str | None]]:
    return {name: products.column(name).to_pylist() for name in schema.TEXT_COLUMNS}
