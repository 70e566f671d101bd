"""Product2Query: classify whether a pseudo-query was cut from this product or from another.

Equation   Poly-1 on two classes: ``-log p_y + (1 - p_y)``, of the pair's first vector through the head of fine-tuning
Reference  the paper, 3.1 and A.1; what it leaves out is in docs/method.md
Our number nDCG 0.925 added to MLM, which had 0.938: `benchmarks/results/tables/table3-shop.md`
Cost       ``2 · draws`` pairs a product, eight by default where contrastive learning reads two texts: the most
           expensive task
Traps      the span must go from the title at times, or to find it there is all that is learnt. A product's false pair
           reads the title as its true pair does, deleted or not, or a broken title would tell the answer
Differences  the paper gives no unit of μ. It counts characters here, with the lengths conditioned on their bounds: 8.7
           characters a span for us and es, 13 a query of one or two, near the median of 14 that the paper gives. The
           rest is `as_written`; `as_released` is ``mean=8, delete=null``

A query is cut from title + brand + color. A product without a title, or with fewer characters than the shortest span,
gives none. A false query is cut from another product of the locale; where it is part of the product's own text another
is drawn, and after four in vain the pair is left out.

Legend: ``N`` pairs, ``C`` classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import numpy as np
from torch import Tensor

from zhichun.core import schema
from zhichun.core.settings import require_range
from zhichun.data.feature_store import CatalogueTexts
from zhichun.model.encoder import Encoder
from zhichun.model.parts import Head
from zhichun.objective.losses import CrossEntropy, Poly1
from zhichun.objective.pretext import task
from zhichun.objective.pretext.task import Span, SpanLengths, cut, draw_spans, without
from zhichun.text.pairs import Arrays, ProductTexts, Rows, TextReader

JAPANESE = "jp"
SHORTEST, SHORTEST_JAPANESE = 8, 4
TRIES = 4


class Pair(NamedTuple):
    """A negative query, and its product's title.

    Parameters
    ----------
    place
        Of the product in the micro-batch.
    query
        What was cut.
    title
        The product's title, with the span or without.
    """

    place: int
    query: str
    title: str


@dataclass(frozen=True, kw_only=True)
class Product2Query(task.Pretext):
    """Whether a pseudo-query was cut from its product.

    Parameters
    ----------
    weight
        Weight in the objective: 2 beside MLM alone in the paper, 5 with brand and color.
    mean
        μ of a span's length in characters, before lengths below 8 (4 in jp) and above 20 (12 of two) are ruled out.
    mean_jp
        The same for jp.
    delete
        Probability that the span is deleted from the title; null never deletes it.
    draws
        Queries that are cut from each product, each with one negative from another product.
    dropout
        Dropout of the head.
    loss
        Loss of each pair.
    """

    name: ClassVar[str] = "product2query"
    weight: float = 2.0
    mean: float = 4.0
    mean_jp: float = 8.0
    delete: float | None = 0.5
    draws: int = 4
    dropout: float = 0.1
    loss: CrossEntropy | Poly1 = field(default_factory=Poly1)

    def __post_init__(self) -> None:
        require_range(self, "weight", above=0, remedy="Switch the task off with objective.product2query=null.")
        require_range(self, "mean", "mean_jp", "draws", above=0, remedy="The paper's are mean=4, mean_jp=8, draws=4.")
        require_range(self, "delete", above=0, most=1, remedy="Give 0.5, or null, which is off.")
        require_range(self, "dropout", least=0, below=1)

    def lengths(self, locale: str) -> SpanLengths:
        """Return the lengths of spans in a locale."""
        if locale == JAPANESE:
            return SpanLengths(self.mean_jp, SHORTEST_JAPANESE)
        return SpanLengths(self.mean, SHORTEST)

    def examples(self, texts: ProductTexts, catalogue: CatalogueTexts, reader: TextReader, draw: task.Draw) -> Arrays:
        """Make positive pairs, then negative ones; ``label`` ``[N]`` is 1 for positives."""
        sources = _sources(texts)
        random = {
            place: draw.generator(self.name, row)
            for place, row in enumerate(texts.rows.tolist())
            if len(sources[place]) >= self.lengths(texts.locales[place]).shortest
        }
        true = [self._true(texts, sources, place, random[place]) for place in random for _ in range(self.draws)]
        false = list(self._false(true, texts, sources, random, catalogue))
        pairs = true + false
        titles = list(dict.fromkeys((pair.place, pair.title) for pair in pairs))
        documents = dict(zip(titles, reader.documents(_retitled(texts, titles)), strict=True))
        queries = reader.tokens([pair.query for pair in pairs])
        return {
            **reader.pairs(queries, [documents[pair.place, pair.title] for pair in pairs]),
            "label": np.repeat(np.asarray([1, 0]), [len(true), len(false)]),
            task.ITEMS: np.asarray(len(pairs), np.int64),
        }

    def _true(self, texts: ProductTexts, sources: list[str], place: int, random: np.random.Generator) -> Pair:
        source, title = sources[place], texts.columns[schema.TITLE][place]
        spans = draw_spans(random, len(source), self.lengths(texts.locales[place]))
        if self.delete is not None and random.random() < self.delete:
            title = without(title, [(start, min(end, len(title))) for start, end in spans if start < len(title)])
        return Pair(place, cut(source, spans), title)

    def _false(
        self,
        true: list[Pair],
        texts: ProductTexts,
        sources: list[str],
        random: dict[int, np.random.Generator],
        catalogue: CatalogueTexts,
    ) -> Iterator[Pair]:
        """Draw a negative pair for each positive one, reading all products of an attempt together."""
        own = {place: sources[place].casefold() for place in random}
        others = {locale: catalogue.of_locale(locale) for locale in set(texts.locales)}
        waiting = [pair for pair in true if len(others[texts.locales[pair.place]])]
        for _ in range(TRIES):
            if not waiting:
                return
            rows = [_one_of(others[texts.locales[pair.place]], random[pair.place]) for pair in waiting]
            found = _sources(catalogue.take(np.asarray(rows, np.int64)))
            again = []
            for pair, row, source in zip(waiting, rows, found, strict=True):
                spans = self._spans_of(source, texts.locales[pair.place], random[pair.place])
                foreign = [source[start:end].strip().casefold() not in own[pair.place] for start, end in spans]
                if foreign and all(foreign) and row != texts.rows[pair.place]:
                    yield pair._replace(query=cut(source, spans))
                else:
                    again.append(pair)
            waiting = again

    def _spans_of(self, source: str, locale: str, random: np.random.Generator) -> list[Span]:
        lengths = self.lengths(locale)
        return draw_spans(random, len(source), lengths) if len(source) >= lengths.shortest else []

    def head(self, encoder: Encoder, sizes: task.Sizes) -> task.PretextHead:
        """Build the head of fine-tuning, with two classes."""
        return Product2QueryHead(encoder.hidden, self)


class Product2QueryHead(task.PretextHead):
    """Classifies the first vector of a pair."""

    def __init__(self, hidden: int, settings: Product2Query) -> None:
        super().__init__()
        self.classes = Head(hidden, hidden, 2, settings.dropout)
        self.loss = settings.loss

    def forward(self, encoder: Encoder, batch: dict[str, Tensor]) -> task.Outcome:
        """Score the pairs of `Product2Query.examples`."""
        logits_NC = self.classes(encoder.read(batch, first_only=True))
        return task.Outcome(self.loss(logits_NC, batch["label"]), logits_NC.detach().argmax(dim=1) == batch["label"])


def _sources(texts: ProductTexts) -> list[str]:
    """Join the texts that queries are cut from; empty for a product without a title."""
    columns = (texts.columns[name] for name in (schema.TITLE, schema.BRAND, schema.COLOR))
    return [" ".join(filter(None, fields)) if fields[0] else "" for fields in zip(*columns, strict=True)]


def _one_of(rows: Rows, random: np.random.Generator) -> int:
    return int(rows[int(random.random() * len(rows))])


def _retitled(texts: ProductTexts, titles: list[tuple[int, str]]) -> ProductTexts:
    """Replace the titles of the products at some places."""
    picked = texts.at([place for place, _ in titles])
    return replace(picked, columns={**picked.columns, schema.TITLE: [title for _, title in titles]})
