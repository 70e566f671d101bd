"""What the second stage reads of a candidate: each feature by hand, and what it must not read."""

import math

import numpy as np
import pytest

from zhichun.core import schema
from zhichun.score.list_features import (
    K1,
    TEXT_FEATURES,
    B,
    Candidates,
    Corpus,
    beside_list,
    compared,
    measures,
    product_side,
)
from zhichun.text.pairs import PairTexts

CORPUS = Corpus.of([["red shoes nike", "blue shoes"], ["red lamp", "desk lamp lamp"]])


def read(queries, titles, own=(), locales=None, **columns):
    products = {schema.TITLE: titles, **columns}
    return Candidates.read(CORPUS, PairTexts(queries, products, locales or ["us"] * len(queries)), own)


def feature(candidates, name):
    """One feature of the texts for each pair; a model that says nothing stands beside it."""
    features = candidates.features(np.full((len(candidates.place_P), 4), 0.25))
    names = [name for group in candidates.groups(1).values() for name in group]
    assert features.shape[1] == len(names) == len(set(names))
    return features[:, names.index(name)].tolist()


def test_the_list_is_its_minimum_median_maximum_gap_and_share_with_ties_averaged():
    low, middle, high, gap, share = (
        part[:, 0].tolist() for part in beside_list(np.array([[0.6], [0.2], [1.0], [0.6]]))
    )
    assert (low, middle, high) == ([0.2] * 4, [0.6] * 4, [1.0] * 4)
    assert gap == pytest.approx([0.4, 0.8, 0.0, 0.4])
    assert share == [0.5, 0.0, 1.0, 0.5], "the two in the middle are above one and a half of three others"
    assert beside_list(np.array([[0.1], [0.4], [0.3]]))[1][:, 0].tolist() == [0.3] * 3


def test_spellings_of_a_query_are_one_list():
    candidates = read(["red lamp", " Red  LAMP", "red lamp"], ["lamp", "red lamp", "table"])
    assert len(candidates.lists) == 1
    lamp, red_lamp, table = feature(candidates, "bm25_share")
    assert 1 == red_lamp > lamp > table == 0, "the lamp of one spelling is beside that of the other"
    twice, said = (["red lamp", "RED lamp"], ["lamp", "lamp"]), np.array([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]])
    assert np.array_equal(read(*twice).features(said), read(twice[0][::-1], twice[1]).features(said[::-1]), True)


def test_a_list_of_one_is_the_best_of_its_list():
    assert [part.item() for part in beside_list(np.array([[0.3]]))] == [0.3, 0.3, 0.3, 0.0, 1.0]


def test_shares_equal_those_that_are_counted_pair_by_pair():
    values = np.random.default_rng(0).integers(0, 5, (40, 3)) / 4
    below, ties = values[None] < values[:, None], values[None] == values[:, None]
    expected = (below.sum(axis=1) + (ties.sum(axis=1) - 1) / 2) / 39
    assert beside_list(values)[-1] == pytest.approx(expected)


def test_bm25_is_that_of_lucene():
    mean = (3 + 2 + 2 + 3) / 4
    assert (CORPUS.documents, CORPUS.mean_length) == (4, mean)
    assert CORPUS.counts == {"lamp": 2, "red": 2, "shoes": 2}, "a term of one document is not kept"
    candidates = read(["red lamp nike"] * 2, ["lamp lamp", "table"])
    weight = math.log(1 + (4 - 2 + 0.5) / (2 + 0.5))
    expected = weight * 2 / (2 + K1 * (1 - B + B * 2 / mean))
    assert feature(candidates, "bm25") == pytest.approx([expected, 0])
    assert feature(candidates, "bm25_share") == pytest.approx([1, 0])
    rare = math.log(1 + (4 - 1 + 0.5) / (1 + 0.5))
    assert feature(candidates, "weighted_coverage") == pytest.approx([weight / (2 * weight + rare), 0])


def test_words_of_the_query_are_looked_for_in_the_title_and_in_all_texts():
    candidates = read(["red shoes"], ["Shoes"], **{schema.DESCRIPTION: ["in Red"]})
    assert feature(candidates, "coverage") == [1.0]
    assert feature(candidates, "title_coverage") == [0.5]
    # "red shoes" is cut into red, ed, d s, sh, sho, hoe, oes: three of the seven are in "shoes".
    assert feature(candidates, "trigram_overlap") == pytest.approx([3 / 7])
    assert feature(candidates, "query_words") == [2]
    assert feature(candidates, "title_words") == [1]
    assert feature(candidates, "document_words") == [3]


def test_a_brand_or_color_is_named_or_another_of_the_list_is():
    brands, colors = ["Nike", "Adidas", None, "NULL"], ["red", "Red!", "blue", ""]
    candidates = read(["nike shoes RED"] * 4, list("abcd"), **{schema.BRAND: brands, schema.COLOR: colors})
    assert feature(candidates, "brand_named") == pytest.approx([1, 0, np.nan, np.nan], nan_ok=True)
    assert feature(candidates, "brand_of_another") == [0, 1, 1, 1]
    assert feature(candidates, "color_named") == pytest.approx([1, 1, 0, np.nan], nan_ok=True)
    japanese = read(["ナイキ靴"], ["a"], **{schema.BRAND: ["ナイキ"]})
    assert feature(japanese, "brand_named") == [1], "no space is needed where none is written"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('10.5" tablet 64GB', {(10.5, "inch"), (64, "gb")}),
        ("10,5 inches, 2-pack", {(10.5, "inch"), (2, "piece")}),
        ("iPhone 12 case", {(12, "")}),
        ("shirt Size Large", {(0, "size l")}),
        ("size 9 shoes", {(9, "size"), (9, "")}),
        ("m8x20", set()),
        ("no number", set()),
    ],
)
def test_measures(text, expected):
    assert measures(text) == expected


