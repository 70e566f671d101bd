"""What all endpoints share: the model, the queue before it, limits, counts, and which phase of its life it is in."""

import asyncio
import ctypes
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Literal, TypeVar

import numpy as np

from zhichun.core.tasks import Prediction, Task
from zhichun.score.scorer import PairScorer
from zhichun.serve.api.documents import cut_to_tokens, read_documents
from zhichun.serve.batcher import PROBABILITIES, SCORE, TOKENS, Batcher, PairColumns
from zhichun.serve.catalogue_search import Catalogue
from zhichun.serve.limits import Limits, Metrics, invalid, too_large, unavailable
from zhichun.text.clean import clean_text
from zhichun.text.fold import fold_locale

Phase = Literal["loading", "ready", "draining", "failed"]
T = TypeVar("T")
# Bodies that are worked on at once, beside the event loop. One that is larger takes several times its size, so these go
# one by one, and what each leaves behind is returned to the system.
READERS, LARGE_BYTES = 2, 1 << 20


def _find_trim() -> Callable[[int], object]:
    """Find what returns freed memory to the system: glibc keeps it for each thread, other allocators keep little."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return lambda kept: None


TRIM: Final = _find_trim()


@dataclass(frozen=True)
class Answer:
    """What is known of the pairs of one request.

    Parameters
    ----------
    prediction
        Scores, labels and probabilities, in the order of the pairs.
    tokens
        That were read.
    scored
        Whether there was time to score; if not, all scores are 0, so that the order stays as it came.
    """

    prediction: Prediction
    tokens: int
    scored: bool = True


@dataclass(eq=False)
class Service:
    """One model that answers requests.

    Parameters
    ----------
    model
        Its name for clients.
    locale
        Of requests that name none.
    limits
        Of requests, queue and cache.
    fingerprint
        Of the model, where it is known.
    catalogue
        Where ids of products are looked up.
    metrics
        What is counted.
    phase
        Of its life; requests are answered when it is ready.
    failure
        Why the model could not be loaded.
    in_flight
        Requests that are being answered.
    """

    model: str
    locale: str = "us"
    limits: Limits = field(default_factory=Limits)
    fingerprint: str | None = None
    catalogue: Catalogue | None = None
    metrics: Metrics = field(default_factory=Metrics)
    phase: Phase = "loading"
    failure: Exception | None = None
    in_flight: int = 0
    created: int = field(default_factory=lambda: int(time.time()))
    _batcher: Batcher | None = None
    _large: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "requests"))
    _small: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(READERS, "requests"))

    def open(self, scorer: PairScorer, catalogue: Catalogue | None) -> None:
        """Begin to answer; to be called on the event loop."""
        self.catalogue = catalogue
        self._batcher = Batcher(scorer, self.limits, self.metrics)
        if self.phase == "loading":
            self.phase = "ready"

    def fail(self, error: Exception) -> None:
        """Note that the model could not be loaded."""
        self.failure, self.phase = error, "failed"

    async def close(self) -> None:
        """Stop answering."""
        if self._batcher is not None:
            await self._batcher.close()
        for readers in (self._large, self._small):
            readers.shutdown(wait=False)

    @property
    def scorer(self) -> PairScorer:
        """The model."""
        return self._ready.scorer

    @property
    def task(self) -> Task:
        """What it predicts."""
        return self.scorer.task

    @property
    def _ready(self) -> Batcher:
        if self._batcher is None:
            raise unavailable("the model is being loaded.")
        return self._batcher

    async def work(self, function: Callable[..., T], *arguments: Any, size: int = 0) -> T:
        """Do work on a body of `size` bytes in a thread; the event loop answers others, and large ones hold up none."""
        readers, work = (self._large, partial(_then_trim, function)) if size > LARGE_BYTES else (self._small, function)
        return await asyncio.get_running_loop().run_in_executor(readers, work, *arguments)

    def trim(self) -> None:
        """Return freed memory to the system, in a thread."""
        with suppress(RuntimeError):  # of a service that is closed
            self._large.submit(TRIM, 0)

    def ask(
        self,
        queries: Sequence[str],
        documents: Sequence[Any],
        locale: str | None = None,
        *,
        fields: Sequence[str] | None = None,
        tokens: int | None = None,
    ) -> PairColumns:
        """Read the pairs of a request, with warnings for the client; to be called in a thread.

        Parameters
        ----------
        queries
            One for all documents, or as many as these.
        documents
            As `read_documents` takes them.
        locale
            Of all; the server's own where there is none.
        fields
            Of each document, that are read; all if not given.
        tokens
            To which each document is cut.

        Raises
        ------
        Refusal
            For more than the limits allow, and for what cannot be read.
        """
        limits = self.limits
        if len(documents) > limits.documents:
            raise too_large(f"{len(documents):,} documents are more than {limits.documents:,}.")
        if len(queries) not in (1, len(documents)):
            raise invalid(f"{len(queries)} queries and {len(documents)} documents: give one query, or as many of both.")
        for query in queries:
            if len(query) > limits.query_characters:
                raise invalid(f"the query has more than {limits.query_characters:,} characters.")
            if not clean_text(query):
                raise invalid("the query is empty.")
        queries = queries if len(queries) > 1 else [queries[0]] * len(documents)
        pairs = read_documents(
            queries,
            documents,
            locale,
            fold_locale(self.locale),
            self.catalogue,
            limits.text_characters,
            fields,
            self.scorer.own,
        )
        if tokens is not None and tokens < self.scorer.max_length:
            cut = cut_to_tokens(pairs.products, tokens, self.scorer.tokenizer)
            pairs = replace(pairs, products={**pairs.products, **cut})
        if self.scorer.reads_lists:
            pairs = pairs.in_lists()
        _ = pairs.keys, pairs.characters  # computed here, in a thread
        return pairs

    async def answer(self, pairs: PairColumns, seconds: float | None = None) -> Answer:
        """Score the pairs of one request."""
        figures_PF = await self._ready.score(pairs, min(seconds or self.limits.seconds, self.limits.seconds))
        tokens = int(figures_PF[:, TOKENS].sum(dtype=np.float64))
        probabilities_PC = figures_PF[:, PROBABILITIES:] if self.task.classes else None
        return Answer(Prediction(self.task, probabilities_PC, figures_PF[:, SCORE]), tokens)

    async def in_model_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Do what needs the model, in the thread that scores."""
        return await asyncio.get_running_loop().run_in_executor(self._ready.thread, function, *arguments)

    async def rank(self, query: str, products: Sequence[Any], locale: str) -> Prediction:
        """Score products for one query of the page; as `Scorer.score`."""
        return (await self.answer(await self.work(self.ask, [query], products, locale))).prediction

    def incoming_order(self, pairs: int) -> Answer:
        """Answer without scores, where there was no time for them."""
        return Answer(Prediction(self.task, None, np.zeros(pairs, np.float32)), 0, scored=False)


def _then_trim(function: Callable[..., T], *arguments: Any) -> T:
    try:
        return function(*arguments)
    finally:
        TRIM(0)


def new_id() -> str:
    """Name an answer."""
    return uuid.uuid4().hex
