"""What scores a batch: the contract that torch, onnxruntime and OpenVINO fill, and the one loop over batches.

Legend: ``P`` pairs, ``B`` pairs of a batch, ``C`` outputs of the model.
"""

import importlib
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from zhichun.core.arrays import Int32, Int64
from zhichun.core.errors import UserError
from zhichun.core.tasks import Floats
from zhichun.text.pairs import Arrays, Pairs

if TYPE_CHECKING:
    from zhichun.score.index.scorer import KeptPairs

# An engine is a runtime and a precision; fp32 goes without saying. What it reads is the export of that name, except for
# `openvino-bf16`, which reads that of `openvino`, and for those of torch, which read a run.
RUN_ENGINES: Final = ("torch", "torch-bf16")
EXPORT_ENGINES: Final = ("onnx", "onnx-int8", "openvino", "openvino-bf16", "openvino-int8")
AUTO: Final = "auto"
MEASURE: Final = "measure"
TOKENS_PER_BATCH: Final = 4096
A = TypeVar("A")
T = TypeVar("T")
R = TypeVar("R")
# Of models that read lists: pairs whose vectors are held at once, pairs that are compared with each other at once, and
# the candidates of one query at most: attention holds a number for each two of them.
PAIRS_AT_ONCE: Final = 16_384
LISTED_AT_ONCE: Final = 256
LONGEST_LIST: Final = 4096
Progress = Callable[[int], None]
Stage = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Engine(ABC):
    """Something that turns batches into logits.

    Parameters
    ----------
    name
        One of `RUN_ENGINES` or `EXPORT_ENGINES`.
    outputs
        Outputs of the model, ``C``.
    tokens_per_batch
        Tokens that a padded batch holds at most.
    pairs_per_batch
        Pairs that a batch holds at most; ``None`` where only tokens count.
    streams
        Batches that are computed at the same time.
    lookahead
        Chunks of a file to read ahead while one is computed: 0 where that takes the same cores.
    reads_lists
        Whether a pair's score depends on the other pairs of its list.
    """

    name: str
    outputs: int
    tokens_per_batch: int = TOKENS_PER_BATCH
    pairs_per_batch: int | None = None
    streams: int = 1
    lookahead: int = 0
    reads_lists: bool = False

    @property
    def packs(self) -> bool:
        """Whether it wants a batch's pairs end to end in one row, without padding."""
        return False

    @abstractmethod
    def run(self, batches: Iterable[Arrays]) -> Iterator[Floats]:
        """Return the logits of each batch of `Pairs.collate`, ``[B, C]``, in order.

        Of a model that reads lists they are those of lists of one, and each pair's vector follows, ``[B, C + F]``.
        """

    def over_lists(self, vectors_BF: Floats, list_B: Int64) -> Floats:
        """Return the logits of whole lists, ``[B, C]``, of a model that reads lists."""
        raise NotImplementedError


def in_flight(batches: Iterable[A], most: int, start: Callable[[A], T], finish: Callable[[T], R]) -> Iterator[R]:
    """Start so many batches before the result of the first is waited for; gives them in order."""
    waiting: deque[T] = deque()
    for batch in batches:
        waiting.append(start(batch))
        if len(waiting) == most:
            yield finish(waiting.popleft())
    yield from map(finish, waiting)


def predict_with(engine: Engine, pairs: Pairs, rows: Int64, *, progress: Progress | None = None) -> Floats:
    """Score pairs in batches of similar length, from the longest to the shortest.

    Raises
    ------
    UserError
        For a list that is too long, of a model that reads lists.
    """
    score = partial(_by_length, engine, pairs, progress=progress)
    return in_lists(engine, pairs, rows, score, progress) if engine.reads_lists else score(rows)


def in_lists(
    engine: Engine,
    pairs: "Pairs | KeptPairs",
    rows: Int64,
    score: Callable[[Int64], Floats],
    progress: Progress | None,
) -> Floats:
    """Let a model that reads lists read whole ones; ``score`` gives what `Engine.run` does of pairs by themselves."""
    # What the model reads alike is one member of its list, whatever its ids.
    members = np.stack([pairs.lists[rows], *pairs.alike(rows)])
    (list_P, *_), first_P, back = np.unique(members, axis=1, return_index=True, return_inverse=True)
    if len(rows) and (longest := np.bincount(list_P).max()) > LONGEST_LIST:
        raise UserError(
            f"a list of {longest:,} candidates: a model that reads lists takes {LONGEST_LIST:,} at most.",
            remedy="Choose candidates first, such as the best 100 by BM25.",
        )
    logits_PC: Floats = np.zeros((len(first_P), engine.outputs), np.float32)
    for many in whole_lists(list_P, PAIRS_AT_ONCE):
        found = score(rows[first_P[many]])
        logits_PC[many], vectors_PF = found[:, : engine.outputs], found[:, engine.outputs :]
        for some in whole_lists(list_P[many], LISTED_AT_ONCE):
            listed_P = _in_company(list_P[many][some])  # a list of one is what the pair is by itself
            if listed_P.any():
                places = np.arange(some.start, some.stop)[listed_P]
                read = engine.over_lists(vectors_PF[places], list_P[many][places].astype(np.int64))
                logits_PC[many.start + places] = read
    if progress and len(rows) > len(first_P):
        progress(len(rows) - len(first_P))
    return logits_PC[back.ravel()]