@pytest.mark.parametrize(
    ("query", "product", "agrees", "contradicts"),
    [
        ("64 gb phone", "phone 64GB", 1, 0),
        ("64 gb phone", "phone 128GB", 0, 1),
        ("64 gb phone", "phone", 0, 0),
        ("64 gb phone 6 inch", "phone 64gb 5 inch", 0.5, 0.5),
        ("iphone 12", "iphone 13", 0, 1),
        ("shirt xl", "levi's shirt size m", 0, 1),
        ("phone", "phone 64gb", np.nan, np.nan),
    ],
)
def test_numbers_agree_or_contradict(query, product, agrees, contradicts):
    assert compared(measures(query), measures(product)) == pytest.approx((agrees, contradicts), nan_ok=True)


def test_a_product_of_usual_length_is_remembered_and_a_long_one_takes_no_memory():
    short, long = (("red shoe", description, "", "", "") for description in ("warm", "warm " * 1000))
    assert product_side(short) is product_side(short)
    assert product_side(long) is not product_side(long)
    assert product_side(long).words == 1002


def test_own_columns_are_read_as_they_are_and_as_a_share_of_the_list():
    candidates = read(["a"] * 4, list("wxyz"), ("price",), price=["10", "30.5", None, "cheap"])
    assert feature(candidates, "price") == pytest.approx([10, 30.5, np.nan, np.nan], nan_ok=True)
    assert feature(candidates, "price_share") == pytest.approx([2 / 3, 1, np.nan, np.nan], nan_ok=True)
    without = read(["a"] * 2, list("wx"), ("price",), price=[None, "?"])  # of which nothing warns
    assert np.isnan(feature(without, "price_share")).all()


def test_a_list_is_of_one_query_and_locale_and_each_product_counts_once():
    candidates = read(["a", "b", "a", "a", "a"], ["x", "x", "y", "x", "x"], locales=["us", "us", "us", "us", "jp"])
    assert candidates.place_P.tolist() == [0, 1, 2, 0, 3]
    assert [list_N.tolist() for list_N in candidates.lists] == [[0, 2], [1], [3]]
    assert candidates.list_P.tolist() == [0, 1, 0, 0, 2]
    assert feature(candidates, "locale") == [0, 0, 0, 0, 2]


def test_neither_the_order_of_rows_nor_a_second_copy_changes_a_feature():
    random = np.random.default_rng(1)
    queries, titles = ["red shoes"] * 6 + ["lamp"] * 3, [f"red {word}" for word in "abcdefghi"]
    given = random.dirichlet(np.ones(4), 9)
    expected = read(queries, titles).features(given)
    order = np.append(random.permutation(9), 4)
    shuffled = read([queries[row] for row in order], [titles[row] for row in order])
    assert shuffled.features(given[order]).tobytes() == expected[order].tobytes()


def test_lists_of_another_length_with_the_same_extremes_and_median_differ_in_shares_alone():
    """What is no feature: the number of candidates, an id, a row."""
    short, long = read(["a"] * 3, list("xyz")), read(["a"] * 5, list("xyzvw"))
    given = np.array([0.1, 0.5, 0.9, 0.5, 0.5])[:, None] * np.ones(4)
    names = [name for group in short.groups(1).values() for name in group]
    one, other = short.features(given[:3]), long.features(given)[:3]
    assert [
        name for name, same in zip(names, np.isclose(one, other, equal_nan=True).all(axis=0), strict=True) if not same
    ] == []
    known = {name for names in TEXT_FEATURES.values() for name in names}
    assert not {name for name in known if "size" in name or "id" in name.split("_") or "version" in name}


def test_selecting_whole_lists_is_reading_them_alone():
    queries, titles = ["a", "b", "a", "c"], list("wxyz")
    given = np.random.default_rng(2).dirichlet(np.ones(4), 4)
    chosen = np.array([2, 3, 0])
    selected = read(queries, titles).select(chosen)
    alone = read([queries[row] for row in chosen], [titles[row] for row in chosen])
    assert selected.features(given[chosen]).tobytes() == alone.features(given[chosen]).tobytes()
    assert np.unique(selected.list_P).tolist() == [0, 1]


def test_several_models_stand_beside_each_other():
    candidates = read(["a"] * 2, list("xy"))
    groups = candidates.groups(2)
    assert groups["probabilities"][:5] == ["model1_p_E", "model1_p_S", "model1_p_C", "model1_p_I", "model2_p_E"]
    features = candidates.features(np.array([[0.1, 0.2, 0.3, 0.4, 0.4, 0.3, 0.2, 0.1], [0.25] * 8]))
    names = [name for group in groups.values() for name in group]
    assert features[:, names.index("model2_p_E_share")].tolist() == [1.0, 0.0]
    assert features[0, names.index("model1_p_I_gap")] == 0


def test_what_is_read_alike_is_one_candidate():
    titles, brands = ["red lamp", "red<br>lamp", "red\u200b  lamp", "lamp"], [None, "N/A", "", None]
    prices = ["10", "10.0", " 1e1", "5"]
    candidates = read(["red lamp"] * 4, titles, ("price",), **{schema.BRAND: brands}, price=prices)
    assert candidates.place_P.tolist() == [0, 0, 0, 1]
    assert feature(candidates, "price_share") == [1, 1, 1, 0]
    assert read(["lamp"] * 2, ["lamp", "Lamp"]).place_P.tolist() == [0, 1], "a model may read case"
