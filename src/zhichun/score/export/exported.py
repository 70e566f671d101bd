"""Exports as engines, without torch: onnxruntime, which runs anywhere, and OpenVINO, the fastest on CPUs.

Which one is loaded is chosen by rule or by measurement.

Legend: ``B`` pairs, ``C`` outputs.
"""

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from zhichun.core import device as cpu
from zhichun.core.arrays import Int64
from zhichun.core.errors import UserError, suggest
from zhichun.core.tasks import TASKS, Floats
from zhichun.score.engine import AUTO, EXPORT_ENGINES, MEASURE, RUN_ENGINES, Engine, in_flight, required, threads
from zhichun.score.export.export_folder import (
    CONFIG,
    FORMATS,
    LISTED,
    LISTS_FILE,
    LOWER,
    OUTPUT,
    OWN,
    PRODUCT,
    QUERY,
    REMEDY,
    SIDE,
    STATES,
    UPPER,
    VECTORS,
    ExportConfig,
    GraphInputs,
    format_of,
)
from zhichun.score.index.network import GraphNetwork, SplitEngine, reads_together
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
PAIRS_PER_BATCH: Final = 8
LINEAR_LAYERS_OF_HEAD: Final = 2
HEAD_SETTINGS: Final = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1"}
# Last sizes of what a graph reads and gives, by name.
Sizes = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class OnnxEngine(Engine):
    """Runs a graph with onnxruntime on the CPU, one batch on each core.

    Dynamic int8 scales an activation by the greatest value of its whole batch, so there every pair is a batch of its
    own: its score then depends on nothing else.
    """

    inputs: GraphInputs
    session: Any
    lists: Any | None

    @classmethod
    def open(cls, runtime: Any, graph: Path, name: str, lists: Path | None, **alike: Any) -> tuple[Self, Sizes]:
        """Open an ``.onnx`` file."""
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # a core for each batch, none waits for another
        options.log_severity_level = 3

        def session_of(path: Path) -> Any:
            return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

        session, of_lists = session_of(graph), lists and session_of(lists)
        sizes = {each.name: str(each.shape[-1]) for each in (*session.get_inputs(), *session.get_outputs())}
        most = 1 if name == "onnx-int8" else PAIRS_PER_BATCH
        return cls(name=name, pairs_per_batch=most, session=session, lists=of_lists, **alike), sizes

    def run(self, batches: Iterable[Arrays]) -> Iterator[Floats]:
        """Return the logits of each batch, ``[B, C]``, in order."""
        with ThreadPoolExecutor(self.streams) as pool:

            def start(batch: Arrays) -> Future[Floats]:
                return pool.submit(self._outputs, self.inputs.of(batch))

            # Two more than are computed: one waits for a stream, and one is put together meanwhile.
            yield from in_flight(batches, self.streams + 2, start, Future.result)

    def _outputs(self, inputs: Arrays) -> Floats:
        return np.concatenate(self.session.run(None, inputs), axis=1)

    def over_lists(self, vectors_BF: Floats, list_B: Int64) -> Floats:
        """Return the logits of whole lists, ``[B, C]``."""
        assert self.lists is not None
        logits_BC: Floats = self.lists.run(None, dict(zip(LISTED, (vectors_BF, list_B), strict=True)))[0]
        return logits_BC


