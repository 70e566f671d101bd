"""Makes an index of a catalogue, or brings one up to date: only what is new is computed, by one process or by many.

Until that is done, ``plan.json`` says of which catalogue, and which blocks of states (``shard-00000`` and so on) stay:
all that share the work, and who goes on after a kill, make the same new blocks under the same names. When all are
there, states of what was removed go. Whoever plans, puts a block in its place or ends holds the manifest meanwhile.

Legend: ``R`` products, ``W`` those of different texts.
"""

import hashlib
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from zhichun.core import schema
from zhichun.core.arrays import Int64
from zhichun.core.console import Bar
from zhichun.core.errors import UserError, suggest
from zhichun.core.files import LOCK_FILE, clear_left_over, in_use, new_file, new_folder, read_json, turn, write_json
from zhichun.core.settings import write_settings
from zhichun.core.storage import PARTIAL
from zhichun.data.dataset import of_catalogue
from zhichun.score import parts
from zhichun.score.engine import AUTO
from zhichun.score.folders import is_stack
from zhichun.score.index import store
from zhichun.score.index.network import SplitNetwork, load_network
from zhichun.score.index.store import IndexConfig, Shard, States
from zhichun.score.index.vectors import VectorMaker
from zhichun.text.pairs import Columns

PLAN: Final = "plan.json"
SHARD_PRODUCTS: Final = 2048
# A block of which as much was removed is computed again without it.
MOST_REMOVED: Final = 0.25
# Products that are computed first, to say how long it will take; of few products a share.
TIMED: Final = 64
SHARE_TIMED: Final = 1 / 32


Hashes = npt.NDArray[np.uint64]


class Changes(NamedTuple):
    """Products of the catalogue, how many of them were computed, states removed, blocks that others have to make."""

    products: int
    computed: int
    removed: int
    missing: int


def build_index(
    run: Path,
    products: pa.Table,
    out: Path,
    *,
    precision: store.Precision = "fp16",
    device: str | None = None,
    engine: str = AUTO,
    shard: parts.Shard | None = parts.ALL,
    say: Callable[[str], None] = lambda line: None,
    shown: bool = False,
) -> Changes:
    """Make an index of a catalogue, or bring one up to date; after a kill the same call goes on.

    Parameters
    ----------
    run
        Run folder of a model with ``model.interaction=Split``, an export of one, or a stack with a similarity.
    products
        The catalogue, as `read_catalogue` gives it.
    out
        Folder to make, or an index of the same model.
    precision
        How states are kept: ``fp32``, ``fp16`` or ``int8``.
    device, engine
        As for `Scorer.load`; of a run always torch in fp32.
    shard
        What this process computes beside others; ``None`` is nothing: it only ends what all others have done.
    say
        Called with a line on size and time before it starts.
    shown
        Whether to show progress.

    Raises
    ------
    UserError
        For a model that does not read query and product apart, and a stack without a similarity; for an index of
        another one or other precision, or one that others bring up to date with another catalogue; and when what is
        to be ended is not done.
    """
    if precision not in store.DTYPES:
        raise UserError(f"there is no precision {precision!r}.", remedy=suggest(precision, store.DTYPES))
    if not (shop := of_catalogue(products)).num_rows:
        raise UserError("there is no product to index.", remedy="Name a catalogue that has some with --products.")
    network = VectorMaker.load(run) if is_stack(run) else load_network(run, device, engine)
    config = IndexConfig(model=network.states, precision=precision, size=network.size)
    build = _Build(network, config, out, say, Bar("index", "products", shown=shown))
    with in_use(out) if shard == parts.ALL else nullcontext():
        _claim(out, config)
        return build.update(shop, shard)


def _claim(out: Path, config: IndexConfig) -> None:
    """Write whose index it is, or refuse one of another model."""
    manifest = out / schema.MANIFEST_FILE
    # Names first: another process may write the manifest, and then states, meanwhile.
    names = {path.name for path in out.iterdir() if PARTIAL not in path.name} if out.is_dir() else set()
    ours = store.is_begun(out) if manifest.is_file() else names <= {LOCK_FILE}
    if not ours:
        raise UserError("the folder holds something else.", file=out, remedy="Name another folder.")
    if not manifest.is_file():
        with suppress(FileExistsError), new_file(manifest, first_wins=True) as partial:
            write_settings(config, partial, format=store.FORMAT, kind=store.KIND)
    if (found := IndexConfig.load(out)) != config:
        other = "another model" if found.model != config.model else f"the precision {found.precision}"
        raise UserError(f"is an index of {other}.", file=out, remedy="Name another folder, or delete this one.")


