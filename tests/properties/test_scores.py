"""A score is a function of query, product and locale: nothing else may change it, and no text may break it."""

import copy
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import open_pairs
from zhichun.data.prepare.clean_catalogue import read_catalogue
from zhichun.model.model_folder import TrainedModel
from zhichun.score.job import ScoringJob
from zhichun.score.rank import rank
from zhichun.score.scorer import Scorer
from zhichun.score.torch_engine import TorchEngine, predict
from zhichun.text.clean import clean_text
from zhichun.text.pairs import PairTexts

TOLERANCE = 1e-5
COLUMNS = ["p_E", "p_S", "p_C", "p_I"]


@pytest.fixture(scope="module")
def scorer(tiny_run):
    """A model whose answers differ much from pair to pair, so that what should not matter would be seen."""
    trained = TrainedModel.load(tiny_run / "model")
    model = copy.deepcopy(trained.model)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "head" in name and weight.ndim == 2:
                weight.mul_(8)
    return Scorer(trained.featurizer, trained.settings.max_length, trained.task, TorchEngine.of(model.eval()))


@pytest.fixture(scope="module")
def dataset(tiny_dataset):
    return Dataset.open(tiny_dataset)


@pytest.fixture(scope="module")
def pairs(dataset, scorer):
    return open_pairs(dataset, scorer.featurizer, scorer.max_length)


@pytest.fixture(scope="module")
def logits(scorer, pairs):
    """Every pair by itself, without any padding."""
    made = predict(scorer.engine.model, pairs, np.arange(len(pairs)), budget=1)
    assert made.std(axis=0).min() > 0.3
    return made


@pytest.fixture(scope="module")
def uneven(dataset, scorer, pairs):
    """Pairs of all lengths: the titles are cut after no word, one, two …"""
    titles = [text or "" for batch in dataset.product_batches() for text in batch.column(schema.TITLE).to_pylist()]
    cut = [" ".join(title.split()[: row % 8]) for row, title in enumerate(titles)]
    made = replace(pairs, products=scorer.featurizer.products({schema.TITLE: cut}))
    assert len(set(made.lengths.tolist())) > 15
    return made, predict(scorer.engine.model, made, np.arange(len(made)), budget=1)


@settings(max_examples=25, deadline=None)
@given(places=st.lists(st.integers(0, 999), min_size=1, max_size=60), budget=st.integers(1, 6000))
def test_batch_order_padding_and_company_do_not_change_a_score(scorer, uneven, places, budget):
    pairs, alone = uneven
    rows = np.array(places) % len(pairs)
    scored = predict(scorer.engine.model, pairs, rows, budget=budget)
    assert np.abs(scored - alone[rows]).max() < TOLERANCE


def test_scoring_changes_nothing_in_the_model(scorer, pairs):
    model = scorer.engine.model
    model.train()
    first = predict(model, pairs, np.arange(40))
    assert model.training
    model.eval()
    assert np.array_equal(predict(model, pairs, np.arange(40)), first)
    assert predict(model, pairs, np.arange(0)).shape == (0, 4)


def test_a_product_scores_the_same_by_every_way_in(scorer, dataset, pairs, logits, tiny_dataset, tmp_path):
    """Features on disk; texts; a file with texts; a file with ids and the raw catalogue; a ranking."""
    expected = scorer.task.predict(logits)
    raw = tiny_dataset.parent / "shop" / schema.OFFICIAL_PRODUCTS_FILE
    catalogue = pq.read_table(raw)
    keys = zip(catalogue[schema.LOCALE].to_pylist(), catalogue[schema.PRODUCT_ID].to_pylist(), strict=True)
    row_of = {key: row for row, key in enumerate(keys)}
    examples = dataset.examples.select([schema.QUERY, schema.PRODUCT_ID, schema.LOCALE])
    ids = list(zip(examples[schema.LOCALE].to_pylist(), examples[schema.PRODUCT_ID].to_pylist(), strict=True))
    products = catalogue.take(pa.array([row_of[key] for key in ids]))
    texts = {name: products[name].to_pylist() for name in schema.TEXT_COLUMNS}
    queries, locales = examples[schema.QUERY].to_pylist(), [locale for locale, _ in ids]

    together = scorer.predict(scorer.read(PairTexts(queries, texts, locales)))
    assert np.abs(together.probabilities - expected.probabilities).max() < TOLERANCE

    place = next(place for place, locale in enumerate(locales) if locale == "jp")
    product = {name: texts[name][place] for name in schema.TEXT_COLUMNS}
    alone = scorer.score(queries[place], [product, "another"], locale="jp")
    assert np.abs(alone.probabilities[0] - expected.probabilities[place]).max() < TOLERANCE

    with_texts = examples.drop_columns([schema.PRODUCT_ID])
    for name in schema.TEXT_COLUMNS:
        with_texts = with_texts.append_column(name, products[name])
    pq.write_table(with_texts, tmp_path / "texts.parquet")
    pa.csv.write_csv(with_texts, tmp_path / "texts.csv")
    pa.csv.write_csv(examples, tmp_path / "ids.csv")
    for name, folder in (("texts.parquet", None), ("texts.csv", None), ("ids.csv", raw), ("ids.csv", tiny_dataset)):
        out = tmp_path / "out.parquet"
        job = ScoringJob(scorer, tmp_path / name, out, model_fingerprint="", catalogue=folder, chunk_rows=37)
        assert job.run() == len(ids)
        scored = np.stack([pq.read_table(out)[column].to_numpy() for column in COLUMNS], axis=1)
        assert np.abs(scored - expected.probabilities).max() < TOLERANCE, name

    ranked = rank(scorer, queries[place], read_catalogue(raw), "jp")
    found = next(each for each in ranked if each.product_id == ids[place][1])
    assert found.score == pytest.approx(expected.score[place], abs=TOLERANCE)
    assert found.probabilities == pytest.approx(expected.probabilities[place].tolist(), abs=TOLERANCE)


