"""onnxruntime as an engine: runs wherever it is installed; one pair or batch on each CPU core.

Legend: ``B`` pairs, ``C`` outputs.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from zhichun.core.errors import UserError
from zhichun.core.tasks import Floats
from zhichun.score.engines.engine import required, threads
from zhichun.score.engines.side_features import GraphInputs, SideFeatures
from zhichun.score.export.export_folder import REMEDY, ExportConfig
from zhichun.text.pairs import Arrays

PAIRS_PER_BATCH = 8
TOKENS_PER_BATCH = 4096


class OnnxEngine:
    """Runs a graph with onnxruntime on the CPU.

    Parameters
    ----------
    graph
        The ``.onnx`` file.
    name
        ``onnx`` or ``onnx-int8``. Dynamic int8 scales an activation by the greatest value of its whole batch, so there
        every pair is a batch of its own: its score then depends on nothing else.
    config, side
        Of the export folder.

    Raises
    ------
    UserError
        When onnxruntime is not installed or cannot read the file.
    """

    tokens_per_batch = TOKENS_PER_BATCH
    packs = False
    lookahead = 0

    def __init__(self, graph: Path, name: str, config: ExportConfig, side: SideFeatures) -> None:
        runtime = required("onnxruntime")
        self.name = name
        self.outputs = config.task_of.outputs
        self.pairs_per_batch = 1 if name == "onnx-int8" else PAIRS_PER_BATCH
        self.streams = threads()
        self._inputs = GraphInputs(config.inputs, side)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # a core for each batch, none waits for another
        options.log_severity_level = 3
        try:
            self._session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # what is raised depends on the fault of the file
            raise UserError(f"onnxruntime cannot read it ({error}).", file=graph, remedy=REMEDY) from error

    def run(self, batches: Iterable[Arrays]) -> Iterator[Floats]:
        """Return the logits of each batch, ``[B, C]``, in order."""
        waiting: deque[Future[Floats]] = deque()
        with ThreadPoolExecutor(self.streams) as pool:
            for batch in batches:
                if len(waiting) > self.streams:  # one more than are computed, so that none waits to be put together
                    yield waiting.popleft().result()
                waiting.append(pool.submit(self._logits, self._inputs.of(batch)))
            while waiting:
                yield waiting.popleft().result()

    def _logits(self, inputs: Arrays) -> Floats:
        logits_BC: Floats = self._session.run(None, inputs)[0]
        return logits_BC
