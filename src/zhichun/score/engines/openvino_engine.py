"""OpenVINO as an engine: the fastest on CPUs; fp32, bf16 where the CPU has it in hardware, int8.

Legend: ``B`` pairs, ``C`` outputs.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from zhichun.core.device import has_bf16
from zhichun.core.errors import UserError
from zhichun.core.tasks import Floats
from zhichun.score.engines.engine import required, threads
from zhichun.score.engines.side_features import GraphInputs, SideFeatures
from zhichun.score.export.export_folder import REMEDY, ExportConfig
from zhichun.text.pairs import Arrays

PAIRS_PER_BATCH = 8
TOKENS_PER_BATCH = 4096
LINEAR_LAYERS_OF_HEAD = 2
HEAD_SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1"}


class OpenVinoEngine:
    """Runs a graph with OpenVINO on the CPU, one stream of batches on each core.

    Parameters
    ----------
    graph
        The ``.xml`` file.
    name
        ``openvino``, ``openvino-bf16``, or ``openvino-int8``, which computes what is not quantised in bf16 where the
        CPU has it. The head is computed in fp32 in all of them, or logits would tie.
    config, side
        Of the export folder.

    Raises
    ------
    UserError
        When OpenVINO is not installed or cannot read the file.
    """

    pairs_per_batch = PAIRS_PER_BATCH
    tokens_per_batch = TOKENS_PER_BATCH
    packs = False
    lookahead = 0

    def __init__(self, graph: Path, name: str, config: ExportConfig, side: SideFeatures) -> None:
        runtime = required("openvino")
        self.name = name
        self.outputs = config.task_of.outputs
        self.streams = threads()
        self._inputs = GraphInputs(config.inputs, side)
        in_bf16 = name == "openvino-bf16" or (name == "openvino-int8" and has_bf16())
        settings = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": str(self.streams),
            "INFERENCE_NUM_THREADS": str(self.streams),
            "INFERENCE_PRECISION_HINT": "bf16" if in_bf16 else "f32",
            "ENABLE_CPU_PINNING": False,  # pinned, a stream waits for its core where other work has it
        }
        core = runtime.Core()
        try:
            model, head = core.read_model(graph), None
            if in_bf16:
                model, head = _without_head(runtime, model)
                head = core.compile_model(head, "CPU", HEAD_SETTINGS)
            self._compiled, self._head = core.compile_model(model, "CPU", settings), head
        except Exception as error:  # what is raised depends on the fault of the file
            raise UserError(f"OpenVINO cannot read it ({error}).", file=graph, remedy=REMEDY) from error

    def run(self, batches: Iterable[Arrays]) -> Iterator[Floats]:
        """Return the logits of each batch, ``[B, C]``, in order."""
        free: list[Any] = [self._compiled.create_infer_request() for _ in range(self.streams + 1)]
        waiting: deque[Any] = deque()
        for batch in batches:
            if not free:
                request = waiting.popleft()
                yield self._result(request)
                free.append(request)
            request = free.pop()
            request.start_async(self._inputs.of(batch))
            waiting.append(request)
        while waiting:
            yield self._result(waiting.popleft())

    def _result(self, request: Any) -> Floats:
        request.wait()
        if self._head is None:
            return np.array(request.get_output_tensor().data, np.float32)
        logits_BC: Floats = self._head([tensor.data for tensor in request.output_tensors])[0]
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
    return runtime.Model(features, inputs), runtime.Model(results, given)
