"""From an ONNX graph of fp32 to the other formats: OpenVINO, and int8 of both.

What is quantised to int8 are the products of tokens with weights: queries, keys, values, what attention gives out, and
the first product of the feed-forward. What stays as it was:

* the feed-forward's second product: a few of its inputs are hundreds of times the others, and a scale that fits them
  rounds all others away (half of the whole error, measured on MiniLM);
* the products within attention, which are no faster in int8;
* embeddings and the head, and in OpenVINO what is computed for one token of a pair only (the last layer): they cost
  next to nothing.

Activations are smoothed first (`export.smoothing`; NNCF does the same by itself).

Weights have 7 bits of the 8. Processors without units for int8 (AVX2, AVX-512 without VNNI) add two products of bytes
in 16 bits, which cannot hold 2 · 255 · 127 and stop at their end; 2 · 255 · 64 they hold. So every processor finds the
same sums, and a check made on one holds on another. With 8 bits, the logits of MiniLM were off by 0.03 on average where
sums are exact and by 0.14 on AVX2; with 7 bits by 0.03 on both.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zhichun.score.engines.engine import required
from zhichun.score.export.graph import TWO_GIB
from zhichun.score.export.quiet import quiet
from zhichun.score.export.smoothing import SMOOTHED, Inputs, smooth


def write_onnx_int8(graph: Path, out: Path, calibration: Sequence[Inputs]) -> None:
    """Quantise products with weights, per output channel; activations are smoothed, and scaled as they come.

    Parameters
    ----------
    graph
        The ONNX graph.
    out
        The ``.onnx`` to write.
    calibration
        Inputs of the graph for pairs, one by one, which show where activations have outliers.
    """
    quantisation = required("onnxruntime.quantization")
    onnx = required("onnx")
    found = onnx.load(graph, load_external_data=False).graph
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
    """Quantise with NNCF after training: weights and activations, scaled by what the pairs show.

    Parameters
    ----------
    graph
        The ONNX graph.
    out
        The ``.xml`` to write; its weights lie beside it.
    calibration
        Inputs of the graph for pairs, one by one: padding would be measured too.
    """
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
        if kind == "Gather" or (kind == "MatMul" and not _is_worth_it(operator)):
            kept.append(operator.get_friendly_name())
    return kept


def _is_worth_it(product: Any) -> bool:
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