@dataclass(frozen=True, kw_only=True)
class OpenVinoEngine(Engine):
    """Runs a graph with OpenVINO on the CPU, one stream of batches on each core.

    ``openvino-int8`` computes what is not quantised in bf16 where the CPU has it. The head is computed in fp32 in all,
    or logits would tie.
    """

    inputs: GraphInputs
    compiled: Any
    head: Any | None
    lists: Any | None

    @classmethod
    def open(
        cls, runtime: Any, graph: Path, name: str, lists: Path | None, *, streams: int, **alike: Any
    ) -> tuple[Self, Sizes]:
        """Open an ``.xml`` file."""
        in_bf16 = name == "openvino-bf16" or (name == "openvino-int8" and cpu.has_bf16())
        settings = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": str(streams),
            "INFERENCE_NUM_THREADS": str(streams),
            "INFERENCE_PRECISION_HINT": "bf16" if in_bf16 else "f32",
            "ENABLE_CPU_PINNING": False,  # pinned, a stream waits for its core where other work has it
        }
        core = runtime.Core()
        model, head = core.read_model(graph), None
        sizes = {each.any_name: str(each.partial_shape[-1]) for each in (*model.inputs, *model.outputs)}
        if in_bf16:
            model, head = _without_head(runtime, model)
            head = core.compile_model(head, "CPU", HEAD_SETTINGS)
        compiled = core.compile_model(model, "CPU", settings)
        of_lists = lists and core.compile_model(lists, "CPU", HEAD_SETTINGS)
        of_graphs = {"compiled": compiled, "head": head, "lists": of_lists}
        return cls(name=name, pairs_per_batch=PAIRS_PER_BATCH, streams=streams, **of_graphs, **alike), sizes

    def run(self, batches: Iterable[Arrays]) -> Iterator[Floats]:
        """Return the logits of each batch, ``[B, C]``, in order."""
        free = [self.compiled.create_infer_request() for _ in range(self.streams + 2)]

        def start(batch: Arrays) -> Any:
            request = free.pop()
            request.start_async(self.inputs.of(batch))
            return request

        def finish(request: Any) -> Floats:
            request.wait()
            found = [tensor.data for tensor in request.output_tensors]
            if self.head is not None:  # which reads what was found, the parts of a pair's vector
                found = [self.head(found)[0], *(found if self.reads_lists else ())]
            outputs: Floats = np.concatenate(found, axis=1, dtype=np.float32)
            free.append(request)
            return outputs

        yield from in_flight(batches, len(free), start, finish)

    def over_lists(self, vectors_BF: Floats, list_B: Int64) -> Floats:
        """Return the logits of whole lists, ``[B, C]``."""
        assert self.lists is not None
        logits_BC: Floats = self.lists([vectors_BF, list_B])[0]
        return logits_BC


def _without_head(runtime: Any, model: Any) -> tuple[Any, Any]:
    """Cut a graph in two where the head begins to read: precision is a setting of a whole graph."""
    results, inputs = model.get_results(), model.get_parameters()
    operator, products = results[0], 0
    while products < LINEAR_LAYERS_OF_HEAD:
        operator = operator.input_value(0).get_node()
        products += operator.get_type_name() == "MatMul"
    read = [operator.input(0)]
    while (before := read[0].get_source_output().get_node()).get_type_name() in ("Multiply", "Concat"):
        read = before.inputs() if before.get_type_name() == "Concat" else [before.input(0)]  # a product is smoothing's
    features = [place.get_source_output() for place in read]
    given = [runtime.opset13.parameter(output.get_partial_shape(), np.float32) for output in features]
    for place, parameter in zip(read, given, strict=True):
        place.replace_source_output(parameter.output(0))
    return runtime.Model(features, inputs), runtime.Model(results[:1], given)


def load_export(folder: Path, engine: str, device: str | None = None) -> tuple[ExportConfig, Featurizer, list[Engine]]:
    """Load an export folder with one of its engines; with all that are usable where they are to be measured."""
    config, names = _chosen(folder, engine, device)
    return config, config.featurizer(folder), [open_engine(folder, config, name) for name in names]


def _chosen(folder: Path, engine: str, device: str | None) -> tuple[ExportConfig, list[str]]:
    if device not in (None, "cpu"):
        raise UserError(f"an export runs on a CPU, not on {device!r}.", file=folder, remedy="Name the run.")
    config = ExportConfig.load(folder)
    if engine == MEASURE:
        names = usable(config, folder)
    elif engine == AUTO:
        names = [choose(config, folder)]
    elif engine in (there := available(config)):
        names = [engine]
    else:
        raise UserError(f"there is no engine {engine!r}.", file=folder, remedy=_remedy(engine, there))
    return config, names


