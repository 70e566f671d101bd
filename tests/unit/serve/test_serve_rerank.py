"""The rerank endpoints as each interface calls them, on a running server."""

import json
import urllib.error
import urllib.request

import numpy as np
import pytest

from zhichun.score.scorer import load_scorer

pytest.importorskip("fastapi")
QUERY, TEXTS = "red running shoes", ["Blue hat", "Red running shoes", "Laces for shoes", "Blue hat"]


def post(url, body, **headers):
    """Give status, headers and body of an answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, content, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.status, error.headers, json.loads(error.read())


@pytest.fixture(scope="module")
def expected(tiny_run):
    return load_scorer(tiny_run).score(QUERY, TEXTS)


@pytest.mark.parametrize(("path", "shown"), [("/rerank", True), ("/v1/rerank", True), ("/v2/rerank", False)])
def test_documents_come_back_best_first_with_the_scores_of_the_model(server, expected, path, shown):
    status, _, said = post(server + path, {"model": "any", "query": QUERY, "documents": TEXTS})
    assert status == 200
    assert set(said) == {"id", "model", "results", "usage", "meta"}
    order = np.argsort(-expected.score, kind="stable").tolist()
    found = [each["index"] for each in said["results"]]
    assert sorted(found) == [0, 1, 2, 3]
    for each in said["results"]:
        assert each["relevance_score"] == pytest.approx(expected.score[each["index"]], abs=1e-5)
        assert each["label"] == expected.labels[each["index"]]
        probabilities = list(each["probabilities"].values())
        assert probabilities == pytest.approx(expected.probabilities[each["index"]].tolist(), abs=1e-5)
        assert each.get("document") == ({"text": TEXTS[each["index"]]} if shown else None)
    assert found == order
    assert said["usage"]["total_tokens"] == said["meta"]["tokens"]["input_tokens"] > len(TEXTS)


def test_tei_gets_a_list(server, expected):
    status, _, said = post(server + "/rerank", {"query": QUERY, "texts": TEXTS, "return_text": True})
    assert status == 200
    assert [each["index"] for each in said] == np.argsort(-expected.score, kind="stable").tolist()
    assert [each["text"] for each in said] == [TEXTS[each["index"]] for each in said]
