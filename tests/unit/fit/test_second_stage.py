"""The trees and the linear model of the second stage: what they learn, and that they learn the same again."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from zhichun.core import schema
from zhichun.core.tasks import gain_vector, softmax
from zhichun.fit import second_stage as module
from zhichun.fit.second_stage import JudgedCandidates, StackSettings, fit_gain, fit_second_stage
from zhichun.metrics import Judged, nDCG
from zhichun.score import similarity, stacked
from zhichun.score.list_features import Candidates, Corpus
from zhichun.score.similarity import PairVectors, unit
from zhichun.score.stacked import as_gain
from zhichun.text.pairs import PairTexts

CORPUS = Corpus.of([["red shoes", "lamp"]])
SETTINGS = StackSettings(rounds=20, least_pairs=5)


def candidates(queries, each):
    names = [f"query {query}" for query in range(queries) for _ in range(each)]
    titles = [f"product {place}" for _ in range(queries) for place in range(each)]
    return Candidates.read(CORPUS, PairTexts(names, {schema.TITLE: titles}, ["us"] * len(names)))


def judged(queries=60, each=5, seed=0):
    """Pairs whose label is told by the place in the list alone: the best of each is E, wherever the model is sure."""
    random = np.random.default_rng(seed)
    level_Q = random.uniform(0.1, 0.6, (queries, 1))
    sure = (level_Q + random.uniform(0, 0.3, (queries, each))).ravel()
    given = np.stack([sure, (1 - sure) / 2, (1 - sure) / 4, (1 - sure) / 4], axis=1)
    best = sure.reshape(queries, each).argmax(axis=1)
    labels = np.full((queries, each), 3)
    labels[np.arange(queries), best] = 0
    labels[np.arange(queries), (best + 1) % each] = 1
    folds = np.repeat(np.arange(queries) % 5, each)
    return JudgedCandidates(candidates(queries, each), given, labels.ravel(), folds, np.ones(len(folds)))


@pytest.fixture(scope="module")
def stage():
    return fit_second_stage(CORPUS, judged(), SETTINGS)


def test_it_learns_from_the_list_what_a_probability_alone_does_not_say(stage):
    new = judged(seed=1)
    predicted = stage.predict(new.candidates, [new.probabilities_PM])
    lists, is_exact = new.candidates.list_P, new.labels_P == 0
    by_stage, by_model = (
        ((given.argmax(axis=1) == 0) == is_exact).mean() for given in (predicted.probabilities, new.probabilities_PM)
    )
    assert by_stage > 0.97
    assert by_model < 0.7
    ranked = Judged(lists, new.labels_P, scores=predicted.score.astype(float))
    assert nDCG()(ranked) > 0.98, "only where S is cannot be known"
    assert np.corrcoef(predicted.score, gain_vector()[new.labels_P])[0, 1] > 0.95
    assert ((predicted.score >= 0) & (predicted.score <= 1)).all()


def test_the_same_table_and_seed_give_the_same_trees(stage):
    again, other = (
        fit_second_stage(CORPUS, judged(), StackSettings(rounds=20, least_pairs=5, seed=seed)) for seed in (0, 1)
    )
    assert (again.classes, again.ranking, again.slope) == (stage.classes, stage.ranking, stage.slope)
    assert other.classes != stage.classes


def test_outputs_of_the_folds_models_are_averaged_not_their_features(stage):
    new = judged(queries=3, seed=2)
    one, other = new.probabilities_PM, new.probabilities_PM[::-1]
    first, second, both = (stage.predict(new.candidates, given) for given in ([one], [other], [one, other]))
    assert both.probabilities == pytest.approx((first.probabilities + second.probabilities) / 2, abs=1e-6)
    assert both.score == pytest.approx((first.score + second.score) / 2, abs=1e-6)


def test_no_pair_is_no_prediction(stage):
    empty = stage.read(PairTexts([], {}, []))
    assert stage.predict(empty, [np.zeros((0, 4))]).columns()["label"] == []


def test_pairs_of_weight_0_are_members_of_lists_and_not_learnt_from():
    whole = judged()
    wrong = np.where(np.arange(300) % 5 == 0, 2, whole.labels_P)
    weights = (np.arange(300) % 5 > 0).astype(float)
    one, other = (
        fit_second_stage(
            CORPUS, JudgedCandidates(whole.candidates, whole.probabilities_PM, labels, whole.folds_P, weights), SETTINGS
        )
        for labels in (whole.labels_P, wrong)
    )
    assert (one.classes, one.ranking) == (other.classes, other.ranking)


def test_a_group_that_is_left_out_is_in_no_split():
    stage = fit_second_stage(CORPUS, judged(), SETTINGS, left_out=["list", "words"])
    groups = judged().candidates.groups(1)
    for booster in stage.boosters:
        used = {name for name, count in zip(booster.feature_name(), booster.feature_importance(), strict=True) if count}
        assert used
        assert not used & {*groups["list"], *groups["words"]}


def test_the_ranker_learns_the_gains_of_whole_lists():
    stage = fit_second_stage(CORPUS, judged(), StackSettings(rounds=2, least_pairs=5))
    assert "[label_gain: 0,0.01,0.10000000000000001,1]" in stage.ranking
    assert "lambdarank_truncation_level: 5" in stage.ranking


def test_a_ranker_s_output_is_brought_to_gains():
    output = np.random.default_rng(3).normal(size=2000)
    slope, offset = fit_gain(output, as_gain(output, 2.0, -1.0))
    assert (slope, offset) == pytest.approx((2.0, -1.0), abs=1e-2)
    assert fit_gain(output, 1 - as_gain(output, 2.0, 0.0))[0] > 0, "lists are never turned around"


def with_vectors(pairs, seed=0, size=6):
    """Give candidates vectors, of which the label is told by their product alone."""
    random, count = np.random.default_rng(seed), len(pairs.labels_P)
    queries_LD, products_V2D = unit(random.normal(size=(60, size))), unit(random.normal(size=(count, 2, size)))
    list_U, product_U = pairs.candidates.list_P, random.permutation(count)
    vectors = PairVectors(queries_LD, products_V2D, list_U, product_U)
    cosine_P = (queries_LD[list_U] * products_V2D[product_U, 0]).sum(axis=1)
    labels_P = np.digitize(-cosine_P, [-0.4, 0.0, 0.4])
    return replace(pairs, candidates=replace(pairs.candidates, vectors=vectors), labels_P=labels_P)


def test_vectors_are_compared_element_by_element():
    query, (title, whole) = np.array([1.0, 2.0]), np.array([[3.0, 5.0], [7.0, 11.0]])
    vectors = PairVectors(query[None], np.stack([title, whole])[None], np.array([0]), np.array([0]))
    assert vectors.features().tolist() == [[13, 29, 3, 10, 7, 22, 2, 3, 1, 2, 7, 11]]
    weights = np.zeros((13, 4))
    weights[0], weights[-1] = 2, [0, 1, 2, 3]
    assert vectors.linear_logits(weights).tolist() == [[26, 27, 28, 29]]


def test_many_candidates_are_read_in_parts_and_come_out_in_order(monkeypatch):
    vectors, weights = with_vectors(judged()).candidates.vectors, np.random.default_rng(1).normal(size=(33, 4))
    whole = vectors.linear_logits(weights)
    monkeypatch.setattr(similarity, "SOME", 7)
    assert vectors.linear_logits(weights) == pytest.approx(whole, abs=2e-5)


def test_the_linear_model_is_the_penalised_regression_that_scikit_learn_fits():
    pairs = with_vectors(judged())
    stage = fit_second_stage(CORPUS, pairs, SETTINGS)
    features = pairs.candidates.vectors.features()
    scaled = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6) * np.where(np.arange(32) < 2, 10, 1)
    expected = LogisticRegression(C=1 / module.PENALTY, max_iter=1000, tol=1e-8).fit(scaled, pairs.labels_P)
    made = softmax(pairs.candidates.vectors.linear_logits(stage.linear))
    assert made == pytest.approx(expected.predict_proba(scaled), abs=5e-3)
    assert (made.argmax(axis=1) == pairs.labels_P).mean() > 0.6


def test_trees_and_the_linear_model_are_averaged_and_it_can_be_left_out():
    pairs = with_vectors(judged())
    both, trees = (fit_second_stage(CORPUS, pairs, SETTINGS, left_out=names) for names in ([], [module.VECTORS]))
    assert trees.linear is None
    mean, alone = (stage.predict(pairs.candidates, [pairs.probabilities_PM]) for stage in (both, trees))
    said = softmax(pairs.candidates.vectors.linear_logits(both.linear))
    share = stacked.LINEAR_SHARE
    assert mean.probabilities == pytest.approx((1 - share) * alone.probabilities + share * said, abs=1e-6)
    assert mean.score == pytest.approx((1 - share) * alone.score + share * (said @ gain_vector()), abs=1e-6)


def test_the_linear_model_learns_from_no_pair_of_weight_0():
    pairs = with_vectors(judged())
    weights = (np.arange(300) % 5 > 0).astype(float)
    wrong = np.where(weights > 0, pairs.labels_P, 2)
    one, other = (
        fit_second_stage(CORPUS, replace(pairs, labels_P=labels, weights_P=weights), SETTINGS).linear
        for labels in (pairs.labels_P, wrong)
    )
    assert (one == other).all()


def test_scale_and_linear_model_may_be_those_of_another_stage_of_the_same_pairs():
    pairs = with_vectors(judged())
    first = fit_second_stage(CORPUS, pairs, SETTINGS)
    again = fit_second_stage(CORPUS, pairs, SETTINGS, left_out=["words"], like=first)
    assert again.linear is first.linear
    assert (again.slope, again.offset) == (first.slope, first.offset)
    assert again.classes != first.classes or again.ranking != first.ranking
    assert fit_second_stage(CORPUS, pairs, SETTINGS, left_out=[module.VECTORS], like=first).linear is None
