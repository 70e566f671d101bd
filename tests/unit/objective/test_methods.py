"""Every method against numbers worked out by hand, on a model that is linear in its token vectors.

A pair's logit is the mean of its tokens' vectors times ``w``, so its gradient with respect to each of the T tokens is
``w / T``.
"""

import math

import pytest
import torch
from torch import nn

from zhichun.objective.methods import AWP, EMA, FGM, FGSM, PGD, SMART, DropoutView, FreeLB, Mixup, RDrop
from zhichun.objective.methods.rdrop import divergence
from zhichun.objective.views import FirstView

W = (3.0, 4.0)
LENGTHS = (3, 2)


class Tokens(nn.Module):
    """A table of eight vectors of two dimensions."""

    hidden = 2

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(8, 2)
        nn.init.zeros_(self.table.weight)

    def look_up(self, ids: torch.Tensor) -> torch.Tensor:
        return self.table(ids)


class Line(nn.Module):
    """What a relevance model is to a second view; the features are [CLS] (2) and the number of tokens."""

    outputs = 1

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = Tokens()
        self.last = nn.Linear(3, 1, bias=False)
        self.last.weight.data = torch.tensor([[*W, 0.0]])
        self.dropout = nn.Dropout(dropout)

    def features(self, batch, vectors=None):
        vectors = self.encoder.look_up(batch["input_ids"]) if vectors is None else vectors
        mask = batch["attention_mask"][..., None]
        length = mask.sum(dim=1)
        return torch.cat([(vectors * mask).sum(dim=1) / length, length], dim=1)

    def head(self, features):
        return self.last(self.dropout(features))

    def forward(self, batch, vectors=None):
        return self.head(self.features(batch, vectors))


def logit(logits_BC, targets_B):
    """A loss that is the logit itself, so that what a view adds to it is what it adds to the loss."""
    return logits_BC[:, 0]


def first_view(model=None, loss=logit, weight=(1.0, 1.0)) -> FirstView:
    batch = {
        "input_ids": torch.tensor([[5, 5, 6], [6, 7, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]]),
        "target": torch.tensor([0, 0]),
        "weight": torch.tensor(weight),
        "normaliser": torch.tensor(2.0),
    }
    return FirstView.of(model or Line(), batch, loss, moved=True)


def added(method, **settings) -> list[float]:
    first = first_view(**settings)
    return (method.second_view(first).loss_N - first.loss_N).tolist()


def each_pair_by(norm: float) -> list[float]:
    """A shift of that norm along the gradient: each of T tokens by norm / √T, so the mean by that times |w| = 5."""
    return [pytest.approx(norm * 5 / math.sqrt(length), rel=1e-5) for length in LENGTHS]


def test_fgm_at_the_output_moves_each_pair_by_epsilon():
    assert added(FGM(epsilon=0.1, at="output")) == each_pair_by(0.1)


def test_what_other_pairs_weigh_changes_nothing_at_the_output():
    assert added(FGM(epsilon=0.1, at="output"), weight=(1.0, 100.0)) == each_pair_by(0.1)


