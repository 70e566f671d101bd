"""Clients that ask a server as fast as it answers: threads with one kept connection each, in this process."""

import http.client
import itertools
import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from served import HOST, JSON, Served

from zhichun.core import schema
from zhichun.data.dataset import Dataset
from zhichun.text.clean import clean_text

PRODUCTS_FILE = "shopping_queries_dataset_products.parquet"
EXAMPLES_FILE = "shopping_queries_dataset_examples.parquet"
Body = Callable[[int], bytes]
PATIENCE_SECONDS = 300


@dataclass(frozen=True)
class Texts:
    """Queries and titles of products to ask with, in the order of a seeded shuffle, and where they come from.

    They are cleaned as our models clean them, so that all systems read the same tokens.
    """

    source: str
    queries: Sequence[str]
    titles: Sequence[str]

    @classmethod
    def of(cls, esci: Path | None, data: Path) -> "Texts":
        """Take those of the Shopping Queries Dataset where it is, and of a prepared dataset else."""
        if esci is None:
            titles = pq.read_table(data / schema.PRODUCTS_FILE, columns=[schema.TITLE])[schema.TITLE]
            queries, source = Dataset.open(data).queries, "sample shop"
        else:
            titles = pq.read_table(esci / PRODUCTS_FILE, columns=["product_title"])["product_title"]
            queries, source = pq.read_table(esci / EXAMPLES_FILE, columns=["query"])["query"], "ESCI"
        found = [
            sorted({clean_text(text) for text in column.to_pylist() if text} - {""}) for column in (queries, titles)
        ]
        for texts in found:
            random.Random(0).shuffle(texts)
        return cls(source, *found)

    def request(self, number: int, pairs: int) -> tuple[str, list[str]]:
        """Make the query and the texts of a request; no two requests share a text, so that nothing kept helps."""
        places = range(number * pairs, (number + 1) * pairs)
        titles = [f"{number}.{at - places.start} {self.titles[at % len(self.titles)]}" for at in places]
        return self.queries[number % len(self.queries)], titles

    def body(self, number: int, pairs: int) -> bytes:
        """Write a request as TEI does."""
        query, texts = self.request(number, pairs)
        return json.dumps({"query": query, "texts": texts}).encode()


@dataclass
class Load:
    """What clients at once have seen.

    Parameters
    ----------
    seconds
        From each request to its whole answer.
    statuses
        How often each status came; ``None`` is a connection that broke.
    """

    seconds: list[float] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, status: int | None, seconds: float) -> None:
        """Count one answer."""
        with self.lock:
            self.statuses[str(status)] = self.statuses.get(str(status), 0) + 1
            if status == 200:
                self.seconds.append(seconds)


def measured(
    server: Served, path: str, body: Body, numbers: Iterator[int], clients: int, seconds: float, pairs: int
) -> dict[str, Any]:
    """Let clients ask for some seconds and wait for their last answers; every client asks once at least.

    Returns
    -------
    dict
        ``p50`` and ``p95`` in seconds, requests and pairs per second over all the time until the last answer, statuses
        but 200, and ``client_cores``: how much of one core this process used meanwhile.
    """
    load = Load()
    began, used = time.perf_counter(), time.process_time()

    def client() -> None:
        connection = http.client.HTTPConnection(HOST, server.port, timeout=PATIENCE_SECONDS)
        while True:
            with load.lock:
                content = body(next(numbers))
            start = time.perf_counter()
            try:
                connection.request("POST", path, content, JSON)
                answer = connection.getresponse()
                answer.read()
                load.note(answer.status, time.perf_counter() - start)
            except (OSError, http.client.HTTPException):
                load.note(None, 0)
                connection.close()
            if time.perf_counter() - began >= seconds:
                connection.close()
                return

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - began
    done = len(load.seconds)
    return {
        "clients": clients,
        "requests": done,
        "wall": round(wall, 2),
        **{f"p{at}": float(np.percentile(load.seconds, at)) if done else None for at in (50, 95)},
        "requests_per_second": done / wall,
        "pairs_per_second": done * pairs / wall,
        "not_answered": {status: count for status, count in load.statuses.items() if status != "200"},
        "client_cores": round((time.process_time() - used) / wall, 3),
    }


def environment_folder(name: str) -> Path | None:
    """Give the folder that a variable names."""
    return Path(os.environ[name]) if os.environ.get(name) else None


def fresh() -> Iterator[int]:
    """Give numbers of requests, each once."""
    return itertools.count()


def ids_body(products: Sequence[Mapping[str, Any]], texts: Texts, pairs: int) -> Body:
    """Ask by ids of a catalogue, with a query that has not been asked before."""

    def body(number: int) -> bytes:
        chosen = [products[(number * pairs + at) % len(products)] for at in range(pairs)]
        return json.dumps(
            {"query": f"{number} {texts.queries[number % len(texts.queries)]}", "documents": chosen}
        ).encode()

    return body
