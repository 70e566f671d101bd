"""The settings that `docs/integrations.md` has for Elasticsearch and OpenSearch, replayed as the engines use them."""

import json
import re

import elasticsearch_service
import opensearch_connector
import pytest
from integrations_page import ADDRESS, KEY, console
from running_server import DOCUMENTS, QUERY, Running
from running_server import KEY as REAL_KEY

YAML_PRODUCT = "title: Zapatillas 靴\nbrand: Ása\ncolor: Rojo"


@pytest.fixture
def service(running: Running) -> dict:
    """The settings of Elasticsearch's inference endpoint, with the server's address and key."""
    (created, _) = console("Elasticsearch")
    assert created[:2] == ("PUT", "_inference/rerank/zhichun")
    assert created.body["service"] == "custom"
    settings = created.body["service_settings"]
    assert settings["url"] == f"{ADDRESS}/v1/rerank"
    assert settings["secret_parameters"] == {"api_key": KEY}
    settings["secret_parameters"]["api_key"] = REAL_KEY
    return settings


@pytest.fixture
def connector(running: Running) -> dict:
    """The connector of OpenSearch, with the server's address and key."""
    connector = console("OpenSearch")[1]
    assert connector[:2] == ("POST", "_plugins/_ml/connectors/_create")
    (action,) = connector.body["actions"]
    assert action["url"].startswith(ADDRESS)
    action["url"] = action["url"].replace(ADDRESS, running.url)
    assert connector.body["credential"] == {"api_key": KEY}
    connector.body["credential"]["api_key"] = REAL_KEY
    return connector.body


@pytest.mark.parametrize("texts", [DOCUMENTS, DOCUMENTS[:1], ["", *DOCUMENTS]], ids=["many", "one", "an empty one"])
def test_elasticsearch_reads_places_and_scores(service, running, texts):
    headers, body = elasticsearch_service.request(service, QUERY, texts)
    answer = running.post("/v1/rerank", body, headers)
    found, expected = elasticsearch_service.ranked(service, answer), running.ranked(QUERY, texts)
    assert [place for place, _ in found] == [place for place, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-5)
    assert "document" not in json.loads(answer)["results"][0]


def test_opensearch_reads_every_score_as_a_double(connector, running):
    for texts in (DOCUMENTS, DOCUMENTS[:1], [f"shoe {number}" for number in range(20)]):
        url, headers, body = opensearch_connector.request(connector, QUERY, texts)
        assert url == f"{running.url}/v2/rerank"
        found = opensearch_connector.scores(connector, running.post("/v2/rerank", body, headers))
        assert found == pytest.approx(running.predict(QUERY, texts).score.tolist(), abs=1e-5)


def test_a_field_of_yaml_lines_is_read_by_its_fields(service, connector, running):
    texts = [YAML_PRODUCT, "Desk lamp"]
    products = [{"title": "Zapatillas 靴", "brand": "Ása", "color": "Rojo"}, "Desk lamp"]
    expected = running.ranked(QUERY, products)
    headers, body = elasticsearch_service.request(service, QUERY, texts)
    found = elasticsearch_service.ranked(service, running.post("/v1/rerank", body, headers))
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-5)
    _, headers, body = opensearch_connector.request(connector, QUERY, texts)
    scores = opensearch_connector.scores(connector, running.post("/v2/rerank", body, headers))
    assert scores == pytest.approx([score for _, score in sorted(expected)], abs=1e-5)


def test_fields_that_elasticsearch_writes_as_yaml_are_read_by_their_fields(service, running):
    """Of several fields, `RERANK` of ES|QL makes a YAML document; its first line is three dashes."""
    headers, body = elasticsearch_service.request(service, QUERY, ['---\ntitle: "Zapatillas \\"靴\\""\nbrand: "Ása"\n'])
    ((_, score),) = elasticsearch_service.ranked(service, running.post("/v1/rerank", body, headers))
    expected = running.predict(QUERY, [{"title": 'Zapatillas "靴"', "brand": "Ása"}])
    assert score == pytest.approx(expected.score[0], abs=1e-5)


def test_the_search_names_the_endpoint_that_was_made():
    created, search = console("Elasticsearch")
    retriever = search.body["retriever"]["text_similarity_reranker"]
    assert created.path == f"_inference/rerank/{retriever['inference_id']}"


def test_the_pipeline_and_the_search_of_opensearch_name_each_other():
    settings, _, model, pipeline, search = console("OpenSearch")
    (pattern,) = settings.body["persistent"]["plugins.ml_commons.trusted_connector_endpoints_regex"]
    assert re.fullmatch(pattern, f"{ADDRESS}/v2/rerank")
    assert model.body["function_name"] == "remote"
    assert pipeline.path == f"_search/pipeline/{search.path.partition('search_pipeline=')[2]}"


def test_a_server_that_writes_whole_numbers_or_long_ones_would_fail_here(connector):
    """The stand-in is as strict as the engine."""
    for literal in ("1", "0.09383000433444977"):
        answer = f'{{"results": [{{"index": 0, "relevance_score": {literal}}}]}}'
        with pytest.raises(AssertionError):
            opensearch_connector.scores(connector, answer)
    assert opensearch_connector.scores(connector, '{"results": [{"index": 0, "relevance_score": 1.0}]}') == [1.0]
