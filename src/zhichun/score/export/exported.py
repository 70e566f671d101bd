"""An export as an engine: which one is loaded, by rule or by measurement; without torch and transformers."""

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from zhichun.core import device as cpu
from zhichun.core.errors import UserError, suggest
from zhichun.score.engines.engine import AUTO, EXPORT_ENGINES, MEASURE, RUN_ENGINES, Engine
from zhichun.score.engines.side_features import SideFeatures
from zhichun.score.export.export_folder import FORMATS, ExportConfig, format_of
from zhichun.text.features import Featurizer
from zhichun.text.pairs import Arrays

RUNTIMES: Final = {"onnx": "onnxruntime", "openvino": "openvino"}
# The fastest first, where the CPU has the hardware for it (docs/speed.md). With AVX2 alone, int8 is faster than fp32
# by onnxruntime and not by OpenVINO.
RANKING: Final[tuple[tuple[str, Callable[[], bool]], ...]] = (
    ("openvino-int8", cpu.has_int8),
    ("openvino-bf16", cpu.has_bf16),
    ("onnx-int8", cpu.multiplies_bytes),
    ("openvino", lambda: True),
    ("onnx", lambda: True),
)
TRIED_BATCHES: Final = 12


def load_export(folder: Path, engine: str, device: str | None = None) -> tuple[ExportConfig, Featurizer, Engine]:
    """Load an export folder with one of its engines."""
    if device not in (None, "cpu"):
        raise UserError(f"an export runs on a CPU, not on {device!r}.", file=folder, remedy="Name the run.")
    config = ExportConfig.load(folder)
    there, side = available(config), SideFeatures.load(folder, config.side_features)
    if engine == MEASURE:
        loaded = fastest([open_engine(folder, config, name, side) for name in usable(config, folder)], config)
    else:
        if engine == AUTO:
            engine = choose(config, folder)
        elif engine not in there:
            raise UserError(f"there is no engine {engine!r}.", file=folder, remedy=_remedy(engine, there))
        loaded = open_engine(folder, config, engine, side)
    return config, config.featurizer(folder), loaded


def available(config: ExportConfig) -> list[str]:
    """Name the engines whose format was exported."""
    return [engine for engine in EXPORT_ENGINES if format_of(engine) in config.checks]


def usable(config: ExportConfig, folder: Path) -> list[str]:
    """Name the safe engines that are exported and installed and that the CPU has the hardware for, fastest first.

    Raises
    ------
    UserError
        When there is none.
    """
    there = [engine for engine in available(config) if importlib.util.find_spec(RUNTIMES[engine.split("-")[0]])]
    found = [name for name, has_hardware in RANKING if name in there and has_hardware()]
    safe = [name for name in found if config.check_of(name).safe]
    # An unsafe graph is better than none, where it is all that was exported.
    if safe or found or there:
        return safe or found or there
    runtimes = " or ".join(sorted({RUNTIMES[engine.split("-")[0]] for engine in available(config)}))
    raise UserError(f"needs {runtimes}.", file=folder, remedy="Install it with: pip install 'zhichun[onnx]'")


def choose(config: ExportConfig, folder: Path) -> str:
    """Choose the engine of ``auto``: the first that is usable."""
    return usable(config, folder)[0]


def open_engine(folder: Path, config: ExportConfig, engine: str, side: SideFeatures) -> Engine:
    """Open one engine of an export folder."""
    graph = folder / format_of(engine) / FORMATS[format_of(engine)][0]
    if engine.startswith("openvino"):
        from zhichun.score.engines.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(graph, engine, config, side)
    from zhichun.score.engines.onnx_engine import OnnxEngine

    return OnnxEngine(graph, engine, config, side)


def fastest(engines: list[Engine], config: ExportConfig) -> Engine:
    """Time engines on made-up pairs of half the greatest length, and give the fastest."""
    taken = {}
    for engine in engines:
        batch = _made_up_batch(config, engine.pairs_per_batch or 8)
        list(engine.run([batch] * 2 * engine.streams))
        began = time.perf_counter()
        list(engine.run([batch] * TRIED_BATCHES))
        taken[engine.name] = (time.perf_counter() - began) / len(batch["input_ids"])
    return min(engines, key=lambda engine: taken[engine.name])


def _made_up_batch(config: ExportConfig, pairs: int) -> Arrays:
    ones_BT = np.ones((pairs, max(2, config.max_length // 2)), np.int64)
    names = ("input_ids", "attention_mask", "token_type_ids")
    batch: Arrays = dict.fromkeys(names, ones_BT)
    nothing_B = np.zeros(pairs, np.int64)
    batch |= dict.fromkeys(config.side_features, nothing_B)
    for bag in ("query_trigrams", "product_trigrams", "description_trigrams"):
        batch |= {bag: np.zeros(0, np.int64), f"{bag}_offsets": np.zeros(pairs + 1, np.int64)}
    return batch


def _remedy(engine: str, there: list[str]) -> str:
    if engine in RUN_ENGINES:
        return "Torch scores the run itself: name its folder instead of the export's."
    if engine not in EXPORT_ENGINES:
        return suggest(engine, (*there, AUTO, MEASURE))
    return f"It has {', '.join(there)}. Export the run again with: --to {format_of(engine)}"
