"""What Cohere's SDK, and LangChain on top of it, do beyond a list of texts."""

import asyncio

import pytest
from running_server import DOCUMENTS, KEY, QUERY

cohere = pytest.importorskip("cohere")
PRODUCT = {"title": 'Zapatillas: 靴 👟 "rojas"', "brand": "Ása", "color": "Rojo # vivo", "bullets": "word " * 40}


@pytest.fixture
def client(running):
    return cohere.ClientV2(api_key=KEY, base_url=running.url)


def test_label_and_probabilities_are_attributes_of_a_result(client, running):
    results = client.rerank(model="any", query=QUERY, documents=DOCUMENTS).results
    expected = running.predict(QUERY, DOCUMENTS)
    assert len(results) == len(DOCUMENTS)
    for result in results:
        assert result.label == expected.labels[result.index]
        assert list(result.probabilities) == list(expected.task.classes)
        by_scorer = expected.probabilities[result.index].tolist()
        assert list(result.probabilities.values()) == pytest.approx(by_scorer, abs=1e-5)


def test_what_the_sdk_knows_of_the_answer_is_there(client):
    answer = client.rerank(model="any", query=QUERY, documents=DOCUMENTS)
    assert answer.id
    assert answer.meta.api_version.version == "2"
    assert answer.meta.tokens.input_tokens > len(DOCUMENTS)
    assert answer.meta.warnings is None


def test_the_locale_goes_into_the_body(client, running):
    options = {"additional_body_parameters": {"locale": "jp"}}
    results = client.rerank(model="any", query=QUERY, documents=DOCUMENTS, request_options=options).results
    expected = running.ranked(QUERY, DOCUMENTS, "jp")
    assert [result.relevance_score for result in results] == pytest.approx([score for _, score in expected], abs=1e-5)
    assert expected[0][1] != pytest.approx(running.ranked(QUERY, DOCUMENTS, "us")[0][1], abs=1e-5)


def test_many_requests_at_once_get_each_its_own_answer(running):
    queries = [f"{QUERY} {number}" for number in range(12)]

    async def ask():
        async with cohere.AsyncClientV2(api_key=KEY, base_url=running.url) as client:
            asked = [client.rerank(model="any", query=query, documents=DOCUMENTS) for query in queries]
            return await asyncio.gather(*asked)

    for query, answer in zip(queries, asyncio.run(ask()), strict=True):
        found = [(result.index, result.relevance_score) for result in answer.results]
        expected = running.ranked(query, DOCUMENTS)
        assert [place for place, _ in found] == [place for place, _ in expected]
        assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-5)


@pytest.mark.parametrize(
    ("body", "error", "status"),
    [
        ({"query": " ", "documents": ["shoe"]}, cohere.UnprocessableEntityError, 422),
        ({"query": "shoe", "documents": ["shoe"], "top_n": -1}, cohere.UnprocessableEntityError, 422),
        ({"query": "shoe", "documents": []}, cohere.BadRequestError, 400),
    ],
)
def test_a_bad_request_is_the_sdks_error(client, body, error, status):
    with pytest.raises(error) as caught:
        client.rerank(model="any", **body)
    assert caught.value.status_code == status
    assert caught.value.body["message"]


def test_a_deadline_is_its_timeout_error_or_the_incoming_order(client):
    headers = {"X-Request-Timeout": "0.000001"}
    options = {"additional_headers": headers, "max_retries": 0}
    with pytest.raises(cohere.GatewayTimeoutError):
        client.rerank(model="any", query="not asked before", documents=DOCUMENTS, request_options=options)
    headers["X-On-Timeout"] = "incoming-order"
    answer = client.rerank(model="any", query="not asked before, too", documents=DOCUMENTS, request_options=options)
    assert [result.index for result in answer.results] == list(range(len(DOCUMENTS)))
    assert answer.meta.order == "incoming"
    assert answer.meta.warnings


@pytest.mark.parametrize("extra", [{}, {"color": None}, {"locale": "jp"}], ids=str)
def test_langchain_sends_dictionaries_which_are_read_by_their_fields(extra, running):
    langchain = pytest.importorskip("langchain_cohere")
    products = [{**PRODUCT, **extra}, {"title": "Desk lamp", "description": "yes"}, "Running shoes"]
    reranker = langchain.CohereRerank(model="any", cohere_api_key=KEY, base_url=running.url, top_n=None)
    found = [(result["index"], result["relevance_score"]) for result in reranker.rerank(products, QUERY)]
    expected = running.ranked(QUERY, products)
    assert [place for place, _ in found] == [place for place, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-5)
    as_text = running.predict(QUERY, [str(PRODUCT["title"])]).score[0]
    assert dict(found)[0] != pytest.approx(as_text, abs=1e-5)  # the fields beside the title count


def test_langchains_rank_fields_leave_out_what_the_model_does_not_know(running):
    langchain = pytest.importorskip("langchain_cohere")
    reranker = langchain.CohereRerank(model="any", cohere_api_key=KEY, base_url=running.url, top_n=None)
    given = [{**PRODUCT, "price": 60}]
    ((_, whole),) = [result.values() for result in reranker.rerank(given, QUERY)]
    ((_, known),) = [result.values() for result in reranker.rerank(given, QUERY, rank_fields=list(PRODUCT))]
    assert known == pytest.approx(running.ranked(QUERY, [PRODUCT])[0][1], abs=1e-5)
    assert whole != pytest.approx(known, abs=1e-5)
