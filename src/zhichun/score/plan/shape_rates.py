"""The speed of a shape in every engine that this machine has; torch is loaded only where it is installed and asked."""

import importlib.util
import tempfile
from pathlib import Path
from typing import Final

from zhichun.score.engines.beside import Beside
from zhichun.score.engines.engine import RUN_ENGINES
from zhichun.score.export.export_folder import ExportConfig
from zhichun.score.export.exported import RANKING, RUNTIMES, open_graph
from zhichun.score.plan.graph import INPUTS, write_layers
from zhichun.score.plan.rate import Rate, measure
from zhichun.score.plan.shapes import Shape

TRAIN: Final = "train"


def installed(library: str) -> bool:
    """Tell whether a library can be imported."""
    return importlib.util.find_spec(library) is not None


def graph_engines() -> list[str]:
    """Name the engines of exports that are installed and that the processor has units for, the fastest first."""
    if not installed("onnx"):
        return []
    return [name for name, has_units in RANKING if has_units() and installed(RUNTIMES[name.split("-")[0]])]


def torch_engines() -> list[str]:
    """Name the engines of runs, where torch is installed."""
    if not (installed("torch") and installed("transformers")):
        return []
    from zhichun.score.plan.torch_rates import engines

    return engines()


def shape_rate(shape: Shape, engine: str, tokens: int, seconds: float) -> Rate:
    """Time one engine, or a training step, on a shape's layers; the rate is that of the whole encoder.

    Parameters
    ----------
    shape
        What is timed.
    engine
        Of `graph_engines` or `torch_engines`, or ``train``.
    tokens
        Tokens of a pair.
    seconds
        About how long to go on.
    """
    if engine == TRAIN:
        from zhichun.score.plan.torch_rates import training_rate

        timed = training_rate(shape, tokens, seconds)
    elif engine in RUN_ENGINES:
        from zhichun.score.plan.torch_rates import scoring_rate

        timed = scoring_rate(shape, engine, tokens, seconds)
    else:
        timed = _graph_rate(shape, engine, tokens, seconds)
    of_export = engine not in (TRAIN, *RUN_ENGINES)
    return Rate(timed.pairs, timed.seconds * shape.times_measured(first_token_only=of_export))


def _graph_rate(shape: Shape, engine: str, tokens: int, seconds: float) -> Rate:
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "layers.onnx"
        write_layers(shape, graph, engine)
        config = ExportConfig(
            task="esci", max_length=tokens, fields=(), inputs=INPUTS, beside={}, checks={}, files={}, about={}
        )
        return measure(open_graph(graph, config, engine, Beside({})), tokens, seconds)
