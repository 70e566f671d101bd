"""Product2Brand and Product2Color: who is asked, the table, and the sampled softmax."""

import math

import numpy as np
import pytest
import torch

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.objective.pretext import Product2Brand, Product2Color
from zhichun.objective.pretext.facet import FacetHead, log_uniform, log_uniform_probability
from zhichun.objective.pretext.task import Draw, Sizes
from zhichun.text.document import ProductTexts

DRAW = Draw(seed=0, epoch=0)


class Recorder:
    """A reader that keeps texts as they are."""

    def tokens(self, texts):
        return texts

    def singles(self, tokens):
        return {"texts": np.asarray(tokens)}


class Constant(torch.nn.Module):
    """An encoder that has read one vector everywhere."""

    hidden = 4

    def read(self, batch, *, first_only):
        return torch.linspace(-1, 1, 4).expand(len(batch["input_ids"]), 4)


def products():
    columns = {name: ["", "", "", "Mug", ""] for name in schema.TEXT_COLUMNS}
    columns[schema.TITLE] = ["Shoes", "Socks", "", "Mug", ""]
    columns[schema.BULLETS] = ["soft", "", "light", "big", ""]
    columns[schema.BRAND] = ["Acme"] * 5
    brands, colors = np.asarray([3, 0, 2, 1, 3]), np.asarray([0, 0, 0, 0, 5])
    return ProductTexts(np.arange(5), ["us"] * 5, columns, brands, colors)


def test_known_brands_are_told_from_title_and_bullets():
    arrays = Product2Brand().examples(products(), None, Recorder(), DRAW)
    assert arrays["texts"].tolist() == ["Shoes soft", "light", "Mug big"]
    assert arrays["label"].tolist() == [3, 2, 1]
    assert int(arrays["items"]) == 3


def test_without_a_known_color_there_is_nothing_to_score():
    """The last product has a color and no text."""
    arrays = Product2Color().examples(products(), None, Recorder(), DRAW)
    assert (int(arrays["items"]), len(arrays["texts"]), len(arrays["label"])) == (0, 0, 0)


@pytest.mark.parametrize("locale", ["us", "es", "jp"])
def test_brands_and_colors_of_each_locale_are_asked_for(locale, catalogue, reader):
    texts = catalogue.take(catalogue.of_locale(locale))
    for task, rows in ((Product2Brand(), texts.brands), (Product2Color(), texts.colors)):
        arrays = task.examples(texts, catalogue, reader, DRAW)
        assert arrays["label"].tolist() == [row for row in rows.tolist() if row]
        assert int(arrays["items"]) == len(arrays["input_ids"]) > 10


def head_of(task, rows=50):
    torch.manual_seed(0)
    head = task.head(Constant(), Sizes(brands=rows, colors=rows, pieces=10))
    assert isinstance(head, FacetHead)
    return head


def batch_of(labels):
    ids = torch.zeros(len(labels), 3, dtype=torch.int64)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "label": torch.tensor(labels)}


def test_the_loss_is_the_full_softmax_over_all_but_row_0():
    head = head_of(Product2Brand(size=4), rows=3)
    with torch.no_grad():
        head.table.weight.zero_()
        head.bias.copy_(torch.tensor([100.0, 0.0, math.log(3.0)]))  # row 0 is never told
    outcome = head(Constant(), batch_of([1, 2]))
    assert outcome.loss_N.tolist() == pytest.approx([math.log(4), math.log(4 / 3)])
    assert outcome.right_N.tolist() == [False, True]
    outcome.loss_N.sum().backward()
    assert (head.table.weight.grad[0] == 0).all()
    assert (head.table.weight.grad[1] != 0).any()


def test_the_table_is_taken_out_under_the_name_of_its_id_embedding():
    head = head_of(Product2Color(size=8), rows=5)
    assert head.tables().keys() == {"color"}
    assert head.tables()["color"] is head.table.weight
    assert head.table.weight.shape == (5, 8)
    assert head_of(Product2Brand()).tables()["brand"].shape == (50, 128)


def test_rows_are_drawn_log_uniformly():
    torch.manual_seed(0)
    drawn = torch.bincount(log_uniform(200_000, 9, torch.device("cpu")), minlength=10)
    probability = log_uniform_probability(torch.arange(1, 10), 9)
    assert drawn[0] == 0
    assert probability.sum().item() == pytest.approx(1)
    assert probability[0].item() == pytest.approx(math.log(2) / math.log(10))
    assert (drawn[1:] / 200_000).tolist() == pytest.approx(probability.tolist(), abs=0.004)


def test_the_sampled_sum_is_without_bias_and_its_gradient_near_the_full_one():
    torch.manual_seed(1)
    head = head_of(Product2Brand(size=8, sampled=20))
    with torch.no_grad():
        head.table.weight.normal_(std=0.5)
    batch = batch_of([3, 40])

    def gradient(draws):
        head.zero_grad()
        sums, loss = torch.zeros(2), torch.zeros(())
        for _ in range(draws):
            outcome = head(Constant(), batch)
            loss = loss + outcome.loss_N.sum() / draws
            # loss = log(sum) - z_y, so this is the sum relative to the right one's exponential
            sums += outcome.loss_N.detach().exp() / draws
        loss.backward()
        return sums, head.table.weight.grad.clone()

    full_sum, full = (head.eval(), gradient(1))[1]
    sampled_sum, sampled = (head.train(), gradient(1500))[1]
    assert sampled_sum.tolist() == pytest.approx(full_sum.tolist(), rel=0.03)
    assert torch.nn.functional.cosine_similarity(sampled.flatten(), full.flatten(), dim=0) > 0.98


def test_a_right_entry_that_is_sampled_as_well_counts_once():
    head = head_of(Product2Brand(size=4, sampled=1), rows=3)
    losses = {round(head(Constant(), batch_of([1])).loss_N.item(), 4) for _ in range(30)}
    assert 0.0 in losses  # row 1 was drawn: nothing is left to tell it from
    assert len(losses) == 2


def test_validation_is_against_all_entries():
    head = head_of(Product2Brand(size=4, sampled=1), rows=30).eval()
    assert len({head(Constant(), batch_of([7])).loss_N.item() for _ in range(5)}) == 1
    assert head(Constant(), batch_of([7])).loss_N.item() == pytest.approx(math.log(29), abs=0.5)


def test_tasks_with_nothing_to_learn_are_refused():
    with pytest.raises(UserError, match=r"(?s)no color that occurs twice.*objective\.product2color=null"):
        head_of(Product2Color(), rows=1)
    with pytest.raises(UserError, match=r"(?s)sampled=49 has no effect.*objective\.product2brand\.sampled=null"):
        head_of(Product2Brand(sampled=49))
    with pytest.raises(UserError, match=r"objective\.product2brand=null"):
        Product2Brand(weight=0.0)
