"""Measure the machine, and answer what scoring a catalogue and training on judgements cost."""

import math
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from zhichun.core.console import Bar
from zhichun.core.device import flags, has_bf16, has_int8
from zhichun.core.errors import UserError
from zhichun.score.engines.engine import RUN_ENGINES, threads
from zhichun.score.plan import memory
from zhichun.score.plan.model_rates import engines_of, model_rate, weight_bytes
from zhichun.score.plan.shape_rates import TRAIN, graph_engines, shape_rate, torch_engines
from zhichun.score.plan.shapes import SHAPES, Shape

# Of the time that is given; the rest goes into making what is measured.
MEASURING: Final = 0.4


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked.

    Parameters
    ----------
    pairs
        Pairs to score.
    judged
        Pairs of an epoch of training.
    tokens
        Tokens of a pair; those of the Shopping Queries Dataset have 175 on average when they are cut to 256.
    latency
        Seconds within which a query is answered.
    candidates
        Candidates of a query whose latency is wanted; ``None`` for none.
    seconds
        About how long to measure.
    """

    pairs: int = 1_000_000
    judged: int = 100_000
    tokens: int = 175
    latency: float = 0.1
    candidates: int | None = None
    seconds: float = 30.0

    def __post_init__(self) -> None:
        for name in ("pairs", "judged", "tokens", "latency", "candidates", "seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"{name}={value} must be above zero.")


Work = Callable[[float], dict[str, Any]]


def plan(question: Question, folders: Sequence[Path] = (), *, shown: bool = True) -> dict[str, Any]:
    """Measure shapes of encoders, or given models, in every engine that is there.

    Parameters
    ----------
    question
        What is asked.
    folders
        Runs and exports to measure in place of the shapes.
    shown
        Whether to show progress.

    Returns
    -------
    dict
        ``question``, ``machine``, and under ``scoring`` and ``training`` a row of answers for each model and engine.

    Raises
    ------
    UserError
        When a folder holds nothing that scores, or nothing that could be measured is installed.
    """
    works = _of_models(question, folders) if folders else _of_shapes(question)
    if not works:
        raise UserError(
            "neither torch nor onnxruntime with onnx, nor OpenVINO with onnx, is installed.",
            remedy="Install them with: pip install 'zhichun[train,onnx]', or name an export.",
        )
    rows: list[dict[str, Any]] = []
    with Bar("plan", shown=shown) as bar:
        bar.start(0, len(works))
        for name, work in works:
            bar.note(name)
            rows.append(work(MEASURING * question.seconds / len(works)))
            bar.advance(0)
    return {
        "question": asdict(question),
        "machine": _machine(),
        "scoring": [row for row in rows if row["engine"] != TRAIN],
        "training": [row for row in rows if row["engine"] == TRAIN],
    }


def _of_shapes(question: Question) -> list[tuple[str, Work]]:
    by_torch = torch_engines()
    engines = [*by_torch, *graph_engines(), *([TRAIN] if by_torch else [])]

    def work(shape: Shape, engine: str) -> Work:
        return lambda seconds: _shape_row(question, shape, engine, seconds)

    return [(f"{shape.name}, {engine}", work(shape, engine)) for shape in SHAPES.values() for engine in engines]


def _of_models(question: Question, folders: Sequence[Path]) -> list[tuple[str, Work]]:
    def work(folder: Path, engine: str) -> Work:
        return lambda seconds: _model_row(question, folder, engine, seconds)

    return [(f"{folder}, {engine}", work(folder, engine)) for folder in folders for engine in engines_of(folder)]


def _shape_row(question: Question, shape: Shape, engine: str, seconds: float) -> dict[str, Any]:
    rate = shape_rate(shape, engine, question.tokens, seconds).per_second
    row = {"model": shape.name, "engine": engine, "layers_timed": f"{shape.measured_layers} of {shape.layers}"}
    if engine == TRAIN:
        bytes_ = memory.training_bytes(shape)
        return {**row, "pairs_per_second": rate, "seconds": question.judged / rate, "memory_gib": bytes_ / memory.GIB}
    weights, working = memory.weights_of(shape, engine), memory.working_of(shape, question.tokens)
    return row | _answers(question, rate, engine, weights, working) | {"tokens": question.tokens}


def _model_row(question: Question, folder: Path, engine: str, seconds: float) -> dict[str, Any]:
    found = model_rate(folder, engine, question.tokens, seconds)
    row = {"model": str(folder), "engine": engine, "layers_timed": "all", "tokens": found.tokens}
    # Of a model whose shape nobody told, what it computes with is taken for that of a base encoder.
    working = memory.working_of(SHAPES["XLM-R-base"], question.tokens)
    return row | _answers(question, found.rate.per_second, engine, weight_bytes(folder, engine), working)


def _answers(question: Question, rate: float, engine: str, weights: int, working: int) -> dict[str, Any]:
    """Work out what a rate means: a round of pairs is computed at once, and a query waits for whole rounds."""
    by_torch = engine in RUN_ENGINES
    streams = 1 if by_torch else threads()
    answers = {
        "pairs_per_second": rate,
        "seconds": question.pairs / rate,
        "memory_gib": memory.scoring_bytes(weights, working, streams, with_torch=by_torch) / memory.GIB,
        "candidates": math.floor(question.latency * rate / streams) * streams,
    }
    if question.candidates is not None:
        answers["latency"] = math.ceil(question.candidates / streams) * streams / rate
    return answers


def _machine() -> dict[str, Any]:
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": threads(),
        "units": {"bf16": has_bf16(), "int8": has_int8(), "avx2": "avx2" in flags(), "avx512": "avx512f" in flags()},
    }
