"""Every loss against numbers worked out by hand."""

import math

import pytest
import torch

from zhichun.losses import CrossEntropy, SquaredError


def test_cross_entropy_is_minus_the_log_of_the_true_class_s_probability():
    logits_BC = torch.tensor([[0.0, 0.0, 0.0, 0.0], [math.log(7.0), 0.0, 0.0, 0.0], [math.log(7.0), 0.0, 0.0, 0.0]])
    loss_B = CrossEntropy()(logits_BC, torch.tensor([2, 0, 3]))
    assert loss_B.tolist() == pytest.approx([math.log(4), math.log(10 / 7), math.log(10)])


def test_cross_entropy_of_two_classes():
    loss_B = CrossEntropy()(torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([1]))
    assert loss_B.tolist() == pytest.approx([math.log(4 / 3)])


def test_squared_error_is_taken_after_a_sigmoid():
    logits_B1 = torch.tensor([[0.0], [0.0], [math.log(9.0)]])  # sigmoids 0.5, 0.5, 0.9
    loss_B = SquaredError()(logits_B1, torch.tensor([1.0, 0.1, 0.01]))
    assert loss_B.tolist() == pytest.approx([0.25, 0.16, 0.89**2])


@pytest.mark.parametrize(("loss", "outputs", "target"), [(CrossEntropy(), 4, 1), (SquaredError(), 1, 0.0)])
def test_half_precision_logits_give_a_loss_in_float32(loss, outputs, target):
    logits = torch.full((1, outputs), 8.0, dtype=torch.bfloat16)
    loss_B = loss(logits, torch.tensor([target]))
    assert loss_B.dtype == torch.float32
    expected = math.log(4) if outputs == 4 else (1 / (1 + math.exp(-8))) ** 2
    assert loss_B.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("loss", "outputs", "target"), [(CrossEntropy(), 4, 1), (SquaredError(), 1, 0.0)])
def test_extreme_logits_stay_finite(loss, outputs, target):
    logits = torch.full((1, outputs), -3e4).requires_grad_()
    loss_B = loss(logits + torch.linspace(0, 6e4, outputs), torch.tensor([target]))
    loss_B.sum().backward()
    assert torch.isfinite(loss_B).all()
    assert torch.isfinite(logits.grad).all()
