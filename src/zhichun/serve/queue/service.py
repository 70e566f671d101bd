"""What all endpoints share: the model, the queue before it, limits, counts, and which phase of its life it is in."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from zhichun.core.tasks import Floats, Prediction, Task
from zhichun.score.given import Product
from zhichun.score.pair_scorer import PairScorer
from zhichun.serve.api.pair import Pair, pairs_of, prediction_of
from zhichun.serve.api.refusal import invalid, too_large, unavailable
from zhichun.serve.http.counters import Metrics
from zhichun.serve.http.limits import Limits
from zhichun.serve.page.catalogue_search import Catalogue
from zhichun.serve.queue.batcher import Batcher
from zhichun.text.clean import clean_text

Phase = Literal["loading", "ready", "draining", "failed"]


@dataclass(frozen=True)
class Answer:
    """What is known of the pairs of one request.

    Parameters
    ----------
    prediction
        Scores, labels and probabilities, in the order of the pairs.
    tokens
        That were read.
    """

    prediction: Prediction
    tokens: int


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
    in_flight: int = 0
    created: int = field(default_factory=lambda: int(time.time()))
    _batcher: Batcher | None = None

    def open(self, scorer: PairScorer, catalogue: Catalogue | None) -> None:
        """Begin to answer; to be called on the event loop."""
        self.catalogue = catalogue
        batcher = self._batcher = Batcher(scorer, self.limits, self.metrics)
        self.metrics.gauge("zhichun_queue_pairs", "Pairs that wait for the model.", lambda: batcher.jobs.pairs)
        self.metrics.gauge("zhichun_queue_requests", "Requests that wait for the model.", lambda: len(batcher.jobs))
        self.metrics.gauge("zhichun_kept_scores", "Pairs whose scores are kept.", lambda: len(batcher.cache))
        if self.phase == "loading":
            self.phase = "ready"

    async def close(self) -> None:
        """Stop answering."""
        if self._batcher is not None:
            await self._batcher.close()

    @property
    def scorer(self) -> PairScorer:
        """The model.

        Raises
        ------
        Refusal
            When it is not loaded yet.
        """
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

    def check(self, queries: Sequence[str], documents: int) -> None:
        """Refuse queries that are empty or too long, and too many documents."""
        limits = self.limits
        if documents > limits.documents:
            raise too_large(f"{documents} documents are more than {limits.documents}.")
        for query in queries:
            if len(query) > limits.query_characters:
                raise invalid(f"the query has more than {limits.query_characters} characters.")
            if not clean_text(query):
                raise invalid("the query is empty.")

    def pairs(self, query: str, products: Sequence[Product], locale: str | None) -> list[Pair]:
        """Put a query beside products."""
        return pairs_of(query, products, locale or self.locale)

    async def answer(self, pairs: Sequence[Pair], seconds: float | None = None) -> Answer:
        """Score the pairs of one request.

        Parameters
        ----------
        pairs
            The pairs.
        seconds
            That it may take; at most, and if not given, what the limits say.
        """
        batcher = self._ready
        allowed = min(seconds or self.limits.seconds, self.limits.seconds)
        figures_PF = (await batcher.score(pairs, allowed)).figures_PF
        return Answer(prediction_of(self.task, figures_PF), tokens_of(figures_PF))

    async def rank(self, query: str, products: Sequence[Product], locale: str) -> Prediction:
        """Score products for one query of the page; as `Scorer.score`."""
        self.check([query], len(products))
        return (await self.answer(self.pairs(query, products, locale))).prediction

    def incoming_order(self, pairs: int) -> Answer:
        """Answer without scores, where there was no time for them: all are 0, so the order stays as it came."""
        return Answer(Prediction(self.task, None, np.zeros(pairs, np.float32)), 0)


def tokens_of(figures_PF: Floats) -> int:
    """Count the tokens that were read of pairs."""
    return int(figures_PF[:, 1].sum(dtype=np.float64))


def new_id() -> str:
    """Name an answer."""
    return uuid.uuid4().hex
