"""Every ranking loss against numbers worked out by hand, and what all of them keep."""

import math

import pytest
import torch

from zhichun.core.errors import UserError
from zhichun.core.tasks import TASKS
from zhichun.objective.ranking import LambdaLoss, ListNet, MarginMSE, PairwiseLogSumExp, RankNet
from zhichun.objective.ranking.of_lists import log_odds

ALL = (RankNet(), LambdaLoss(), LambdaLoss(mu=None), ListNet(), PairwiseLogSumExp(), MarginMSE())
SECOND = 1 / math.log2(3)  # the discount of the second rank


def of_scores(loss, scores, gains, lists=None) -> list[float]:
    """Losses of lists of a regressor, whose logit is the score."""
    lists = [0] * len(scores) if lists is None else lists
    return loss(torch.tensor(scores)[:, None], torch.tensor(gains), torch.tensor(lists)).tolist()


def test_ranknet_is_the_cross_entropy_of_each_order():
    assert of_scores(RankNet(), [0.0, 0.0], [1.0, 0.0]) == pytest.approx([math.log(2)])
    # 1 > 0.1, 1 > 0 and 0.1 > 0, with differences of ln 3, 0 and -ln 3
    scores = [0.0, -math.log(3), 0.0]
    mean = (math.log(4 / 3) + math.log(2) + math.log(4)) / 3
    assert of_scores(RankNet(), scores, [1.0, 0.1, 0.0]) == pytest.approx([mean])


def test_lambda_loss_weighs_by_what_ndcg_loses():
    wrong = [0.0, math.log(3)]  # the better one is second: log2(1 + 3) = 2
    assert of_scores(LambdaLoss(mu=None), wrong, [1.0, 0.0]) == pytest.approx([2 * (1 - SECOND)])
    assert of_scores(LambdaLoss(), wrong, [1.0, 0.0]) == pytest.approx([22 * (1 - SECOND)])
    # Gains of 1 and 0.5 in the right order: the best DCG is 1 + 0.5 / log2(3).
    right = (1 - SECOND) * 0.5 / (1 + 0.5 * SECOND) * math.log2(4 / 3)
    assert of_scores(LambdaLoss(mu=None), [math.log(3), 0.0], [1.0, 0.5]) == pytest.approx([right])


def test_listnet_is_the_cross_entropy_of_two_softmaxes():
    assert of_scores(ListNet(), [0.0, 0.0, 0.0], [1.0, 0.1, 0.0]) == pytest.approx([math.log(3)])
    # Gains of ln 3 and 0 at a temperature of 1 are a target of 3/4 and 1/4, as are the scores.
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    found = of_scores(ListNet(temperature=1.0), [math.log(3), 0.0], [math.log(3), 0.0])
    assert found == pytest.approx([entropy])


def test_pairwise_log_sum_exp_is_a_smooth_maximum():
    assert of_scores(PairwiseLogSumExp(), [0.0, 0.0, 0.0], [1.0, 0.1, 0.0]) == pytest.approx([math.log(4)])
    assert of_scores(PairwiseLogSumExp(), [0.0, math.log(6)], [1.0, 0.0]) == pytest.approx([math.log(7)])


def test_margin_mse_compares_differences_of_gains():
    scores = [math.log(0.6 / 0.4), math.log(0.4 / 0.6), 0.0]  # gains of 0.6, 0.4 and 0.5
    assert of_scores(MarginMSE(), scores[:2], [1.0, 0.1]) == pytest.approx([(0.2 - 0.9) ** 2])
    mean = ((0.2 - 0.9) ** 2 + (0.1 - 1.0) ** 2 + (-0.1 - 0.1) ** 2) / 3
    assert of_scores(MarginMSE(), scores, [1.0, 0.1, 0.0]) == pytest.approx([mean])
    assert of_scores(MarginMSE(), scores[:2], [0.8, 0.6]) == pytest.approx([0.0], abs=1e-12)


def test_a_classifier_is_ranked_by_the_log_odds_of_its_expected_gain():
    p_BC = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.0001, 0.0001, 0.0001, 0.9997]])
    gain_B = torch.tensor([0.711, 0.000111])
    assert log_odds(p_BC.log()).tolist() == pytest.approx((gain_B / (1 - gain_B)).log().tolist(), rel=1e-4)
    assert log_odds(torch.tensor([[1.0, 3.5]])).tolist() == [2.5]  # of a substitute
    logits_BC = 5 * torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    score_B = TASKS["esci"].predict(logits_BC.numpy()).score
    assert log_odds(logits_BC).argsort().tolist() == score_B.argsort().tolist()


