"""The learning rate by hand, and which parameters decay."""

import itertools

import pytest
import torch
from torch import nn

from zhichun.fit.loop import learning_rate, make_optimizer
from zhichun.fit.train_settings import TrainSettings


def test_a_linear_warm_up_then_a_cosine_down_to_zero():
    settings = TrainSettings(learning_rate=8.0, warmup=0.2)
    rates = [learning_rate(step, 20, settings) for step in range(21)]
    assert rates[:5] == [2.0, 4.0, 6.0, 8.0, 8.0]  # ceil(0.2 * 20) = 4 steps up, then the cosine begins at its top
    assert rates[8] == pytest.approx(4 * (1 + 2**-0.5))  # cos of a quarter of pi
    assert rates[12] == pytest.approx(4.0)  # half way down
    assert rates[20] == pytest.approx(0.0)
    assert all(earlier > later for earlier, later in itertools.pairwise(rates[4:]))


def test_without_a_warm_up_the_first_step_has_the_highest_rate():
    assert learning_rate(0, 10, TrainSettings(learning_rate=3.0, warmup=0.0)) == 3.0


def test_a_warm_up_as_long_as_the_run_never_divides_by_nought():
    assert learning_rate(0, 1, TrainSettings(learning_rate=3.0, warmup=0.5)) == 3.0


def test_biases_and_norms_do_not_decay_and_frozen_weights_are_left_out():
    layers = nn.ModuleDict({"linear": nn.Linear(3, 2), "norm": nn.LayerNorm(2), "table": nn.Embedding(5, 2)})
    layers["table"].weight.requires_grad_(False)
    decaying, others = make_optimizer(layers, TrainSettings(weight_decay=0.3)).param_groups
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert list(map(id, decaying["params"])) == [id(layers["linear"].weight)]
    assert {id(p) for p in others["params"]} == {
        id(layers["linear"].bias),
        id(layers["norm"].weight),
        id(layers["norm"].bias),
    }


def test_the_weights_are_updated_in_one_pass_and_as_in_several():
    """And an optimiser that was saved and loaded goes on to the same bits."""

    def learn(fused: bool, interrupted: bool = False) -> list[torch.Tensor]:
        torch.manual_seed(0)
        module = nn.Linear(7, 3)
        optimizer = make_optimizer(module, TrainSettings(learning_rate=0.1))
        assert all(group["fused"] for group in optimizer.param_groups)
        for group in optimizer.param_groups:
            group["fused"] = fused
        for step in range(6):
            if step == 3 and interrupted:
                kept, optimizer = optimizer.state_dict(), make_optimizer(module, TrainSettings(learning_rate=0.1))
                optimizer.load_state_dict(kept)
            module(torch.randn(5, 7)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        return [weight.detach() for weight in module.parameters()]

    plain, fused, resumed = learn(False), learn(True), learn(True, interrupted=True)
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(plain, fused, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(fused, resumed, strict=True))