def test_fgm_at_the_table_moves_each_row_by_its_share_of_one_norm():
    # Gradients in units of w / 2: row 5 is read twice in three tokens; row 6 in both pairs; row 7 once in two.
    rows = {5: 2 / 3, 6: 1 / 3 + 1 / 2, 7: 1 / 2}
    norm = math.sqrt(sum(share**2 for share in rows.values()))
    moved = {row: 0.1 * 5 * share / norm for row, share in rows.items()}
    expected = [(2 * moved[5] + moved[6]) / 3, (moved[6] + moved[7]) / 2]
    assert added(FGM(epsilon=0.1)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("at", ["table", "output"])
def test_fgsm_moves_every_coordinate_by_epsilon(at):
    assert added(FGSM(epsilon=0.1, at=at)) == pytest.approx([0.1 * 7, 0.1 * 7], rel=1e-5)  # |3| + |4|


@pytest.mark.parametrize(("steps", "norm"), [(1, 0.4), (2, 0.8), (3, 1.0)])
def test_pgd_adds_up_its_steps_and_stays_in_the_ball(steps, norm):
    assert added(PGD(epsilon=1.0, alpha=0.4, steps=steps, at="output")) == each_pair_by(norm)


def test_pgd_of_one_step_is_fgm():
    assert added(PGD(epsilon=1.0, alpha=0.4, steps=1)) == pytest.approx(added(FGM(epsilon=0.4)), rel=1e-6)


def test_freelb_is_the_mean_over_its_steps_and_shows_the_last():
    first = first_view()
    view = FreeLB(epsilon=0.5, alpha=0.3, steps=3, start=None).second_view(first)
    assert (view.loss_N - first.loss_N).tolist() == each_pair_by((0 + 0.3 + 0.5) / 3)
    assert (view.logits_BC - first.logits_BC)[:, 0].tolist() == each_pair_by(0.5)


def test_freelb_starts_within_its_norm_and_never_on_padding():
    first, freelb = first_view(), FreeLB(steps=1, start=0.3)
    torch.manual_seed(0)
    one = freelb.second_view(first)
    assert not torch.equal(one.loss_N, first.loss_N)
    assert ((one.loss_N - first.loss_N).abs() <= torch.tensor([0.3 * 5 / math.sqrt(T) for T in LENGTHS])).all()
    assert not torch.equal(one.loss_N, freelb.second_view(first).loss_N)  # drawn anew


def test_smart_measures_how_much_the_answer_can_change():
    torch.manual_seed(0)
    first = first_view()
    found_B = SMART(weight=2.0, epsilon=0.1, noise=0.1).second_view(first).loss_N
    shifts = [0.1 * 5 / math.sqrt(length) for length in LENGTHS]  # from a logit of 0, up or down alike
    expected = [2.0 * (1 / (1 + math.exp(-shift)) - 0.5) * shift for shift in shifts]
    assert found_B.tolist() == pytest.approx(expected, rel=1e-4)


def test_awp_moves_a_matrix_by_a_share_of_its_norm_and_leaves_it_where_it_was():
    model = Line()
    model.encoder.table.weight.data[5:] = torch.tensor([1.0, 0.0])
    before = model.last.weight.clone()
    first = first_view(model)
    view = AWP(gamma=0.1).second_view(first)
    # Features are (1, 0, T), so the gradient of the mean of both logits is (1, 0, 2.5), of norm √7.25.
    shifts = [0.1 * 5 * (1 + 2.5 * length) / math.sqrt(7.25) for length in LENGTHS]
    assert (view.loss_N - first.loss_N).tolist() == pytest.approx(shifts, rel=1e-5)
    assert torch.equal(model.last.weight, before)


def test_a_gradient_of_zero_moves_nothing():
    flat = Line()
    flat.last.weight.data.zero_()
    for method in (FGM(), FGM(at="output"), PGD(), FreeLB(start=None), SMART(), AWP()):
        assert added(method, model=flat) == [0.0, 0.0], method


def test_the_dropout_view_draws_its_own_dropout():
    torch.manual_seed(0)
    model = Line(dropout=0.5)
    model.last.weight.data = torch.ones(1, 3)
    first = first_view(model)
    draws = [DropoutView().second_view(first).logits_BC for _ in range(8)]
    assert len({tuple(draw[:, 0].tolist()) for draw in draws}) > 1


def test_r_drop_is_the_symmetric_divergence_times_alpha():
    p, q = torch.tensor([[0.5, 0.5], [0.3, 0.7]]), torch.tensor([[0.8, 0.2], [0.3, 0.7]])
    expected = 0.5 * ((0.5 - 0.8) * math.log(0.5 / 0.8) + (0.5 - 0.2) * math.log(0.5 / 0.2))
    assert RDrop(alpha=0.5)(p.log(), q.log()).tolist() == [pytest.approx(expected), 0.0]
    assert RDrop(alpha=0.5, reduction="sum")(p.log(), q.log()).tolist() == [pytest.approx(2 * expected), 0.0]


def test_the_divergence_of_a_regressor_is_that_of_its_gain_and_the_rest():
    one, other = torch.tensor([[0.3]]), torch.tensor([[-1.2]])
    p, q = one.sigmoid().item(), other.sigmoid().item()
    both = torch.tensor([[p, 1 - p]]).log(), torch.tensor([[q, 1 - q]]).log()
    assert divergence(one, other).item() == pytest.approx((p - q) * 1.5, rel=1e-5)
    assert divergence(one, other).item() == pytest.approx(divergence(*both).item(), rel=1e-5)


def test_the_divergence_of_several_dropout_samples_is_their_mean():
    one, other = torch.randn(3, 2, 4), torch.randn(3, 2, 4)
    each = torch.stack([divergence(one[k], other[k]) for k in range(3)])
    assert torch.allclose(divergence(one, other), each.mean(dim=0))


@pytest.mark.parametrize("mixed", ["cls", "features"])
def test_mixup_lies_between_two_pairs_in_features_labels_and_weight(mixed):
    model = Line()
    model.outputs = 2
    seen = []

    def loss(logits_BC, target_BC):
        seen.append(target_BC)
        return logits_BC[:, 0]

    model.encoder.table.weight.data[5:] = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    model.last.weight.data = torch.tensor([[1.0, 0.0, 1.0]])
    first = first_view(model, loss, weight=(1.0, 3.0))
    first.batch["target"][1] = 1
    torch.manual_seed(1)
    share = torch.distributions.Beta(0.2, 0.2).sample((2,)).tolist()
    assert torch.randperm(2).tolist() == [1, 0]  # or each pair would be its own partner
    torch.manual_seed(1)
    total = Mixup(alpha=0.2, mixed=mixed).loss(first).item()
    cls = [1.0, 0.5]
    lengths = LENGTHS if mixed == "cls" else [share[0] * 3 + (1 - share[0]) * 2, share[1] * 2 + (1 - share[1]) * 3]
    losses = [share[0] * cls[0] + (1 - share[0]) * cls[1], share[1] * cls[1] + (1 - share[1]) * cls[0]]
    weights = [share[0] * 1 + (1 - share[0]) * 3, share[1] * 3 + (1 - share[1]) * 1]
    assert total == pytest.approx(sum(w * (c + n) for w, c, n in zip(weights, losses, lengths, strict=True)) / 2)
    assert seen[-1].tolist() == [
        pytest.approx([share[0], 1 - share[0]], abs=1e-6),
        pytest.approx([1 - share[1], share[1]], abs=1e-6),
    ]


@pytest.mark.parametrize(("warm_up", "decays"), [(None, (0.9, 0.9)), (10, (2 / 11, 3 / 12))])
def test_the_average_follows_with_its_decay(warm_up, decays):
    model = nn.Linear(1, 1, bias=False)
    average = EMA(decay=0.9, warm_up=warm_up).average_of(model)
    expected = 0.0
    for step, value in enumerate((1.0, 5.0, 3.0)):
        model.weight.data.fill_(value)
        average.update_parameters(model)
        expected = value if step == 0 else decays[step - 1] * expected + (1 - decays[step - 1]) * value
        assert average.module.weight.item() == pytest.approx(expected, rel=1e-6)
    assert not average.module.weight.requires_grad
    assert model.weight.requires_grad
