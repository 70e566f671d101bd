"""Every loss against numbers worked out by hand."""

import math

import pytest
import torch
from torch.nn import functional

from zhichun.core.errors import UserError
from zhichun.objective.losses import GHMC, CrossEntropy, Focal, Ordinal, Poly1, SquaredError

OF_CLASSES = (CrossEntropy, Focal, GHMC, Ordinal, Poly1)
# Probabilities 0.7, 0.1, 0.1, 0.1.
SURE = [math.log(7.0), 0.0, 0.0, 0.0]


def many(count=50, classes=4):
    generator = torch.Generator().manual_seed(0)
    logits_BC = 3 * torch.randn(count, classes, generator=generator)
    return logits_BC, torch.randint(classes, (count,), generator=generator)


def test_cross_entropy_is_minus_the_log_of_the_true_class_s_probability():
    logits_BC = torch.tensor([[0.0, 0.0, 0.0, 0.0], SURE, SURE])
    loss_B = CrossEntropy()(logits_BC, torch.tensor([2, 0, 3]))
    assert loss_B.tolist() == pytest.approx([math.log(4), math.log(10 / 7), math.log(10)])


def test_cross_entropy_of_two_classes():
    loss_B = CrossEntropy()(torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([1]))
    assert loss_B.tolist() == pytest.approx([math.log(4 / 3)])


def test_plain_cross_entropy_is_torch_s_to_the_bit_and_so_is_its_gradient():
    logits_BC, target_B = many()
    ours, theirs = logits_BC.clone().requires_grad_(), logits_BC.clone().requires_grad_()
    loss_B = CrossEntropy()(ours, target_B)
    expected_B = functional.cross_entropy(theirs, target_B, reduction="none")
    loss_B.sum().backward()
    expected_B.sum().backward()
    assert torch.equal(loss_B, expected_B)
    assert torch.equal(ours.grad, theirs.grad)


def test_focal_turns_the_loss_of_sure_pairs_down():
    loss_B = Focal()(torch.tensor([SURE, SURE]), torch.tensor([0, 3]))
    assert loss_B.tolist() == pytest.approx([0.3**2 * math.log(10 / 7), 0.9**2 * math.log(10)])
    assert Focal(gamma=1.0)(torch.tensor([SURE]), torch.tensor([0])).item() == pytest.approx(0.3 * math.log(10 / 7))


def test_focal_has_a_gradient_at_certainty_too():
    logits_BC = torch.tensor([[200.0, 0.0]], requires_grad=True)
    Focal(gamma=0.5)(logits_BC, torch.tensor([0])).sum().backward()
    assert torch.isfinite(logits_BC.grad).all()


def test_ordinal_is_the_cross_entropy_at_each_threshold():
    """At least E, at least S, at least C: probabilities of 0.7, 0.8 and 0.9, and of 0.3, 0.2 and 0.1 for the others."""
    loss_B = Ordinal()(torch.tensor([SURE] * 4), torch.arange(4))
    below = [-math.log(p) for p in (0.7, 0.8, 0.9)]
    above = [-math.log(p) for p in (0.3, 0.2, 0.1)]
    assert loss_B.tolist() == pytest.approx([sum(above[:k]) + sum(below[k:]) for k in range(4)])
    assert loss_B.tolist() == sorted(loss_B.tolist())  # the farther from the likeliest class, the more
    soft = Ordinal()(torch.tensor([SURE]), torch.tensor([[0.5, 0.0, 0.0, 0.5]]))
    assert soft.item() == pytest.approx(float(loss_B[0] + loss_B[3]) / 2)


def test_ordinal_is_least_at_the_target_itself_and_of_two_classes_cross_entropy():
    logits_BC, target_B = many(classes=2)
    assert torch.allclose(Ordinal()(logits_BC, target_B), CrossEntropy()(logits_BC, target_B), atol=1e-6)
    target_1C = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    others_BC = many()[0]
    assert (Ordinal()(others_BC, target_1C.expand(50, 4)) > Ordinal()(target_1C.log(), target_1C)).all()


def test_poly1_adds_what_is_missing_to_1():
    loss_B = Poly1()(torch.tensor([SURE, SURE]), torch.tensor([0, 3]))
    assert loss_B.tolist() == pytest.approx([math.log(10 / 7) + 0.3, math.log(10) + 0.9])
    assert Poly1(epsilon=-0.5)(torch.tensor([SURE]), torch.tensor([3])).item() == pytest.approx(math.log(10) - 0.45)


