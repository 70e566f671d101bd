"""Products are read once: the cache gives what the featurizer gives, stays within its bound, and tells texts apart."""

import numpy as np
import pytest

from zhichun.core import schema
from zhichun.data.dataset import Dataset
from zhichun.model.model_folder import TrainedModel
from zhichun.score.scorer import Scorer
from zhichun.text.features import CachingFeaturizer, FeatureCache, Featurizer


@pytest.fixture
def featurizer(tiny_run):
    return TrainedModel.load(tiny_run / "model").featurizer


@pytest.fixture
def products(tiny_dataset):
    batch = next(iter(Dataset.open(tiny_dataset).product_batches())).slice(0, 40)
    return {name: batch.column(name).to_pylist() for name in schema.TEXT_COLUMNS}


def rows(features):
    """All features, product by product."""
    bags = (features.tokens, features.trigrams, features.description_trigrams)
    return [
        (*(bag[row].tolist() for bag in bags), int(features.brand[row]), int(features.color[row]))
        for row in range(len(features.tokens))
    ]


def taken(products, places):
    return {name: [texts[place] for place in places] for name, texts in products.items()}


def test_it_gives_what_the_featurizer_gives_whatever_is_known_already(featurizer, products):
    cached = CachingFeaturizer.of(featurizer)
    for places in ([3, 1, 3], [1, 2, 0], list(range(40)), [39, 5]):
        expected = rows(featurizer.products(taken(products, places)))
        assert rows(cached.products(taken(products, places))) == expected
    assert len(cached.cache) == 40
    assert cached.fingerprint == featurizer.fingerprint


def test_a_known_product_is_not_read_again(featurizer, products, monkeypatch):
    cached = CachingFeaturizer.of(featurizer)
    cached.products(products)
    monkeypatch.setattr(type(featurizer), "products", None)
    assert len(cached.products(products).tokens) == 40


def test_it_stays_within_its_bound_and_drops_what_was_asked_for_least_recently(featurizer, products, monkeypatch):
    whole = CachingFeaturizer.of(featurizer)
    whole.products(products)
    cached = CachingFeaturizer.of(featurizer, most_bytes=whole.cache.bytes // 2)
    for place in (*range(20), 0, *range(20, 40)):
        cached.products(taken(products, [place]))
        assert cached.cache.bytes <= cached.cache.most_bytes
    assert 10 < len(cached.cache) < 30
    monkeypatch.setattr(type(featurizer), "products", None)  # what reads a product anew
    cached.products(taken(products, [39]))
    with pytest.raises(TypeError):
        cached.products(taken(products, [1]))


def test_products_larger_than_the_cache_are_read_all_the_same(featurizer, products):
    cached = CachingFeaturizer.of(featurizer, most_bytes=10)
    assert rows(cached.products(products)) == rows(featurizer.products(products))
    assert len(cached.cache) == cached.cache.bytes == 0


def test_texts_do_not_flow_into_the_next_field(featurizer):
    cached = CachingFeaturizer.of(featurizer)
    for title, brand in (("red", "shoes"), ("redshoes", ""), ("", "redshoes"), (None, "redshoes")):
        given = {schema.TITLE: [title], schema.BRAND: [brand]}
        assert rows(cached.products(given)) == rows(featurizer.products(given))
    assert len(cached.cache) == 3, "nothing and an empty text are the same"
    assert FeatureCache().get([b""]) == {}


def test_a_scorer_that_remembers_scores_the_same_and_reads_nothing_twice(tiny_run, monkeypatch):
    scorer = Scorer.load(tiny_run, device="cpu")
    remembering = scorer.remembering()
    texts = ["red running shoes", "usb cable", "red running shoes"]
    expected = scorer.score("red shoes", texts).probabilities
    assert np.array_equal(remembering.score("red shoes", texts).probabilities, expected)
    monkeypatch.setattr(Featurizer, "products", None)
    assert np.array_equal(remembering.score("red shoes", texts).probabilities, expected)
