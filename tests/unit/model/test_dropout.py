"""Dropout by few draws: the share, the mean, the same mask backward, and where it is taken."""

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoModel, XLMRobertaConfig

from zhichun.model.attention import Dropout, attend_by_products, drop, exchange_dropout
from zhichun.model.encoder import Encoder


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_the_share_is_dropped_and_the_mean_stays(p):
    torch.manual_seed(0)
    dropped = drop(torch.ones(1000, 1000), p)
    error = (p * (1 - p) / 1e6) ** 0.5
    assert (dropped == 0).float().mean().item() == pytest.approx(p, abs=4 * error)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / (1 - p)], rel=1e-3)
    assert dropped.mean(dtype=torch.float64).item() == pytest.approx(1, abs=4 * error / (1 - p))


def test_neighbours_are_dropped_independently_of_each_other():
    """Four numbers share a draw of the generator; no two places know of each other."""
    torch.manual_seed(0)
    kept_NP = (drop(torch.ones(250_000, 8), 0.5) > 0).double()
    together_PP = torch.corrcoef(kept_NP.T) - torch.eye(8)
    assert together_PP.abs().max() < 5 / 250_000**0.5


@pytest.mark.parametrize("shape", [(0,), (), (1,), (3,), (5, 7), (2, 3, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_shape_and_precision_is_kept(shape, dtype):
    values = torch.ones(shape, dtype=dtype)
    assert drop(values, 0.3).shape == shape
    assert drop(values, 0.3).dtype == dtype


def test_nothing_and_all_are_dropped_at_the_ends():
    values = torch.randn(100)
    assert drop(values, 0.0).equal(values)
    assert drop(values, 1e-7).allclose(values)
    assert drop(values, 1.0).equal(torch.zeros(100))


def test_the_seed_decides_and_the_gradient_has_the_same_mask():
    values = torch.randn(1001, requires_grad=True)
    torch.manual_seed(3)
    first = drop(values, 0.2)
    torch.manual_seed(3)
    assert drop(values, 0.2).equal(first)
    assert not drop(values, 0.2).equal(first)
    (gradient,) = torch.autograd.grad(first.sum(), values)
    assert (gradient * values).allclose(first)


def test_rows_that_are_not_contiguous_are_dropped_too():
    torch.manual_seed(0)
    values = torch.arange(1.0, 13).reshape(3, 4).T
    dropped = drop(values, 0.5)
    assert dropped[dropped != 0].equal(2 * values[dropped != 0])


def test_an_encoder_drops_this_way_in_training_only():
    config = XLMRobertaConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    model = AutoModel.from_config(config).eval()
    names = set(model.state_dict())
    encoder = Encoder(model)
    drops = [module for module in encoder.modules() if isinstance(module, nn.Dropout)]
    assert drops
    assert all(type(module) is Dropout and module.p == 0.1 and not module.training for module in drops)
    assert {name for name in names if not name.startswith("pooler.")} == set(model.state_dict())
    values = torch.randn(9)
    assert drops[0](values) is values
    assert not drops[0].train()(values.repeat(100)).equal(values.repeat(100))


def test_a_dropout_of_another_kind_is_left_alone():
    class Own(nn.Dropout):
        """Not torch's."""

    model = nn.Sequential(Own(0.1), nn.Dropout(0.2), nn.Dropout1d(0.3))
    exchange_dropout(model)
    assert [type(part) for part in model] == [Own, Dropout, nn.Dropout1d]


@pytest.mark.parametrize("mask", [None, "seen", "added"])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention_by_products_is_torch_s(mask, scale):
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 5, 8), torch.randn(2, 3, 5, 8)
    seen = torch.rand(4, 5) < 0.7
    seen[:, 0] = True
    given = {None: None, "seen": seen, "added": torch.randn(2, 1, 4, 5)}[mask]
    expected = scaled_dot_product_attention(query, key, value, given, scale=scale)
    torch.testing.assert_close(attend_by_products(query, key, value, given, scale=scale), expected)


def test_attention_by_products_drops_weights_and_keeps_the_mean():
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 1, 6, 8) for _ in range(3))
    expected = scaled_dot_product_attention(query, key, value)
    many = (part.expand(4000, -1, -1, -1) for part in (query, key, value))
    found = attend_by_products(*many, dropout_p=0.2)
    assert not found[0].equal(found[1])
    torch.testing.assert_close(found.mean(dim=0, keepdim=True), expected, atol=0.05, rtol=0)
