"""The list head: what it reads, what it must not, and that a list of one is the model without it."""

import numpy as np
import pytest
import torch

from zhichun.core.errors import UserError
from zhichun.core.tasks import TASKS
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import open_pairs
from zhichun.fit.train import build_model, make_featurizer
from zhichun.model.relevance_model import ListAttention, ListHead
from zhichun.score import engine as engines
from zhichun.score.torch_engine import TorchEngine, predict, to_tensors


@pytest.fixture
def head() -> ListAttention:
    """A list head whose gate is open, as it is once something was learnt."""
    torch.manual_seed(0)
    made = ListAttention(ListHead(size=8, heads=2), 6)
    torch.nn.init.normal_(made.gate)
    return made


@pytest.fixture(scope="module")
def two_models(tiny_recipe, tiny_dataset):
    """A model with an open list head, the same weights without it, and the pairs of the dataset."""
    dataset = Dataset.open(tiny_dataset)
    listed = tiny_recipe.with_settings(["train.lists=Lists", "model.lists=ListHead"])
    featurizer = make_featurizer(listed.model, dataset)
    torch.manual_seed(0)
    model = build_model(listed.model, featurizer, TASKS["esci"]).eval()
    torch.nn.init.normal_(model.lists.gate)
    plain = build_model(tiny_recipe.model, featurizer, TASKS["esci"]).eval()
    plain.load_state_dict({name: weight for name, weight in model.state_dict().items() if "lists." not in name})
    return model, plain, open_pairs(dataset, featurizer, listed.model.max_length)


def vectors(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))


def test_it_is_attention_over_the_others_worked_out_by_hand():
    head = ListAttention(ListHead(size=1, heads=1), 1)
    for linear, weight in ((head.query, 1.0), (head.key, 1.0), (head.value, 2.0), (head.out, 3.0)):
        torch.nn.init.constant_(linear.weight, weight)
    for linear in (head.query, head.key, head.value):
        torch.nn.init.zeros_(linear.bias)
    torch.nn.init.constant_(head.gate, 0.5)
    found = head(torch.tensor([[1.0], [0.0], [np.log(3.0)], [5.0]]), torch.tensor([0, 0, 0, 1]))
    # The first pair's scores of the others are 0 and ln 3: shares of 1/4 and 3/4 of the values 0 and 2 ln 3.
    assert found[0].item() == pytest.approx(1 + 0.5 * 3 * 0.75 * 2 * np.log(3))
    assert found[3].item() == 5


def test_at_the_start_it_adds_nothing(head):
    torch.nn.init.zeros_(head.gate)
    assert torch.equal(head(vectors(5), torch.tensor([0, 0, 0, 1, 1])), vectors(5))


def test_a_list_of_one_is_left_as_it_is_bit_for_bit(head):
    assert torch.equal(head(vectors(5), torch.arange(5)), vectors(5))
    assert not torch.allclose(head(vectors(5), torch.zeros(5).long()), vectors(5))


def test_the_order_changes_nothing_and_other_lists_neither(head):
    list_B = torch.tensor([0, 0, 0, 0, 1, 1])
    whole = head(vectors(6), list_B)
    order = torch.tensor([4, 2, 0, 5, 3, 1])
    assert torch.allclose(head(vectors(6)[order], list_B[order]), whole[order], atol=1e-6)
    assert torch.allclose(head(vectors(6)[:4], list_B[:4]), whole[:4], atol=1e-6)


def test_each_weight_learns_once_the_gate_is_open(head):
    head(vectors(4), torch.tensor([0, 0, 0, 1])).square().sum().backward()
    assert all(weight.grad.abs().max() > 0 for name, weight in head.named_parameters() if name != "key.bias")


def test_a_model_of_lists_of_one_is_the_model_without_to_the_bit(two_models):
    model, plain, pairs = two_models
    batch = to_tensors(pairs.collate(np.arange(12)), torch.device("cpu"))
    with torch.inference_mode():
        expected = plain(batch)
        assert torch.equal(model(batch), expected)
        assert torch.equal(model({**batch, "list": torch.arange(12)}), expected)
        assert not torch.allclose(model({**batch, "list": torch.zeros(12).long()}), expected, atol=1e-3)


def test_scored_list_of_one_by_one_it_is_the_model_without_to_the_bit(two_models):
    model, plain, pairs = two_models
    for row in range(6):
        assert np.array_equal(predict(model, pairs, np.array([row])), predict(plain, pairs, np.array([row])))


@pytest.mark.parametrize("budget", [64, 4096])
@pytest.mark.parametrize("most", [1, 10_000])
def test_batches_by_length_change_nothing(two_models, budget, most, monkeypatch):
    model, _, pairs = two_models
    monkeypatch.setattr(engines, "PAIRS_AT_ONCE", most)
    monkeypatch.setattr(engines, "LISTED_AT_ONCE", most)
    rows = np.random.default_rng(0).permutation(np.flatnonzero(pairs.lists < 4))
    found = predict(model, pairs, rows, budget=budget)
    batch = {**pairs.collate(rows), "list": pairs.lists[rows].astype(np.int64)}
    with torch.inference_mode():
        expected = model(to_tensors(batch, torch.device("cpu"))).numpy()
    assert len(np.unique(pairs.lists[rows])) == 4
    assert np.abs(found - expected).max() < 1e-5


def test_a_pair_that_is_given_twice_is_one_member(two_models):
    model, _, pairs = two_models
    rows = np.flatnonzero(pairs.lists == 0)
    done = []
    twice = predict(model, pairs, np.concatenate([rows, rows]), progress=done.append)
    assert np.abs(twice - np.tile(predict(model, pairs, rows), (2, 1))).max() < 1e-5
    assert sum(done) == 2 * len(rows)


def test_no_pair_at_all_has_no_logits(two_models):
    assert predict(two_models[0], two_models[2], np.zeros(0, np.int64)).shape == (0, 4)


def test_a_list_that_is_too_long_is_refused(two_models, monkeypatch):
    monkeypatch.setattr(engines, "LONGEST_LIST", 3)
    rows = np.flatnonzero(two_models[2].lists == 0)
    with pytest.raises(UserError, match=r"a model that reads lists takes 3 at most\.\nChoose candidates first"):
        engines.predict_with(TorchEngine.of(two_models[0]), two_models[2], rows)


def test_whole_lists_are_cut_between_lists():
    cut = engines.whole_lists(np.array([0, 0, 0, 1, 2, 2, 5]), 4)
    assert [(part.start, part.stop) for part in cut] == [(0, 4), (4, 7)]
    assert [(part.start, part.stop) for part in engines.whole_lists(np.array([7, 7, 7]), 1)] == [(0, 3)]


def test_heads_that_do_not_divide_the_size_are_refused():
    with pytest.raises(UserError, match=r"model\.lists\.size=9 cannot be shared out to 4 heads"):
        ListHead(size=9)