def test_the_gains_that_are_asked_for_are_those_of_targets_and_predictions():
    labels = torch.arange(4)
    sure = (torch.eye(4) * 0.96 + 0.01).log()  # each pair's own label
    lists = torch.zeros(4, dtype=torch.int64)
    for preset in ("esci", "official-script"):
        gain_B = torch.from_numpy(TASKS["esci"].gains(labels.numpy(), preset))
        assert log_odds(sure, preset).argsort().tolist() == gain_B.argsort().tolist()
        swapped = sure[[0, 2, 1, 3]]
        loss = RankNet(gains=preset)
        assert loss(sure, gain_B, lists).item() < loss(swapped, gain_B, lists).item()


@pytest.mark.parametrize("loss", ALL, ids=repr)
def test_lists_do_not_touch_each_other_and_their_order_changes_nothing(loss):
    random = torch.Generator().manual_seed(0)
    scores, gains = torch.randn(9, 1, generator=random), torch.tensor([1, 0.1, 0, 0.01, 1, 0.1, 0.1, 0.1, 0])
    lists = torch.tensor([0, 0, 0, 0, 1, 1, 2, 3, 3])
    together_L = loss(scores, gains, lists)
    assert together_L.dtype == torch.float32
    for one in range(4):
        own = lists == one
        alone = loss(scores[own], gains[own], torch.zeros_like(lists[own]))
        assert together_L[one].item() == pytest.approx(alone.item(), rel=1e-6)
        shuffled = torch.randperm(int(own.sum()), generator=random)
        alone = loss(scores[own][shuffled], gains[own][shuffled], torch.zeros_like(lists[own]))
        assert together_L[one].item() == pytest.approx(alone.item(), rel=1e-6)


@pytest.mark.parametrize("loss", ALL, ids=repr)
def test_a_list_with_one_grade_counts_nothing_and_has_no_gradient(loss):
    logits = torch.tensor([[1.0], [2.0], [3.0], [0.5], [-2.0]], requires_grad=True)
    loss_L = loss(logits, torch.tensor([0.1, 0.1, 1.0, 1.0, 0.0]), torch.tensor([0, 0, 1, 2, 2]))
    assert loss_L[:2].tolist() == [0, 0]
    assert loss_L[2] > 0
    loss_L.sum().backward()
    assert logits.grad[:3].tolist() == [[0], [0], [0]]


@pytest.mark.parametrize("loss", ALL, ids=repr)
@pytest.mark.parametrize("outputs", [1, 2, 4])
def test_the_gradient_is_finite_and_orders_the_list(loss, outputs):
    logits = torch.zeros(4, outputs, requires_grad=True)
    gains, lists = torch.tensor([0.0, 1.0, 0.1, 0.0]), torch.tensor([0, 0, 0, 1])
    for _ in range(200):
        (gradient,) = torch.autograd.grad(loss(logits, gains, lists).sum(), logits)
        logits = (logits - gradient).detach().requires_grad_()
    assert log_odds(logits)[:3].argsort(descending=True).tolist() == [1, 2, 0]
    extreme = (200 * torch.eye(4)[:, :outputs]).requires_grad_()
    loss(extreme, gains, lists).sum().backward()
    assert torch.isfinite(extreme.grad).all()


def test_of_several_dropout_samples_the_mean_of_their_losses_counts():
    samples = torch.randn(3, 4, 1, generator=torch.Generator().manual_seed(0))
    gains, lists = torch.tensor([1.0, 0.0, 0.1, 0.0]), torch.zeros(4, dtype=torch.int64)
    single = torch.stack([RankNet()(sample, gains, lists) for sample in samples])
    assert RankNet()(samples, gains, lists).item() == pytest.approx(single.mean().item())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: RankNet(weight=0.0), r"RankNet with weight=0\.0: must be above 0\.\nSwitch it off"),
        (lambda: LambdaLoss(mu=0.0), r"LambdaLoss with mu=0\.0: must be above 0\.\nUse LambdaRank's"),
        (lambda: ListNet(temperature=0.0), r"ListNet with temperature=0\.0: must be above 0"),
    ],
)
def test_settings_out_of_their_range_are_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        wrong()
