"""Our metrics equal scikit-learn's and trec_eval's to 1e-9 on random input."""

import numpy as np
import pytest
import pytrec_eval
import sklearn.metrics

from zhichun.core.schema import GAINS, LABELS
from zhichun.metrics import F1, MRR, Judged, LogLoss, MacroF1, MicroF1, Precision, class_scores, confusion, nDCG

SAME = {"rel": 0, "abs": 1e-9}


@pytest.fixture
def generator():
    return np.random.default_rng(20220817)


def random_pairs(generator, queries=60, longest=40):
    """Lists of 2 to `longest` documents, each query with its own share of Exact."""
    lengths = generator.integers(2, longest + 1, size=queries)
    query = np.repeat(np.arange(queries), lengths)
    exact = generator.random(queries)[query]
    labels = np.where(generator.random(len(query)) < exact, 0, generator.integers(0, 4, len(query)))
    labels[query == 0] = 3  # a query without gain
    return query, labels


@pytest.mark.parametrize("gains", GAINS)
@pytest.mark.parametrize("k", [None, 1, 5, 100])
@pytest.mark.parametrize("levels", [2, 10, 10**6])
def test_ndcg_equals_scikit_learn_with_ties(generator, gains, k, levels):
    query, labels = random_pairs(generator)
    scores = generator.integers(levels, size=len(query)) / levels
    values = nDCG(gains, k=k).per_query(Judged(query, labels, scores))[1]
    gain = np.array([GAINS[gains][label] for label in LABELS])[labels]
    for index, value in enumerate(values):
        rows = query == index
        assert value == pytest.approx(sklearn.metrics.ndcg_score([gain[rows]], [scores[rows]], k=k), **SAME)


def as_trec(query, document, values):
    nested = {}
    for one_query, one_document, value in zip(query.tolist(), document.tolist(), values.tolist(), strict=True):
        nested.setdefault(f"q{one_query}", {})[f"d{one_document}"] = value
    return nested


def test_ranking_metrics_equal_trec_eval_on_a_partial_run_with_unjudged_documents(generator):
    query, labels = random_pairs(generator)
    document = generator.permutation(len(query))
    # The run drops a third of the pairs and three whole queries, and adds documents that nobody judged, in known and
    # unknown queries. trec_eval breaks ties by document id, so there are none here.
    kept = (generator.random(len(query)) < 2 / 3) & ~np.isin(query, [7, 8, 9])
    run_query = np.concatenate([query[kept], generator.integers(10, 70, size=200)])
    run_document = np.concatenate([document[kept], len(query) + np.arange(200)])
    run_scores = generator.permutation(len(run_query)).astype(float)
    scores = np.full(len(query), np.nan)
    scores[kept] = run_scores[: kept.sum()]
    unjudged = np.flatnonzero((np.arange(len(run_query)) >= kept.sum()) & (run_query < 60))
    pairs = Judged(
        np.concatenate([query, run_query[unjudged]]),
        np.concatenate([labels, np.full(len(unjudged), -1)]),
        np.concatenate([scores, run_scores[unjudged]]),
    )

    measures = {"ndcg", "ndcg_cut.5,10", "recip_rank", "P.5,10"}
    run = as_trec(run_query, run_document, run_scores)
    integer_gains = np.array([100, 10, 1, 0])[labels]
    graded = pytrec_eval.RelevanceEvaluator(as_trec(query, document, integer_gains), measures).evaluate(run)
    exact = as_trec(query, document, (labels == 0).astype(int))
    binary = pytrec_eval.RelevanceEvaluator(exact, measures).evaluate(run)

    for metric, theirs, name in [
        (nDCG(), graded, "ndcg"),
        (nDCG() @ 5, graded, "ndcg_cut_5"),
        (nDCG() @ 10, graded, "ndcg_cut_10"),
        (MRR(), binary, "recip_rank"),
        (Precision() @ 5, binary, "P_5"),
        (Precision() @ 10, binary, "P_10"),
    ]:
        queries, values = metric.per_query(pairs)
        assert len(queries) == 60
        expected = [theirs.get(f"q{one}", {name: 0.0})[name] for one in queries]
        assert values == pytest.approx(expected, **SAME), name
        assert metric(pairs) == pytest.approx(np.mean(expected), **SAME)


@pytest.mark.parametrize("present", [LABELS, ("E", "S", "I"), ("E",)])
def test_classification_equals_scikit_learn(generator, present):
    codes = [LABELS.index(label) for label in present]
    labels, predictions = generator.choice(codes, size=(2, 500))
    pairs = Judged(np.arange(500), labels, predictions=predictions)
    every = {"labels": range(4), "zero_division": 0}
    precision, recall, f1, support = sklearn.metrics.precision_recall_fscore_support(labels, predictions, **every)
    scores = class_scores(confusion(pairs))

    np.testing.assert_array_equal(
        confusion(pairs), sklearn.metrics.confusion_matrix(labels, predictions, labels=range(4))
    )
    assert scores.precision == pytest.approx(precision, **SAME)
    assert scores.recall == pytest.approx(recall, **SAME)
    assert scores.f1 == pytest.approx(f1, **SAME)
    assert scores.support.tolist() == support.tolist()
    assert [F1(label)(pairs) for label in LABELS] == pytest.approx(f1, **SAME)
    for metric, average in ((MicroF1(), "micro"), (MacroF1(), "macro")):
        theirs = sklearn.metrics.f1_score(labels, predictions, average=average, **every)
        assert metric(pairs) == pytest.approx(theirs, **SAME)


@pytest.mark.parametrize("classes", [2, 4])
def test_calibration_equals_scikit_learn(generator, classes):
    labels = generator.integers(classes, size=500)
    probabilities = generator.dirichlet(np.full(classes, 0.5), size=500)
    pairs = Judged(np.arange(500), labels, probabilities=probabilities, classes=tuple("abcd"[:classes]))
    theirs = sklearn.metrics.log_loss(labels, probabilities, labels=range(classes))
    assert LogLoss()(pairs) == pytest.approx(theirs, **SAME)
