"""The graph of some layers of a shape with random weights, as `zhichun export` would write them; without torch.

Legend: ``B`` pairs, ``T`` tokens, ``D`` hidden size, ``H`` heads.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np

from zhichun.score.engines.engine import required
from zhichun.score.plan.shapes import OUTPUTS, PIECES, Shape

INPUTS: Final = ("input_ids", "attention_mask")
OPSET: Final = 20
_HIDDEN: Final = -1e4  # added to the attention's score of what is padding


def write_layers(shape: Shape, path: Path, engine: str) -> None:
    """Write a graph from ``input_ids`` and ``attention_mask`` to logits.

    Parameters
    ----------
    shape
        Whose ``measured_layers`` are written.
    path
        The ``.onnx`` file.
    engine
        What will read it: for those of int8, the products that `export.quantise` picks are in int8, by some scale;
        OpenVINO's scales are fixed, and onnxruntime's are found as it goes.

    Raises
    ------
    UserError
        When the library onnx is not installed.
    """
    graph = _Graph(shape, engine)
    tokens = graph.node("Gather", graph.weight((PIECES, shape.hidden)), "input_ids")
    unseen = graph.node("Sub", graph.constant(1.0), graph.node("Cast", "attention_mask", to=1))
    mask = graph.node("Mul", graph.node("Unsqueeze", unseen, graph.constant([1, 2])), graph.constant(_HIDDEN))
    for _ in range(shape.measured_layers):
        tokens = graph.layer(tokens, mask)
    first = graph.node("Gather", tokens, graph.constant(0), axis=1)
    graph.save(graph.linear(first, shape.hidden, OUTPUTS, plain=True), path)


class _Graph:
    """An ONNX graph on its way."""

    def __init__(self, shape: Shape, engine: str) -> None:
        self.onnx = required("onnx")
        self.shape, self.engine = shape, engine
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.chance = np.random.default_rng(0)

    def node(self, kind: str, *inputs: str, more: tuple[str, ...] = (), **attributes: Any) -> str:
        """Add an operator; gives the name of its output and of itself, which ``more`` of its outputs begin with."""
        name = f"{kind.lower()}_{len(self.nodes)}"
        outputs = [name, *(f"{name}_{output}" for output in more)]
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), outputs, name=name, **attributes))
        return name

    def constant(self, value: Any) -> str:
        """Add a number, a list of whole numbers or an array."""
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        self.weights.append(self.onnx.numpy_helper.from_array(array, f"weight_{len(self.weights)}"))
        return str(self.weights[-1].name)

    def weight(self, size: tuple[int, ...]) -> str:
        """Add random weights."""
        return self.constant(self.chance.standard_normal(size, np.float32) * np.float32(0.02))

    def linear(self, tokens: str, inputs: int, outputs: int, *, plain: bool = False) -> str:
        """Multiply with weights and add a bias; a product that narrows stays in fp32."""
        in_int8 = self.engine.endswith("int8") and not plain and inputs <= outputs
        if in_int8 and self.engine.startswith("openvino"):
            product = self._fixed_int8(tokens, inputs, outputs)
        elif in_int8:
            product = self._dynamic_int8(tokens, inputs, outputs)
        else:
            product = self.node("MatMul", tokens, self.weight((inputs, outputs)))
        return self.node("Add", product, self.weight((outputs,)))

    def _fixed_int8(self, tokens: str, inputs: int, outputs: int) -> str:
        scale, zero = self.constant(0.03), self.constant(np.uint8(128))
        tokens = self.node("DequantizeLinear", self.node("QuantizeLinear", tokens, scale, zero), scale, zero)
        weight = self.node("DequantizeLinear", self._bytes((inputs, outputs)), self.constant(1e-3))
        return self.node("MatMul", tokens, weight)

    def _dynamic_int8(self, tokens: str, inputs: int, outputs: int) -> str:
        found = self.node("DynamicQuantizeLinear", tokens, more=("scale", "zero"))
        product = self.node("MatMulInteger", found, self._bytes((inputs, outputs)), f"{found}_zero")
        scale = self.node("Mul", f"{found}_scale", self.constant(np.full(outputs, 1e-3, np.float32)))
        return self.node("Mul", self.node("Cast", product, to=1), scale)

    def _bytes(self, size: tuple[int, ...]) -> str:
        return self.constant(self.chance.integers(-64, 64, size, np.int8))

    def norm(self, tokens: str) -> str:
        """Add a norm over each token's vector."""
        ones = self.constant(np.ones(self.shape.hidden, np.float32))
        return self.node("LayerNormalization", tokens, ones, self.weight((self.shape.hidden,)), axis=-1)

    def heads(self, tokens: str, order: list[int]) -> str:
        """Multiply with weights and part the result by heads."""
        size = self.shape.hidden
        parted = self.constant([0, 0, self.shape.heads, size // self.shape.heads])
        return self.node("Transpose", self.node("Reshape", self.linear(tokens, size, size), parted), perm=order)

    def layer(self, tokens: str, mask: str) -> str:
        """Add a layer: attention, then the feed-forward, a norm after each."""
        size, inner = self.shape.hidden, self.shape.intermediate
        scale = self.constant(np.float32((self.shape.heads / size) ** 0.5))
        scores = self.node("MatMul", self.heads(tokens, [0, 2, 1, 3]), self.heads(tokens, [0, 2, 3, 1]))
        shares = self.node("Softmax", self.node("Add", self.node("Mul", scores, scale), mask), axis=-1)
        context = self.node("MatMul", shares, self.heads(tokens, [0, 2, 1, 3]))
        context = self.node("Reshape", self.node("Transpose", context, perm=[0, 2, 1, 3]), self.constant([0, 0, size]))
        tokens = self.norm(self.node("Add", self.linear(context, size, size), tokens))
        wide = self.node("Gelu", self.linear(tokens, size, inner))
        return self.norm(self.node("Add", self.linear(wide, inner, size), tokens))

    def save(self, output: str, path: Path) -> None:
        """Write the file."""
        helper, kinds = self.onnx.helper, self.onnx.TensorProto
        inputs = [helper.make_tensor_value_info(name, kinds.INT64, ["pairs", "tokens"]) for name in INPUTS]
        outputs = [helper.make_tensor_value_info(output, kinds.FLOAT, ["pairs", OUTPUTS])]
        graph = helper.make_graph(self.nodes, "layers", inputs, outputs, self.weights)
        opset = [helper.make_opsetid("", OPSET)]
        self.onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