def test_ghmc_weighs_by_how_many_pairs_have_a_gradient_of_that_norm():
    # Norms 0.25, 0.25, 0.25 and 0.75: three pairs in one bin and one in another, so 4 / (2 * 3) and 4 / (2 * 1).
    logits_BC = torch.tensor([[math.log(3.0), 0.0]] * 4)
    loss_B = GHMC()(logits_BC, torch.tensor([0, 0, 0, 1]))
    assert loss_B.tolist() == pytest.approx([2 / 3 * math.log(4 / 3)] * 3 + [2 * math.log(4)])


def test_ghmc_counts_in_bins_of_equal_width_and_its_weights_have_the_mean_1():
    norms = [0.02, 0.04, 0.12, 0.55, 0.98]
    log_q_BC = torch.tensor([[1 - norm, norm] for norm in norms]).log()
    target_BC = torch.tensor([[1.0, 0.0]] * len(norms))
    assert GHMC().harmony(log_q_BC, target_BC).tolist() == pytest.approx([5 / 8, 5 / 8, 5 / 4, 5 / 4, 5 / 4])
    assert GHMC(bins=2).harmony(log_q_BC, target_BC).tolist() == pytest.approx([5 / 6] * 3 + [5 / 4] * 2)
    assert GHMC().harmony(torch.tensor([[-math.inf, 0.0]]), target_BC[:1]).tolist() == [1.0]  # a norm of 1, the last


def test_no_gradient_passes_through_the_weights_of_ghmc():
    logits_BC, target_B = many()
    logits_BC.requires_grad_()
    weight_B = GHMC().harmony(logits_BC.detach().log_softmax(dim=1), functional.one_hot(target_B, 4).float())
    (found,) = torch.autograd.grad(GHMC()(logits_BC, target_B).sum(), logits_BC)
    (expected,) = torch.autograd.grad((weight_B * CrossEntropy()(logits_BC, target_B)).sum(), logits_BC)
    assert torch.allclose(found, expected, atol=1e-7)


def test_label_smoothing_spreads_a_share_of_the_target_over_all_classes():
    # 0.4 of the target over four classes makes 0.7, 0.1, 0.1, 0.1 of it: the probabilities themselves.
    loss = CrossEntropy(label_smoothing=0.4)(torch.tensor([SURE]), torch.tensor([0]))
    assert loss.item() == pytest.approx(0.7 * math.log(10 / 7) + 0.3 * math.log(10))
    poly = Poly1(label_smoothing=0.4)(torch.tensor([SURE]), torch.tensor([0]))
    assert poly.item() == pytest.approx(loss.item() + 0.7 * 0.3 + 0.3 * 0.9)


def test_class_weights_count_the_pairs_of_a_class_so_many_times():
    for kind in OF_CLASSES:
        logits_BC, target_B = many()
        plain_B = kind()(logits_BC, target_B)
        loss_B = kind(class_weights=(1.0, 2.0, 0.5, 0.0))(logits_BC, target_B)
        assert torch.allclose(loss_B, plain_B * torch.tensor([1.0, 2.0, 0.5, 0.0])[target_B])


def test_smoothing_and_class_weights_together_are_those_of_torch():
    logits_BC, target_B = many()
    weights = (0.5, 1.0, 2.0, 4.0)
    loss_B = CrossEntropy(label_smoothing=0.1, class_weights=weights)(logits_BC, target_B)
    expected_B = functional.cross_entropy(
        logits_BC, target_B, torch.tensor(weights), reduction="none", label_smoothing=0.1
    )
    assert torch.allclose(loss_B, expected_B, atol=1e-6)


@pytest.mark.parametrize("kind", OF_CLASSES)
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1, "class_weights": (1.0, 2.0, 3.0, 4.0)}])
def test_soft_targets_of_one_class_are_hard_targets(kind, options):
    logits_BC, target_B = many()
    soft_BC = functional.one_hot(target_B, 4).float()
    assert torch.equal(kind(**options)(logits_BC, soft_BC), kind(**options)(logits_BC, target_B))


@pytest.mark.parametrize("kind", [CrossEntropy, Focal, Poly1])
def test_the_loss_of_a_soft_target_is_the_mean_over_its_classes(kind):
    """GHM-C alone is not linear: what it counts is the gradient, which the soft target has part in."""
    logits_BC = torch.tensor([SURE])
    by_class = [kind()(logits_BC, torch.tensor([place])).item() for place in range(4)]
    found = kind()(logits_BC, torch.tensor([[0.5, 0.25, 0.25, 0.0]])).item()
    assert found == pytest.approx(0.5 * by_class[0] + 0.25 * by_class[1] + 0.25 * by_class[2])


