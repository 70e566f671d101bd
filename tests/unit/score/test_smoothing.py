"""SmoothQuant of a graph: the same answers, and what int8 then loses."""

import numpy as np
import pytest

from zhichun.score.export.quantise import smooth, smoothing_factors, write_onnx_int8

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
WIDE, OUTLIER = 64, 50.0


@pytest.fixture
def tokens():
    """Pairs of tokens, one channel of which is far greater than the others."""
    values = np.random.default_rng(0).standard_normal((20, 1, 9, WIDE)).astype(np.float32)
    values[..., 3] *= OUTLIER
    values[..., 5] = 0  # and one that is never used
    return [{"tokens": each} for each in values]


@pytest.fixture
def graph(tmp_path):
    """Two products that read one activation, and a third that reads what the first gives."""
    made, node = np.random.default_rng(1), onnx.helper.make_node
    weights = {name: made.standard_normal((WIDE, WIDE)).astype(np.float32) / 8 for name in ("q", "k", "o")}
    for name in ("q", "k"):  # as in a trained network, where what is great is no more important
        weights[name][3] /= OUTLIER
    nodes = [
        node("Relu", ["tokens"], ["read"], name="relu"),
        node("MatMul", ["read", "q"], ["queries"], name="query"),
        node("MatMul", ["read", "k"], ["keys"], name="key"),
        node("Add", ["queries", "keys"], ["both"], name="add"),
        node("MatMul", ["both", "o"], ["logits"], name="out"),
    ]
    infos = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["pairs", "tokens", WIDE])
        for name in ("tokens", "logits")
    ]
    initial = [onnx.numpy_helper.from_array(weight, name) for name, weight in weights.items()]
    model = onnx.helper.make_graph(nodes, "tiny", infos[:1], infos[1:], initial)
    path = tmp_path / "model.onnx"
    onnx.save(onnx.helper.make_model(model, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def answers(path, inputs):
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, each)[0] for each in inputs])


def test_factors_are_those_of_the_paper():
    weights = [np.array([[1.0, -4.0], [0.25, 0.0]], np.float32), np.array([[2.0], [-1.0]], np.float32)]
    found = smoothing_factors(np.array([9.0, 16.0], np.float32), weights)
    np.testing.assert_allclose(found, [3.0 / 2.0, 4.0 / 1.0])


def test_a_channel_that_is_nothing_has_a_factor_that_can_be_divided_by():
    zeros = np.zeros(2, np.float32)
    found = smoothing_factors(zeros, [np.array([[0.0], [1.0]], np.float32)])
    assert np.isfinite(1 / found).all()
    assert (found > 0).all()


def test_a_smoothed_graph_answers_as_before(graph, tokens, tmp_path):
    out = tmp_path / "smoothed.onnx"
    smooth(graph, out, ["query", "key"], tokens)
    np.testing.assert_allclose(answers(out, tokens), answers(graph, tokens), rtol=1e-4, atol=1e-4)
    made = onnx.load(out).graph
    assert [node.op_type for node in made.node] == ["Relu", "Mul", "MatMul", "MatMul", "Add", "MatMul"]
    assert {weight.name for weight in made.initializer} == {"read_factors", "query_weight", "key_weight", "o"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "smoothed.onnx"]


def test_weights_beside_a_graph_stay_beside_it(graph, tokens, tmp_path):
    folder = tmp_path / "large"
    folder.mkdir()
    large, out = folder / "model.onnx", tmp_path / "smoothed.onnx"
    onnx.save(onnx.load(graph), large, save_as_external_data=True, location="model.onnx.data")
    smooth(large, out, ["query", "key"], tokens)
    assert out.with_name("smoothed.onnx.data").stat().st_size > 3 * 4 * WIDE**2 - 1
    np.testing.assert_allclose(answers(out, tokens), answers(graph, tokens), rtol=1e-4, atol=1e-4)


def test_int8_loses_much_less_of_what_has_outliers(graph, tokens, tmp_path, monkeypatch):
    expected = answers(graph, tokens)

    def lost(name):
        write_onnx_int8(graph, tmp_path / name, tokens)
        return np.sqrt(np.mean((answers(tmp_path / name, tokens) - expected) ** 2))

    smoothed = lost("smoothed.onnx")
    monkeypatch.setattr("zhichun.score.export.quantise.smoothing_factors", lambda greatest, _: np.ones_like(greatest))
    assert smoothed < 0.5 * lost("plain.onnx")
    assert not list(tmp_path.glob("*partial*"))
