"""What `docs/integrations.md` warns of is so: where clients surprise whoever reads only their signatures."""

import pytest
from running_server import DOCUMENTS, KEY, QUERY, Running


def test_langchain_keeps_three_unless_told(running: Running):
    langchain = pytest.importorskip("langchain_cohere")
    reranker = langchain.CohereRerank(model="any", cohere_api_key=KEY, base_url=running.url)
    assert len(reranker.rerank(DOCUMENTS, QUERY)) == 3
    assert len(reranker.rerank(DOCUMENTS, QUERY, top_n=None)) == len(DOCUMENTS)


def test_llamaindexs_tei_client_sends_its_token_as_it_is_and_takes_a_refusal_for_scores(running: Running):
    tei = pytest.importorskip("llama_index.postprocessor.tei_rerank")
    from llama_index.core.schema import NodeWithScore, TextNode

    reranker = tei.TextEmbeddingInference(base_url=running.url, auth_token=KEY)
    for texts in ("a", "ab", "abc", "abcd"):
        with pytest.raises((AssertionError, TypeError)):
            reranker.postprocess_nodes([NodeWithScore(node=TextNode(text=text)) for text in texts], query_str=QUERY)


def test_llamaindexs_cohere_client_sends_metadata_before_the_text(running: Running):
    pytest.importorskip("llama_index.postprocessor.cohere_rerank")
    from llama_index.core.schema import NodeWithScore, TextNode
    from llama_index.postprocessor.cohere_rerank import CohereRerank

    reranker = CohereRerank(base_url=running.url, api_key=KEY, model="any")

    def score(**options: list[str]) -> float:
        node = TextNode(text="Running shoes", metadata={"shelf": "A: 7"}, **options)
        ((ranked),) = reranker.postprocess_nodes([NodeWithScore(node=node)], query_str=QUERY)
        return ranked.score

    both = "shelf: A: 7\n\nRunning shoes"
    assert score() == pytest.approx(running.ranked(QUERY, [both])[0][1], abs=1e-5)
    alone = running.ranked(QUERY, ["Running shoes"])[0][1]
    assert score(excluded_embed_metadata_keys=["shelf"]) == pytest.approx(alone, abs=1e-5)
    assert score() != pytest.approx(alone, abs=1e-5)


def test_haystack_sends_equal_documents_once_and_cannot_cut_from_the_left(running: Running):
    ranker = pytest.importorskip("haystack_integrations.components.rankers.huggingface_api")
    from haystack import Document
    from haystack.utils import Secret

    reranker = ranker.HuggingFaceTEIRanker(url=running.url, token=Secret.from_token(KEY))
    twice = [Document(content="Running shoes"), Document(content="Running shoes"), Document(content="Lamp")]
    assert len(reranker.run(query=QUERY, documents=twice)["documents"]) == 2
    directions = ranker.ranker.TruncationDirection
    assert len(reranker.run(query=QUERY, documents=twice, truncation_direction=directions.RIGHT)["documents"]) == 2
    with pytest.raises(RuntimeError, match="truncation_direction"):
        reranker.run(query=QUERY, documents=twice, truncation_direction=directions.LEFT)


def test_raw_scores_change_nothing(running: Running):
    plain, raw = (
        running.ask("/rerank", {"query": QUERY, "texts": DOCUMENTS, "raw_scores": raw}) for raw in (False, True)
    )
    assert plain == raw
