"""Every client against one running server: the order, the scores, what it does when it is refused."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
from running_server import DOCUMENTS, KEY, MOST_DOCUMENTS, QUERY, Running

Ranked = list[tuple[str, float]]


def by_cohere(url: str, key: str, query: str, texts: Sequence[str], top_n: int) -> Ranked:
    import cohere

    client = cohere.ClientV2(api_key=key, base_url=url)
    results = client.rerank(model="zhichun", query=query, documents=texts, top_n=top_n).results
    return [(texts[result.index], result.relevance_score) for result in results]


def by_cohere_v1(url: str, key: str, query: str, texts: Sequence[str], top_n: int) -> Ranked:
    import cohere

    client = cohere.Client(api_key=key, base_url=url)
    answer = client.rerank(model="zhichun", query=query, documents=texts, top_n=top_n, return_documents=True)
    return [(result.document.text, result.relevance_score) for result in answer.results]


def by_langchain(url: str, key: str, query: str, texts: Sequence[str], top_n: int) -> Ranked:
    from langchain_cohere import CohereRerank
    from langchain_core.documents import Document

    reranker = CohereRerank(model="zhichun", cohere_api_key=key, base_url=url, top_n=top_n)
    documents = reranker.compress_documents([Document(text) for text in texts], query)
    return [(document.page_content, document.metadata["relevance_score"]) for document in documents]


def by_llamaindex(reranker: Any, query: str, texts: Sequence[str]) -> Ranked:
    from llama_index.core.schema import NodeWithScore, TextNode

    nodes = [NodeWithScore(node=TextNode(text=text)) for text in texts]
    return [(node.text, node.score) for node in reranker.postprocess_nodes(nodes, query_str=query)]


def by_llamaindex_tei(url: str, key: str, query: str, texts: Sequence[str], top_n: int) -> Ranked:
    from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

    reranker = TextEmbeddingInference(base_url=url, auth_token=f"Bearer {key}", top_n=top_n)
    return by_llamaindex(reranker, query, texts)


def by_llamaindex_cohere(url: str, key: str, query: str, texts: Sequence[str], top_n: int) -> Ranked:
    from llama_index.postprocessor.cohere_rerank import CohereRerank

    reranker = CohereRerank(base_url=url, api_key=key, model="zhichun", top_n=top_n, max_retries=1)
    return by_llamaindex(reranker, query, texts)


def by_haystack(ranker: Any, query: str, texts: Sequence[str]) -> Ranked:
    from haystack import Document

    documents = ranker.run(query=query, documents=[Document(content=text) for text in texts])["documents"]
    return [(document.content, document.score) for document in documents]


def by_haystack_tei(url: str, key: str, query: str, texts: Sequence[str], top_n: int) -> Ranked:
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker

    return by_haystack(HuggingFaceTEIRanker(url=url, token=Secret.from_token(key), top_k=top_n), query, texts)


def by_haystack_jina(url: str, key: str, query: str, texts: Sequence[str], top_n: int) -> Ranked:
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.jina import JinaRanker

    secret = Secret.from_token(key)
    ranker = JinaRanker(base_url=f"{url}/v1/rerank", api_key=secret, model="zhichun", top_k=top_n)
    return by_haystack(ranker, query, texts)


class Client(NamedTuple):
    """One client; the errors are by the name of their class and what they say."""

    rank: Callable[[str, str, str, Sequence[str], int], Ranked]
    package: str
    when_not_admitted: tuple[str, str]
    when_too_many: tuple[str, str]


UNAUTHORIZED = ("UnauthorizedError", "the API key is missing or wrong")
TOO_LARGE = ("ApiError", f"{MOST_DOCUMENTS + 1} documents are more than {MOST_DOCUMENTS}")
CLIENTS = [
    Client(by_cohere, "cohere", UNAUTHORIZED, TOO_LARGE),
    Client(by_cohere_v1, "cohere", UNAUTHORIZED, TOO_LARGE),
    Client(by_langchain, "langchain_cohere", UNAUTHORIZED, TOO_LARGE),
    Client(by_llamaindex_cohere, "llama_index.postprocessor.cohere_rerank", UNAUTHORIZED, TOO_LARGE),
    Client(
        by_llamaindex_tei,
        "llama_index.postprocessor.tei_rerank",
        ("AssertionError", ""),  # it does not look at the status
        ("AssertionError", ""),
    ),
    Client(
        by_haystack_tei,
        "haystack_integrations.components.rankers.huggingface_api",
        ("RuntimeError", "the API key is missing or wrong"),
        ("RuntimeError", TOO_LARGE[1]),
    ),
    Client(
        by_haystack_jina,
        "haystack_integrations.components.rankers.jina",
        ("RuntimeError", "the API key is missing or wrong"),
        ("RuntimeError", TOO_LARGE[1]),
    ),
]


@pytest.fixture(params=CLIENTS, ids=lambda client: client.rank.__name__)
def client(request: pytest.FixtureRequest) -> Client:
    pytest.importorskip(request.param.package)
    return request.param


def named(error: BaseException) -> tuple[str, str]:
    return type(error).__name__, str(error)


def test_it_gets_the_order_and_the_scores_of_the_scorer(client: Client, running: Running):
    found = client.rank(running.url, KEY, QUERY, DOCUMENTS, len(DOCUMENTS))
    expected = running.ranked(QUERY, DOCUMENTS)
    assert [text for text, _ in found] == [DOCUMENTS[place] for place, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-5)
    assert {type(score) for _, score in found} == {float}


def test_it_gets_as_many_as_it_asks_for(client: Client, running: Running):
    found = client.rank(running.url, KEY, QUERY, DOCUMENTS, 2)
    assert [text for text, _ in found] == [DOCUMENTS[place] for place, _ in running.ranked(QUERY, DOCUMENTS)[:2]]


def test_one_document_is_enough(client: Client, running: Running):
    ((text, _),) = client.rank(running.url, KEY, QUERY, DOCUMENTS[:1], 5)
    assert text == DOCUMENTS[0]


def test_a_wrong_key_is_its_own_error(client: Client, running: Running):
    with pytest.raises(Exception) as caught:
        client.rank(running.url, f"{KEY}-no", QUERY, DOCUMENTS, 2)
    name, said = named(caught.value)
    assert name == client.when_not_admitted[0]
    assert client.when_not_admitted[1] in said


def test_too_many_documents_are_an_error_that_says_how_many(client: Client, running: Running):
    texts = [f"shoe {number}" for number in range(MOST_DOCUMENTS + 1)]
    with pytest.raises(Exception) as caught:
        client.rank(running.url, KEY, QUERY, texts, 2)
    name, said = named(caught.value)
    assert name == client.when_too_many[0]
    assert client.when_too_many[1] in said