def whole_lists(list_P: Int32 | Int64, most: int) -> Iterator[slice]:
    """Cut pairs that are sorted by list into parts of about ``most`` pairs, no list into two."""
    ends = [*(np.flatnonzero(np.diff(list_P)) + 1).tolist(), *([len(list_P)] if len(list_P) else [])]
    start = end = 0
    for end_of_list in ends:
        if end_of_list - start > most and end > start:
            yield slice(start, end)
            start = end
        end = end_of_list
    if end > start:
        yield slice(start, end)


def _in_company(list_P: Int32) -> npt.NDArray[np.bool_]:
    """Mark the pairs, sorted by list, that are not alone in theirs."""
    same = np.diff(list_P) == 0
    return np.append(same, False) | np.insert(same, 0, False)


def _by_length(engine: Engine, pairs: Pairs, rows: Int64, progress: Progress | None) -> Floats:
    """Run the engine over pairs; gives what it gives of each, in their order."""
    most = engine.pairs_per_batch and shared_out(len(rows), engine.streams, engine.pairs_per_batch)
    plan = length_sorted(np.arange(len(rows)), pairs.lengths[rows], engine.tokens_per_batch, most)
    made = engine.run(pairs.collate(rows[places], pack=engine.packs) for places in plan)
    return in_order(plan, made, len(rows), engine.outputs, progress)


def in_order(
    plan: Iterable[Int64], made: Iterable[Floats], count: int, outputs: int, progress: Progress | None = None
) -> Floats:
    """Put what was made of some places at a time into the order of all, ``[P, C]``, or more where more was made."""
    found: Floats = np.zeros((count, outputs), np.float32)
    for places, part in zip(plan, made, strict=True):
        if part.shape[1] > found.shape[1]:  # with vectors
            found = np.zeros((count, part.shape[1]), np.float32)
        found[places] = part
        if progress:
            progress(len(places))
    return found


def shared_out(count: int, streams: int, most: int | None = None) -> int:
    """Return how many a batch may hold, so that of a few no stream stands idle."""
    share = max(1, -(-count // streams))
    return share if most is None else min(most, share)


def length_sorted(rows: Int64, lengths: Int64, budget: int, most: int | None = None) -> list[Int64]:
    """Sort pairs by length and cut them so that no batch, once padded, holds more than ``budget`` tokens.

    Parameters
    ----------
    rows
        Which pairs, ``[P]``.
    lengths
        Tokens of each of these pairs, ``[P]``.
    budget
        Tokens a padded batch holds at most; a longer single pair is a batch by itself.
    most
        Pairs a batch holds at most; ``None`` sets no bound.

    Returns
    -------
    list
        Rows of each batch, from the longest pairs to the shortest, so that memory runs out at once or never.
    """
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        size = max(1, budget // max(1, int(lengths[order[start]])))
        size = size if most is None else min(size, most)
        batches.append(rows[order[start : start + size]])
        start += size
    return batches


def counted(stages: Stage | None, what: str, total: int) -> Progress | None:
    """Turn steps into the progress of one stage, which is called with (what, done, total)."""
    if stages is None:
        return None
    done = 0

    def progress(more: int) -> None:
        nonlocal done
        done += more
        stages(what, done, total)

    return progress


def threads() -> int:
    """CPU cores that this process may use: OMP_NUM_THREADS, or else those that the system allows."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted):
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def required(library: str) -> Any:
    """Import a library of the extra `onnx`, whose libraries carry no types.

    Raises
    ------
    UserError
        When it is not installed.
    """
    try:
        return importlib.import_module(library)
    except ModuleNotFoundError as error:
        raise UserError(
            f"this needs {error.name}, which is not installed.", remedy="Install it with: pip install 'zhichun[onnx]'"
        ) from error
