"""The ranking losses against those of sentence-transformers, on the same logits and labels."""

import math
import sys

import pytest
import torch
from torch import nn

from zhichun.objective.ranking import LambdaLoss, ListNet, MarginMSE, RankNet

theirs = pytest.importorskip("sentence_transformers.cross_encoder.losses")
SIZES = (3, 7, 2, 5)


class Given:
    """A cross-encoder whose scores are given: a document is the place of its score."""

    num_labels, device = 1, torch.device("cpu")

    def __init__(self, score_B: torch.Tensor) -> None:
        self.score_B = score_B

    def preprocess(self, pairs, **_):
        return {"places": torch.tensor([place for _, place in pairs])}

    def __call__(self, batch):
        return {"scores": self.score_B[batch["places"]]}


@pytest.fixture(params=range(5))
def lists(request):
    """Scores, grades and list of the pairs of some lists."""
    random = torch.Generator().manual_seed(request.param)
    score_B = 3 * torch.randn(sum(SIZES), generator=random)
    grade_B = torch.randint(4, (sum(SIZES),), generator=random).float()
    return score_B, grade_B, torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES))


def of_each_list(make, score_B, label_B, list_B) -> list[float]:
    """Their loss of each list by itself; theirs is otherwise a mean over all pairs of a batch."""
    loss = make(Given(score_B))
    return [
        float(loss([["query"], [torch.flatten((list_B == one).nonzero()).tolist()]], [label_B[list_B == one]]))
        for one in range(len(SIZES))
    ]


def ours_of(loss, score_B, gain_B, list_B) -> list[float]:
    return loss(score_B[:, None], gain_B, list_B).tolist()


def several(gain_B, list_B) -> list[bool]:
    return [bool(gain_B[list_B == one].unique().numel() > 1) for one in range(len(SIZES))]


@pytest.mark.parametrize(("ours", "scheme"), [(LambdaLoss(), "NDCGLoss2PP"), (LambdaLoss(mu=None), "LambdaRank")])
def test_lambda_loss(lists, ours, scheme):
    score_B, grade_B, list_B = lists
    weights = getattr(theirs, f"{scheme}Scheme")()
    expected = of_each_list(lambda model: theirs.LambdaLoss(model, weights), score_B, grade_B, list_B)
    gain_B = 2**grade_B - 1  # theirs of a grade; ours are given
    assert ours_of(ours, score_B, gain_B, list_B) == pytest.approx(expected, abs=1e-5)


def test_rank_net(lists):
    score_B, grade_B, list_B = lists
    expected = of_each_list(lambda model: theirs.RankNetLoss(model, reduction_log="natural"), score_B, grade_B, list_B)
    assert ours_of(RankNet(), score_B, grade_B, list_B) == pytest.approx(expected, abs=1e-5)


def test_list_net(lists):
    score_B, grade_B, list_B = lists
    expected = of_each_list(theirs.ListNetLoss, score_B, grade_B, list_B)
    counted = [loss * counts for loss, counts in zip(expected, several(grade_B, list_B), strict=True)]
    assert ours_of(ListNet(temperature=1.0), score_B, grade_B, list_B) == pytest.approx(counted, abs=1e-5)


def test_margin_mse(lists, monkeypatch):
    monkeypatch.setattr(sys.modules[theirs.MarginMSELoss.__module__], "CrossEncoder", Given)
    score_B, grade_B, list_B = lists
    gain_B = grade_B / 3
    loss = theirs.MarginMSELoss(Given(score_B), activation_fn=nn.Sigmoid())
    expected = []
    for one, counts in enumerate(several(gain_B, list_B)):
        places = torch.flatten((list_B == one).nonzero()).tolist()
        pairs = [(first, second) for first in places for second in places if first < second]
        first, second = zip(*pairs, strict=True)
        margins = gain_B[list(first)] - gain_B[list(second)]
        expected.append(float(loss([["query"] * len(pairs), first, second], margins)) * counts)
    assert ours_of(MarginMSE(), score_B, gain_B, list_B) == pytest.approx(expected, abs=1e-5)


def test_their_scores_differ_so_that_ours_can_fail(lists):
    score_B, grade_B, list_B = lists
    assert not math.isclose(*ours_of(RankNet(), score_B, grade_B, list_B)[:2], rel_tol=1e-3)