def test_ghmc_of_a_soft_target_counts_half_the_distance_to_it():
    # Probabilities 0.7, 0.1, 0.1, 0.1 against 0.5, 0.5, 0, 0: half of 0.2 + 0.4 + 0.1 + 0.1. Both others have 0.3.
    log_q_BC = torch.tensor([SURE] * 3).log_softmax(dim=1)
    target_BC = torch.tensor([[0.5, 0.5, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    assert GHMC(bins=3).harmony(log_q_BC, target_BC).tolist() == [1.5, 0.75, 0.75]
    assert GHMC(bins=2).harmony(log_q_BC, target_BC).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("kind", [*OF_CLASSES, SquaredError])
def test_of_several_dropout_samples_the_mean_loss_counts(kind):
    logits_BC, target = many(classes=1 if kind is SquaredError else 4)
    logits_KBC = torch.stack([logits_BC, 2 * logits_BC])
    if kind is GHMC:  # which counts all samples together
        expected = GHMC()(logits_KBC.flatten(0, 1), target.repeat(2)).view(2, -1).mean(dim=0)
    else:
        expected = (kind()(logits_KBC[0], target) + kind()(logits_KBC[1], target)) / 2
    assert torch.allclose(kind()(logits_KBC, target), expected, atol=1e-6)


def test_squared_error_is_taken_after_a_sigmoid():
    logits_B1 = torch.tensor([[0.0], [0.0], [math.log(9.0)]])  # sigmoids 0.5, 0.5, 0.9
    loss_B = SquaredError()(logits_B1, torch.tensor([1.0, 0.1, 0.01]))
    assert loss_B.tolist() == pytest.approx([0.25, 0.16, 0.89**2])


# What each loss says of four equal logits; GHM-C weighs a pair by itself with 1.
EVEN = {
    CrossEntropy: math.log(4),
    Focal: 0.75**2 * math.log(4),
    GHMC: math.log(4),
    Poly1: math.log(4) + 0.75,
    SquaredError: (1 / (1 + math.exp(-8))) ** 2,
}


@pytest.mark.parametrize("kind", EVEN)
def test_half_precision_logits_give_a_loss_in_float32(kind):
    logits = torch.full((1, 1 if kind is SquaredError else 4), 8.0, dtype=torch.bfloat16)
    loss_B = kind()(logits, torch.tensor([0]))
    assert loss_B.dtype == torch.float32
    assert loss_B.item() == pytest.approx(EVEN[kind], rel=1e-6)


@pytest.mark.parametrize("kind", EVEN)
def test_extreme_logits_stay_finite(kind):
    outputs = 1 if kind is SquaredError else 4
    logits = torch.full((1, outputs), -3e4).requires_grad_()
    loss_B = kind()(logits + torch.linspace(0, 6e4, outputs), torch.tensor([0]))
    loss_B.sum().backward()
    assert torch.isfinite(loss_B).all()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Poly1(epsilon=0.0), r"epsilon=0 is cross-entropy\.\n.* CrossEntropy"),
        (lambda: Poly1(epsilon=-1.5), r"epsilon=-1\.5: must be at least -1\.\nGive one such as 1"),
        (lambda: Focal(gamma=0.0), r"gamma=0\.0: must be above 0\.\n.* CrossEntropy"),
        (lambda: GHMC(bins=1), r"bins=1: must be at least 2\.\n.* CrossEntropy"),
        (lambda: CrossEntropy(label_smoothing=0.0), r"label_smoothing=0\.0: .*\n.*null, which is off"),
        (lambda: Poly1(label_smoothing=1.0), r"label_smoothing=1\.0: .*\n.*null, which is off"),
        (lambda: Focal(class_weights=(0.0, 0.0)), r"class_weights=\[0\.0, 0\.0\] weigh nothing\.\n.*null is equal"),
        (lambda: GHMC(class_weights=(1.0, -1.0)), r"class_weights=\[1\.0, -1\.0\]"),
        (lambda: CrossEntropy(class_weights=(1.0, math.nan)), r"class_weights=\[1\.0, nan\]"),
    ],
)
def test_what_a_loss_cannot_be_set_to_is_refused_with_what_it_can(make, message):
    with pytest.raises(UserError, match=message):
        make()
