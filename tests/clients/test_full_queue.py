"""Clients that meet a full queue wait as long as they are told, and come back."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from running_server import DOCUMENTS, KEY, MOST_DOCUMENTS, MOST_WAITING, Running
from test_rerankers import by_cohere, by_haystack_tei

SECONDS = 10
RANKERS = [
    pytest.param(by_cohere, "cohere", "/v2/rerank", id="cohere"),
    pytest.param(by_haystack_tei, "haystack_integrations.components.rankers.huggingface_api", "/rerank", id="haystack"),
]


def wait_for(happened: Callable[[], bool]) -> None:
    latest = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < latest
        time.sleep(0.02)


@pytest.mark.parametrize(("rank", "package", "path"), RANKERS)
def test_a_client_that_is_told_to_come_back_does(rank, package, path, running: Running, monkeypatch):
    pytest.importorskip(package)
    from zhichun.serve import batcher

    score, begun, ended = batcher.score, threading.Event(), threading.Event()

    def held(*arguments):
        begun.set()
        assert ended.wait(SECONDS)
        return score(*arguments)

    def fill(number: int) -> None:
        running.ask(
            "/v1/rerank", {"query": path, "documents": [f"{number} {place}" for place in range(MOST_DOCUMENTS)]}
        )

    monkeypatch.setattr(batcher, "score", held)
    refused = f'zhichun_requests_total{{path="{path}",status="429"}}'
    before, requests = running.counted(refused), MOST_WAITING // MOST_DOCUMENTS
    with ThreadPoolExecutor(requests + 2) as others:
        others.submit(fill, requests)  # this one is being scored, the others wait
        assert begun.wait(SECONDS)
        others.map(fill, range(requests))
        wait_for(lambda: running.counted("zhichun_queue_pairs") == MOST_WAITING)
        asked = others.submit(rank, running.url, KEY, path, DOCUMENTS, 2)
        wait_for(lambda: running.counted(refused) == before + 1)
        ended.set()
    assert [text for text, _ in asked.result()] == [
        DOCUMENTS[place] for place, _ in running.ranked(path, DOCUMENTS)[:2]
    ]
