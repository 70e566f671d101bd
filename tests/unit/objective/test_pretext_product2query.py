"""Product2Query: what is cut, what is deleted, and what a false query may not be."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.objective.losses import CrossEntropy, Poly1
from zhichun.objective.pretext import Product2Query
from zhichun.objective.pretext.task import Draw
from zhichun.text.pairs import ProductTexts

DRAW = Draw(seed=0, epoch=0)


class Shop:
    """A catalogue in memory, of titles, brands and colors."""

    def __init__(self, products, locales=None):
        self.products = products
        self.locales = locales or ["us"] * len(products)

    def take(self, rows):
        rows = np.asarray(rows)
        fields = zip(*(self.products[row] for row in rows.tolist()), strict=True) if len(rows) else ((), (), ())
        columns = {name: [""] * len(rows) for name in schema.TEXT_COLUMNS}
        columns |= dict(zip((schema.TITLE, schema.BRAND, schema.COLOR), map(list, fields), strict=True))
        ids = np.zeros(len(rows), np.int64)
        return ProductTexts(rows, [self.locales[row] for row in rows.tolist()], columns, ids, ids)

    def of_locale(self, locale):
        return np.flatnonzero(np.asarray(self.locales) == locale)


class Recorder:
    """A reader that keeps texts as they are: queries beside rows and titles of products."""

    def tokens(self, texts):
        return texts

    def documents(self, texts):
        return list(zip(texts.rows.tolist(), texts.columns[schema.TITLE], strict=True))

    def pairs(self, first, second):
        rows, titles = zip(*second, strict=True) if second else ((), ())
        return {"query": np.asarray(first), "row": np.asarray(rows), "title": np.asarray(titles)}


def examples(task, texts, shop, draw=DRAW):
    return task.examples(texts, shop, Recorder(), draw)


def text_of(shop, row):
    return " ".join(filter(None, shop.products[row])).casefold()


@pytest.fixture(scope="module")
def shop(catalogue):
    """The tiny dataset in memory."""
    texts = catalogue.take(catalogue.rows)
    columns = (texts.columns[name] for name in (schema.TITLE, schema.BRAND, schema.COLOR))
    return Shop(list(zip(*columns, strict=True)), texts.locales)


@pytest.fixture(scope="module", params=["us", "es", "jp"])
def locale(request):
    return request.param


@pytest.fixture(scope="module")
def made(shop, locale):
    rows = shop.of_locale(locale)[:50]
    return rows, examples(Product2Query(), shop.take(rows), shop)


def test_each_product_has_four_queries_and_a_false_one_for_each(made):
    rows, arrays = made
    assert (arrays["label"] == 1).sum() == 4 * len(rows)
    assert (arrays["label"] == 0).sum() == pytest.approx(4 * len(rows), abs=2)
    assert int(arrays["items"]) == len(arrays["label"])


def test_a_true_query_is_of_the_product_s_own_text(made, shop, locale):
    _, arrays = made
    true = arrays["label"] == 1
    lengths, starts = set(), set()
    for row, query in zip(arrays["row"][true].tolist(), arrays["query"][true].tolist(), strict=True):
        text = text_of(shop, row)
        assert all(word in text for word in query.casefold().split())
        lengths.add(len(query))
        starts.add(text.find(query.casefold()))
    assert min(lengths) >= (4 if locale == "jp" else 8) - 2  # outer spaces go
    assert max(lengths) <= 2 * 12 + 1  # two spans, a space apart
    assert len(lengths) > 5
    assert len(starts) > 10  # cut anywhere


def test_a_false_query_is_never_the_product_s_own_text_and_of_its_locale(made, shop, locale):
    _, arrays = made
    others = [text_of(shop, row) for row in shop.of_locale(locale)]
    false = arrays["label"] == 0
    assert false.sum() > 150
    for row, query in zip(arrays["row"][false].tolist(), arrays["query"][false].tolist(), strict=True):
        assert query.casefold() not in text_of(shop, row)
        assert any(all(word in text for word in query.casefold().split()) for text in others)


def test_titles_lose_the_span_half_of_the_time(made, shop):
    _, arrays = made
    true = np.flatnonzero(arrays["label"] == 1)
    whole = shop.take(arrays["row"]).columns[schema.TITLE]
    changed = [place for place in true.tolist() if arrays["title"][place] != whole[place]]
    assert 0.3 < len(changed) / len(true) < 0.6  # some spans lie in brand and color alone
    for place in changed:
        before, query = (text.replace(" ", "") for text in (whole[place], str(arrays["query"][place])))
        left = str(arrays["title"][place]).replace(" ", "")
        assert 0 < len(before) - len(left) <= len(query)


def test_as_released_the_title_stays(shop):
    texts = shop.take(shop.of_locale("us")[:20])
    arrays = examples(Product2Query(delete=None), texts, shop)
    assert set(arrays["title"].tolist()) <= set(texts.columns[schema.TITLE])


def test_a_false_pair_reads_the_title_as_its_true_pair_does(made):
    _, arrays = made
    read = {
        label: Counter(zip(arrays["row"][of].tolist(), arrays["title"][of].tolist(), strict=True))
        for label in (1, 0)
        for of in [arrays["label"] == label]
    }
    assert not read[0] - read[1]
    assert (read[1] - read[0]).total() == read[1].total() - read[0].total() <= 2


def test_products_that_look_alike_get_no_false_query_or_another_s():
    twins = [("Red running shoes", "Acme", "red"), ("RED RUNNING SHOES", "Acme", "Red")]
    shop = Shop(twins)
    arrays = examples(Product2Query(), shop.take([0, 1]), shop)
    assert arrays["label"].tolist() == [1] * 8
    shop = Shop([*twins, ("Blue garden hose 20 metres", "", "")])
    arrays = examples(Product2Query(), shop.take([0]), shop)
    false = arrays["query"][arrays["label"] == 0]
    assert len(false) > 0
    assert all(word in "Blue garden hose 20 metres" for query in false for word in query.split())


def test_false_queries_are_not_of_another_locale():
    products = [("Red running shoes", "", ""), ("Zapatillas rojas", "", ""), ("Vaso de cristal", "", "")]
    shop = Shop(products, ["us", "es", "es"])
    assert examples(Product2Query(), shop.take([0]), shop)["label"].tolist() == [1] * 4
    arrays = examples(Product2Query(), shop.take([1]), shop)
    assert all(query in products[2][0] for query in arrays["query"][arrays["label"] == 0].tolist() if len(query) > 12)
    assert (arrays["label"] == 0).any()


@pytest.mark.parametrize("loss", [Poly1(), Poly1(epsilon=2.0), CrossEntropy()])
def test_pairs_are_scored_by_the_loss_of_the_settings(loss):
    class Vectors(nn.Module):
        hidden = 2

        def read(self, batch, *, first_only):
            return torch.tensor([[0.3, -0.2], [1.0, 0.4], [-0.7, 0.1]])

    head = Product2Query(loss=loss, dropout=0.0).head(Vectors(), None)
    label = torch.tensor([1, 0, 1])
    ids = torch.ones(3, 1, dtype=torch.int64)
    outcome = head(Vectors(), {"input_ids": ids, "attention_mask": ids, "label": label})
    p = head.classes(Vectors().read(None, first_only=True)).softmax(dim=1)[torch.arange(3), label]
    epsilon = getattr(loss, "epsilon", 0.0)
    assert outcome.loss_N.tolist() == pytest.approx((-p.log() + epsilon * (1 - p)).tolist(), rel=1e-5)
    assert Product2Query().loss == Poly1(epsilon=1.0)


def test_products_without_a_title_or_with_a_short_one_give_none():
    products = [("", "Acme Incorporated", "red"), ("Mug", "", "red"), ("マグカップ", "", ""), ("Mugs", "Acme", "")]
    shop = Shop(products, ["us", "us", "jp", "us"])
    arrays = examples(Product2Query(), shop.take([0, 1]), shop)
    assert (int(arrays["items"]), len(arrays["label"])) == (0, 0)
    arrays = examples(Product2Query(delete=None), shop.take([0, 1, 2, 3]), shop)
    assert set(arrays["title"][arrays["label"] == 1].tolist()) == {"マグカップ", "Mugs"}


def test_a_product_s_pairs_are_the_same_in_whatever_batch(shop):
    def pairs(rows, draw=DRAW):
        arrays = examples(Product2Query(), shop.take(rows), shop, draw)
        found = zip(*(arrays[name].tolist() for name in ("row", "query", "title", "label")), strict=True)
        return sorted(pair for pair in found if pair[0] == rows_of_locale[2])

    rows_of_locale = shop.of_locale("us")[:8]
    alone = pairs(rows_of_locale[2:3])
    assert len(alone) == 8
    assert pairs(rows_of_locale) == pairs(rows_of_locale[::-1]) == alone
    assert pairs(rows_of_locale[2:3], Draw(seed=0, epoch=1)) != alone


@pytest.mark.parametrize("settings", [{"mean": 0.0}, {"draws": 0}, {"delete": 0.0}, {"weight": 0.0}])
def test_settings_that_make_nothing_are_refused(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        Product2Query(**settings)