@dataclass(frozen=True)
class _Build:
    network: SplitNetwork | VectorMaker
    config: IndexConfig
    out: Path
    say: Callable[[str], None]
    bar: Bar

    def update(self, products: pa.Table, shard: parts.Shard | None) -> Changes:
        starts = range(0, products.num_rows, SHARD_PRODUCTS)
        hashes = [store.content_hashes(self._read(products.slice(start, SHARD_PRODUCTS))) for start in starts]
        hashes_R2 = np.concatenate([np.zeros((0, 2), np.uint64), *hashes])
        _, first_R = np.unique(hashes_R2, axis=0, return_index=True)
        row_W = np.sort(first_R)
        catalogue = hashlib.sha256(hashes_R2.tobytes()).hexdigest()
        with self._turn():
            planned = self._planned(catalogue, hashes_R2, row_W, alone=shard == parts.ALL)
        own = {
            folder: rows
            for number, (folder, rows) in enumerate(planned.items())
            if shard is not None and shard.has(number) and not _holds(folder, hashes_R2[rows])
        }
        own_R = np.concatenate([np.zeros(0, np.int64), *own.values()])
        if len(own_R):
            self._announce(products, own_R, len(row_W))
        with self.bar:
            self.bar.start(0, len(own_R))
            for folder, rows in own.items():
                made = self._computed(products, rows, lambda done: self.bar.advance(done, steps=done))
                with self._turn():
                    # A second process with this shard may have been faster, and all may be done.
                    if self._plan(catalogue) is not None and not _holds(folder, hashes_R2[rows]):
                        _remove(folder)
                        with new_folder(folder, first_wins=True) as partial:
                            made.save(partial)
        with self._turn():
            under_way = self._plan(catalogue) is not None
            missing = [
                folder.name for folder, rows in planned.items() if under_way and not _holds(folder, hashes_R2[rows])
            ]
            if shard is None and missing:
                said = f"is not done: {len(missing)} of {len(planned)} new blocks of states are missing: {missing[0]} …"
                raise UserError(said, file=self.out, remedy="Run what is missing again: it goes on.")
            removed = self._finish(products, hashes_R2[row_W]) if under_way and not missing else 0
        return Changes(products.num_rows, len(own_R), removed, len(missing))

    def _turn(self) -> AbstractContextManager[None]:
        return turn(self.out / schema.MANIFEST_FILE)

    def _plan(self, catalogue: str) -> dict[str, Any] | None:
        """Read the plan, ``None`` where all is done; refuse that of another catalogue."""
        if not (self.out / PLAN).is_file():
            return None
        plan = read_json(self.out / PLAN, {"catalogue": str, "kept": list, "next": int})
        if plan["catalogue"] != catalogue:
            remedy = "Let the others finish; or run it once without --shard, which begins with this one."
            raise UserError("is being brought up to date with another catalogue.", file=self.out, remedy=remedy)
        return plan

    def _planned(self, catalogue: str, hashes_R2: Hashes, row_W: Int64, *, alone: bool) -> dict[Path, Int64]:
        """Name the blocks that are to be there, with their products, as the first process of this update found them."""
        file = self.out / PLAN
        if alone and file.is_file() and read_json(file).get("catalogue") != catalogue:
            file.unlink()
        if (plan := self._plan(catalogue)) is None:
            whole, dead = store.shard_folders(self.out), _dead_in(hashes_R2[row_W])
            kept = [folder.name for folder in whole if dead(Shard.open(folder)).mean() <= MOST_REMOVED]
            following = 1 + max((int(folder.name.rpartition("-")[2]) for folder in whole), default=-1)
            plan = {"catalogue": catalogue, "kept": kept, "next": following}
            write_json(file, plan)
        old = States([Shard.open(folder) for folder in store.shard_folders(self.out) if folder.name in plan["kept"]])
        missing_R = row_W[old.find(hashes_R2[row_W])[0] < 0]
        starts = range(0, len(missing_R), SHARD_PRODUCTS)
        return {
            self.out / f"shard-{number:05d}": missing_R[start : start + SHARD_PRODUCTS]
            for number, start in enumerate(starts, plan["next"])
        }

    def _finish(self, products: pa.Table, wanted_W2: Hashes) -> int:
        """Write the catalogue, and remove states of what is not in it; a block that has lost much goes as a whole."""
        with new_file(self.out / schema.PRODUCTS_FILE) as partial:
            pq.write_table(products, partial)
        (self.out / PLAN).unlink()
        dead, removed, whole = _dead_in(wanted_W2), 0, store.shard_folders(self.out)
        for folder in whole:
            shard = Shard.open(folder)
            dead_R = dead(shard)
            removed += int((dead_R & shard.hashes_R2.any(axis=1)).sum())
            if dead_R.mean() > MOST_REMOVED:
                _remove(folder)
            elif dead_R.any():  # those of an earlier call too: it may have been killed
                shard.remove(np.flatnonzero(dead_R), folder)
        for folder in {*self.out.glob(store.SHARDS)} - {*whole}:
            if "." not in folder.name:
                _remove(folder)
        clear_left_over(self.out, "**/*")
        return removed

    def _computed(self, products: pa.Table, rows: Int64, progress: Callable[[int], None] | None = None) -> Shard:
        return self.network.shard_of(self._read(products.take(pa.array(rows))), self.config.precision, progress)

    def _read(self, products: pa.Table) -> Columns:
        return self.network.read({name: products.column(name).to_pylist() for name in schema.TEXT_COLUMNS})

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


def _holds(folder: Path, hashes_R2: Hashes) -> bool:
    """Tell whether a block is there, whole, and of these products."""
    return (folder / store.KEPT).is_file() and np.array_equal(Shard.open(folder).hashes_R2, hashes_R2)


def _dead_in(wanted_W2: Hashes) -> Callable[[Shard], npt.NDArray[np.bool_]]:
    """Return what tells which products of a block are not in a catalogue."""
    sorted_W2 = wanted_W2[np.argsort(wanted_W2[:, 0])]
    return lambda shard: store.places_of(shard.hashes_R2, sorted_W2) < 0


def _remove(folder: Path) -> None:
    (folder / store.KEPT).unlink(missing_ok=True)  # first, so that a kill leaves no part of a block
    shutil.rmtree(folder, ignore_errors=True)
