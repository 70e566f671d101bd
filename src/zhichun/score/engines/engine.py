"""What scores a batch: the contract that torch, onnxruntime and OpenVINO fill, and the one loop over batches.

Legend: ``P`` pairs, ``B`` pairs of a batch, ``C`` outputs of the model.
"""

import importlib
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np

from zhichun.core.arrays import Int64
from zhichun.core.errors import UserError
from zhichun.core.tasks import Floats
from zhichun.text.pairs import Arrays, Pairs

# An engine is a runtime and a precision; fp32 goes without saying. What it reads is the export of that name, except for
# `openvino-bf16`, which reads that of `openvino`, and for those of torch, which read a run.
RUN_ENGINES: Final = ("torch", "torch-bf16")
EXPORT_ENGINES: Final = ("onnx", "onnx-int8", "openvino", "openvino-bf16", "openvino-int8")
AUTO: Final = "auto"
MEASURE: Final = "measure"
TOKENS_PER_BATCH: Final = 4096
T = TypeVar("T")
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
    packs
        Whether it wants a batch's pairs end to end in one row, without padding.
    streams
        Batches that are computed at the same time.
    lookahead
        Chunks of a file to read ahead while one is computed: 0 where that takes the same cores.
    """

    name: str
    outputs: int
    tokens_per_batch: int = TOKENS_PER_BATCH
    pairs_per_batch: int | None = None
    packs: bool = False
    streams: int = 1
    lookahead: int = 0

    @abstractmethod
    def run(self, batches: Iterable[Arrays]) -> Iterator[Floats]:
        """Return the logits of each batch of `Pairs.collate`, ``[B, C]``, in order."""


def in_flight(
    batches: Iterable[Arrays], most: int, start: Callable[[Arrays], T], finish: Callable[[T], Floats]
) -> Iterator[Floats]:
    """Start so many batches before the logits of the first are waited for; gives them in order."""
    waiting: deque[T] = deque()
    for batch in batches:
        waiting.append(start(batch))
        if len(waiting) == most:
            yield finish(waiting.popleft())
    yield from map(finish, waiting)


def predict_with(engine: Engine, pairs: Pairs, rows: Int64, *, progress: Progress | None = None) -> Floats:
    """Score pairs in batches of similar length, from the longest to the shortest."""
    most = engine.pairs_per_batch
    if most is not None:  # a few pairs are shared out, so that no stream stands idle
        most = min(most, max(1, -(-len(rows) // engine.streams)))
    plan = length_sorted(np.arange(len(rows)), pairs.lengths[rows], engine.tokens_per_batch, most)
    logits_PC: Floats = np.zeros((len(rows), engine.outputs), np.float32)
    made = engine.run(pairs.collate(rows[places], pack=engine.packs) for places in plan)
    for places, logits_BC in zip(plan, made, strict=True):
        logits_PC[places] = logits_BC
        if progress:
            progress(len(places))
    return logits_PC


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