def available(config: ExportConfig) -> list[str]:
    """Name the engines whose format was exported."""
    return [engine for engine in EXPORT_ENGINES if (engine if config.apart else format_of(engine)) in config.checks]


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


def open_engine(folder: Path, config: ExportConfig, name: str) -> Engine:
    """Open one engine of an export folder; refuses a graph that is not of its configuration."""
    if config.apart is not None:
        return SplitEngine.of(_open_split(folder, config, name))
    return _open(folder, config, name, config.graph_inputs(folder), _outputs(config))


def _outputs(config: ExportConfig) -> dict[str, int | None]:
    """Return what the graph of whole pairs, or that above the split, gives."""
    return {OUTPUT: TASKS[config.task].outputs, **({VECTORS: None} if config.reads_lists else {})}


def _open(
    folder: Path,
    config: ExportConfig,
    name: str,
    inputs: GraphInputs,
    given: Mapping[str, int | None],
    part: str | None = None,
) -> Engine:
    """Open one graph, which gives so many numbers under each name; ``part`` is one of several."""
    graph = folder / format_of(name) / FORMATS[format_of(name)][0]
    graph = graph if part is None else graph.with_stem(part)
    kind, title = (OpenVinoEngine, "OpenVINO") if name.startswith("openvino") else (OnnxEngine, "onnxruntime")
    runtime = required(title.lower())
    lists = folder / LISTS_FILE if VECTORS in given else None
    alike: dict[str, Any] = {
        "outputs": next(iter(given.values())),
        "streams": threads(),
        "inputs": inputs,
        "reads_lists": VECTORS in given,
    }
    try:
        engine, sizes = kind.open(runtime, graph, name, lists, **alike)
    except Exception as error:  # what is raised depends on the fault of the file
        raise UserError(f"{title} cannot read it ({error}).", file=graph, remedy=REMEDY) from error
    known = {SIDE: sum(config.side_features.values()), **given}
    if config.apart is not None:
        known |= {OWN: config.apart.hidden, **({STATES: config.apart.size} if STATES in inputs.names else {})}
    expected = {name: str(size) for name, size in known.items() if size is not None and name in sizes}
    if set(sizes) != {*inputs.names, *given} or any(sizes[name] != size for name, size in expected.items()):
        shown = ", ".join(f"{name} [{size}]" for name, size in sizes.items())
        raise UserError(f"is not of the graph of {graph.parent.name}: {shown}.", file=folder / CONFIG, remedy=REMEDY)
    return engine


def _open_split(folder: Path, config: ExportConfig, name: str) -> GraphNetwork:
    """Open the three graphs of a model that reads query and product apart."""
    apart = config.apart
    assert apart is not None
    below = GraphInputs(LOWER, {})
    above = GraphInputs(UPPER if config.side_features else UPPER[:-1], {})
    return GraphNetwork(
        featurizer=config.featurizer(folder),
        max_length=config.max_length,
        task=TASKS[config.task].calibrated_in(folder),
        states=apart.states,
        size=apart.size,
        side=config.graph_inputs(folder),
        product=_open(folder, config, name, below, {STATES: apart.size}, PRODUCT),
        query=_open(folder, config, name, below, {STATES: apart.hidden}, QUERY),
        above=_open(folder, config, name, above, _outputs(config)),
    )


def load_split(folder: Path, engine: str, device: str | None) -> GraphNetwork:
    """Load an export for an index; ``measure`` is as ``auto``.

    Raises
    ------
    UserError
        As `load_export`, and when the model does not read query and product apart.
    """
    config, names = _chosen(folder, AUTO if engine == MEASURE else engine, device)
    if config.apart is None:
        raise reads_together(folder)
    return _open_split(folder, config, names[0])


def _remedy(engine: str, there: list[str]) -> str:
    if engine in RUN_ENGINES:
        return "Torch scores the run itself: name its folder instead of the export's."
    if engine not in EXPORT_ENGINES:
        return suggest(engine, (*there, AUTO, MEASURE))
    return f"It has {', '.join(there)}. Export the run again with: --to {format_of(engine)}"
