"""Product2Brand and Product2Color: who is asked, and the table."""

import math

import numpy as np
import pytest
import torch

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.objective.pretext import Product2Brand, Product2Color
from zhichun.objective.pretext.product2facet import FacetHead
from zhichun.objective.pretext.task import Draw, Sizes
from zhichun.text.pairs import ProductTexts

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
    head = task.head(Constant(), Sizes(brands=rows, colors=rows))
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


def test_tasks_with_nothing_to_learn_are_refused():
    with pytest.raises(UserError, match=r"(?s)no color that occurs twice.*objective\.product2color=null"):
        head_of(Product2Color(), rows=1)
    with pytest.raises(UserError, match=r"objective\.product2brand=null"):
        Product2Brand(weight=0.0)