def test_a_ranking_is_sorted_whole_and_stable(scorer, tiny_dataset):
    products = read_catalogue(tiny_dataset)
    twice = pa.concat_tables([products, products])
    ranked = rank(scorer, "red shoes", twice, "us")
    ids = products.filter(pa.compute.equal(products[schema.LOCALE], "us"))[schema.PRODUCT_ID].to_pylist()
    assert sorted(each.product_id for each in ranked) == sorted(ids * 2)
    scores = [each.score for each in ranked]
    assert scores == sorted(scores, reverse=True)
    alike = [products.slice(3, 1)] * 5
    same = rank(scorer, "q", pa.concat_tables(alike), alike[0][schema.LOCALE][0].as_py())
    assert len({each.score for each in same}) == 1


def test_locale_counts(scorer):
    """The country embedding is read: what is held fixed above is not simply without effect."""
    scores = [scorer.score("red shoes", ["red shoes"], locale=locale).score[0] for locale in ("us", "es", "jp", "de")]
    assert len(set(scores)) == 4
    own = scorer.score("red shoes", [{"title": "red shoes", "locale": "jp"}], locale="us")
    assert own.score[0] == pytest.approx(scores[2], abs=TOLERANCE)


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
NOTHING = st.sampled_from([None, float("nan"), "", " ", "\x00", "<br>", "&nbsp;"])
ODD = st.one_of(
    ANY_TEXT, NOTHING, st.sampled_from(["\ud800", "</s>", "<mask>", "e" + "\u0301" * 30, "\u202e", "🇯🇵", "ﷺ" * 9])
)


def assert_sound(prediction, rows):
    assert prediction.probabilities.shape == (rows, 4)
    assert np.isfinite(prediction.probabilities).all()
    assert np.abs(prediction.probabilities.sum(axis=1) - 1).max(initial=0) < 1e-5
    assert len(prediction.labels) == len(prediction.score) == rows


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(query=ANY_TEXT, products=st.lists(st.fixed_dictionaries(dict.fromkeys(schema.TEXT_COLUMNS, ODD)), max_size=3))
@example(query="", products=[])
@example(query="\x00", products=[dict.fromkeys(schema.TEXT_COLUMNS)])
@example(query="\ud800\udfff", products=[dict.fromkeys(schema.TEXT_COLUMNS, float("nan"))])
def test_no_text_breaks_scoring(scorer, query, products):
    if clean_text(query):
        assert_sound(scorer.score(query, products), len(products))
        return
    with pytest.raises(UserError, match="the query is empty"):
        scorer.score(query, products)
    assert_sound(scorer.score("q", products), len(products))


@pytest.mark.parametrize(
    "text",
    [
        "red running shoes " * 55_000,
        "x" * 1_000_000,
        "赤い靴" * 330_000,
        "<br>&amp;lt;" * 80_000,
        "<" * 300_000,
        "\u0301" * 1_000_000,
    ],
    ids=["words", "one word", "Japanese", "markup", "brackets", "accents"],
)
def test_huge_texts_are_scored(scorer, text):
    assert_sound(scorer.score(text, [{"description": text}]), 1)


def test_what_is_no_text_is_taken_for_what_it_looks_like_or_refused(scorer):
    def score(title):
        return scorer.score("42", [{"title": title}]).score[0]

    assert score(42) == score(42.0) == score("42")
    assert score(None) == score(float("nan")) == score("")
    with pytest.raises(UserError, match=r"product 1: its 'title' is <object .*>, which is no text\.\nGive a text"):
        score(object())
    with pytest.raises(UserError, match=r"product 1 has a field 'titel', which is none\.\nDid you mean 'title'\?"):
        scorer.score("42", [{"titel": "a"}])
