"""The operations that the GPU benchmark counts, against torch's own counter."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from zhichun.model.attention import tokens_of
from zhichun.model.encoder import new_encoder
from zhichun.model.encoder_settings import plain_config
from zhichun.text.pairs import assemble, packed
from zhichun.text.tokenizer import PairLayout

FILE = Path(__file__).parents[2] / "benchmarks" / "gpu_shapes.py"
LAYOUT = PairLayout(prefix=(0,), middle=(2, 2), suffix=(2,), first_type=0, second_type=0)


@pytest.fixture
def gpu_shapes(monkeypatch):
    spec = importlib.util.spec_from_file_location("gpu_shapes", FILE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_shapes", module)  # a dataclass looks its module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("layers", [1, 3])
def test_as_many_operations_are_counted_as_torch_does(gpu_shapes, layers):
    """Packed and in evaluation mode, so that nothing else is computed."""
    lengths = np.asarray([9, 30, 17, 30])
    shape = gpu_shapes.Shape(layers, 32, 2, 128, 50)
    encoder = new_encoder(
        plain_config(pieces=50, layers=layers, hidden=32, heads=2, intermediate=128, max_length=40)
    ).eval()
    encoder.use_attention("packed")
    rows = [assemble(np.full(2, 5, np.int32), np.full(length - 6, 7, np.int32), LAYOUT, 40) for length in lengths]
    batch = {name: torch.from_numpy(array) for name, array in packed(rows, LAYOUT).items()}
    # The counter does not know the processor's own kernel of attention.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encoder(batch["input_ids"], tokens_of(batch), None, first_only=True)
    assert shape.forward_flops(lengths) == counter.get_total_flops()
    assert shape.step_flops(lengths) == 3 * counter.get_total_flops()


def test_the_large_shape_is_that_of_xlm_roberta_large(gpu_shapes):
    """Two operations for each weight of the layers and each token, and attention beside them."""
    shape = gpu_shapes.SHAPES["xlm-roberta-large"]
    one, two = (shape.forward_flops(np.asarray([tokens])) for tokens in (100, 200))
    weights_of_layer = 4 * 1024**2 + 2 * 1024 * 4096
    assert 22.5 < one / (2 * weights_of_layer * 100) < 24
    assert two > 2 * one
