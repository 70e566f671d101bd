"""From an ONNX graph of fp32 to the other formats: OpenVINO, and int8 of both.

What is quantised to int8 are the products of tokens with weights: queries, keys, values, what attention gives out, and
the first product of the feed-forward. What stays as it was:

* the feed-forward's second product: a few of its inputs are hundreds of times the others, and a scale that fits them
  rounds all others away (half of the whole error, measured on MiniLM);
* the products within attention, which are no faster in int8;
* embeddings and the head, and in OpenVINO what is computed for one token of a pair only (the last layer): they cost
  next to nothing.

Activations are smoothed first by SmoothQuant (Xiao et al., 2023; NNCF does the same by itself):

What       a few channels of a token's vector are many times the others, and the one scale of int8 that fits them rounds
           all others away. Each channel is divided by a factor, and the row of the weights that reads it is multiplied
           by the same, so the product stays what it was
Equation   Eq. 4, ``s_j = max|X_j|^α / max|W_j|^(1-α)``
Reference  *SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models*, ICML 2023
Our number of a fine-tuned MiniLM's logits, int8 loses 0.033 instead of 0.051 (root mean square; 400 pairs of ESCI)
Cost       one multiplication of each activation that is read; products that read the same one share it
Traps      the greatest values are those of the pairs that it is calibrated with

Weights have 7 bits of the 8. CPUs without int8 hardware (AVX2, AVX-512 without VNNI) add two products of bytes
in 16 bits, which cannot hold 2 · 255 · 127 and stop at their end; 2 · 255 · 64 they hold. So every CPU finds the
same sums, and a check made on one holds on another. With 8 bits, the logits of MiniLM were off by 0.03 on average where
sums are exact and by 0.14 on AVX2; with 7 bits by 0.03 on both.

Legend: ``D`` inputs of a product, ``F`` outputs, ``P`` products that read one activation.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from zhichun.score.engine import required
from zhichun.score.export.graph import TWO_GIB, quiet

Floats32 = npt.NDArray[np.float32]
Inputs = dict[str, Any]
# α, how much of the activations' spread goes into the weights: half, as in the paper.
SMOOTHED: Final = 0.5
_LEAST: Final = 1e-5


def write_onnx_int8(graph: Path, out: Path, calibration: Sequence[Inputs]) -> None:
    """Quantise products with weights, per output channel; activations are smoothed, and scaled as they come."""
    quantisation = required("onnxruntime.quantization")
    found = required("onnx").load(graph, load_external_data=False).graph
    shapes = {weight.name: tuple(weight.dims) for weight in found.initializer}
    products = [node for node in found.node if node.op_type == "MatMul" and node.input[1] in shapes]
    chosen = [node.name for node in products if not _narrows(*shapes[node.input[1]])]
    weights = graph.with_name(f"{graph.name}.data")
    with quiet("root"), tempfile.TemporaryDirectory(dir=out.parent, prefix="partial-") as folder:
        smoothed = Path(folder, "smoothed.onnx")
        smooth(graph, smoothed, chosen, calibration)
        quantisation.quantize_dynamic(
            smoothed,
            out,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=chosen,
            per_channel=True,
            reduce_range=True,
            weight_type=quantisation.QuantType.QInt8,
            use_external_data_format=weights.is_file() and weights.stat().st_size > 4 * TWO_GIB,
        )


def write_openvino(graph: Path, out: Path) -> None:
    """Convert to OpenVINO, in fp32; bf16 is a setting of the runtime, not of the file."""
    runtime = required("openvino")
    runtime.save_model(runtime.Core().read_model(graph), out, compress_to_fp16=False)


def write_openvino_int8(graph: Path, out: Path, calibration: Sequence[Inputs]) -> None:
    """Quantise with NNCF after training: weights and activations, scaled by what the pairs show."""
    runtime = required("openvino")
    os.environ.setdefault("NNCF_CI", "1")  # nothing is reported to anybody
    with quiet("nncf"):
        nncf = required("nncf")
    with quiet("nncf"):  # once more: the import has set its logger's level
        model = runtime.Core().read_model(graph)
        smoothing = nncf.AdvancedSmoothQuantParameters(matmul=SMOOTHED)
        quantised = nncf.quantize(
            model,
            nncf.Dataset(list(calibration)),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(calibration),
            ignored_scope=nncf.IgnoredScope(names=_kept(model), validate=False),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                smooth_quant_alphas=smoothing, overflow_fix=nncf.OverflowFix.ENABLE
            ),
        )
    runtime.save_model(quantised, out, compress_to_fp16=False)


def _kept(model: Any) -> list[str]:
    """Name the operators of an OpenVINO model that stay as they are."""
    kept = []
    for operator in model.get_ordered_ops():
        kind = operator.get_type_name()
        if kind == "Gather" or (kind == "MatMul" and not _gains(operator)):
            kept.append(operator.get_friendly_name())
    return kept


def _gains(product: Any) -> bool:
    weight, tokens = product.input_value(1), product.input_value(0).get_partial_shape()
    if weight.get_node().get_type_name() != "Constant":
        return False  # of two activations, within attention
    rows, columns = weight.get_partial_shape().to_shape()
    if product.get_attributes()["transpose_b"]:
        rows, columns = columns, rows
    of_every_token = tokens.rank.get_length() == 3 and tokens[1].get_max_length() != 1
    return of_every_token and not _narrows(rows, columns)


def _narrows(inputs: int, outputs: int) -> bool:
    """Tell the feed-forward's second product, whose inputs are more than its outputs."""
    return inputs > outputs


def smooth(graph: Path, out: Path, products: Sequence[str], calibration: Sequence[Inputs]) -> None:
    """Write a graph with the same answers, some of whose products read smoothed activations (SmoothQuant).

    Parameters
    ----------
    graph
        An ``.onnx`` file.
    out
        The file to write. Weights that lay beside the graph lie beside this one too.
    products
        Names of the nodes that will be quantised: each a ``MatMul`` of an activation with a weight ``[D, F]``.
    calibration
        Inputs of the graph for pairs, one by one.
    """
    onnx = required("onnx")
    model = onnx.load(graph)
    weights = {weight.name: weight for weight in model.graph.initializer}
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        if node.name in products:
            readers.setdefault(node.input[0], []).append(node)
    greatest = _greatest(graph, list(readers), calibration)
    before: dict[str, Any] = {}
    for activation, nodes in readers.items():
        weights_PDF = [onnx.numpy_helper.to_array(weights[node.input[1]]) for node in nodes]
        factors_D = smoothing_factors(greatest[activation], weights_PDF)
        shared, smoothed = f"{activation}_factors", f"{activation}_smoothed"
        made = {shared: 1 / factors_D}
        before[nodes[0].name] = onnx.helper.make_node("Mul", [activation, shared], [smoothed], name=smoothed)
        for node, weight_DF in zip(nodes, weights_PDF, strict=True):
            made[f"{node.name}_weight"] = weight_DF * factors_D[:, None]
            node.input[:] = [smoothed, f"{node.name}_weight"]
        model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in made.items())
    nodes = [each for node in model.graph.node for each in (before.get(node.name), node) if each is not None]
    read = {name for node in nodes for name in node.input}
    kept = [weight for weight in model.graph.initializer if weight.name in read]
    for field, values in ((model.graph.node, nodes), (model.graph.initializer, kept)):
        del field[:]
        field.extend(values)
    onnx.save(
        model, out, save_as_external_data=graph.with_name(f"{graph.name}.data").is_file(), location=f"{out.name}.data"
    )


def smoothing_factors(greatest_D: Floats32, weights_PDF: Sequence[Floats32]) -> Floats32:
    """Give by what each channel of an activation is divided, ``[D]``, as in Eq. 4."""
    weight_D = np.max([np.abs(weight_DF).max(axis=1) for weight_DF in weights_PDF], axis=0)
    factors_D: Floats32 = np.maximum(greatest_D, _LEAST) ** SMOOTHED / np.maximum(weight_D, _LEAST) ** (1 - SMOOTHED)
    return factors_D.astype(np.float32)


def _greatest(graph: Path, activations: Sequence[str], calibration: Sequence[Inputs]) -> dict[str, Floats32]:
    """Run the graph and give the greatest absolute value of each channel of some activations."""
    onnx, runtime = required("onnx"), required("onnxruntime")
    model = onnx.load(graph, load_external_data=False)
    del model.graph.output[:]
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in activations
    )
    probe = graph.with_name(f"probe-{graph.name}")  # where the graph is, since weights beside it are found from there
    try:
        onnx.save(model, probe)
        session = runtime.InferenceSession(probe, providers=["CPUExecutionProvider"])
        greatest: dict[str, Floats32] = {}
        for inputs in calibration:
            for name, values in zip(activations, session.run(list(activations), inputs), strict=True):
                here_D = np.abs(values).reshape(-1, values.shape[-1]).max(axis=0)
                greatest[name] = np.maximum(greatest.get(name, here_D), here_D)
    finally:
        probe.unlink(missing_ok=True)
    return greatest
