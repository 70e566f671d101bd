"""Scores pairs from an index: a product that is in it costs no pass of its own, any other is computed from its texts.

The same index gives a first stage: the products whose mean state is nearest to that of the query.

What       the query is read as a product with nothing but a title, so both sides are of one space; vectors are compared
           by one matrix product over the whole catalogue, exactly
Equation   ``cos(m(q) - c, m(p) - c)``: ``m`` is the mean of the states of all tokens, ``c`` the mean of these over the
           catalogue, which is most of each
Reference  Mu and Viswanath, 2018, *All-but-the-Top*, for the common mean that is taken away
Our number recall of the catalogue's best ten in ``benchmarks/results/index_quality.json``: 0.505 at 500 of 19,406
Cost       a product of ``N`` by ``S`` numbers for each query, and ``4 N S`` bytes
Traps      nothing trains it: it finds what the lower layers hold to be alike

Legend: ``P`` pairs, ``B`` products of a block, ``C`` outputs, ``N`` products, ``S`` size of a state.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Final, Self

import numpy as np

from zhichun.core import schema
from zhichun.core.arrays import Int32, Int64
from zhichun.core.tasks import Floats, Prediction
from zhichun.data.dataset import Dataset
from zhichun.score.engine import AUTO, Progress, in_lists, in_order, length_sorted, shared_out, whole_lists
from zhichun.score.index.network import Asked, SplitNetwork, load_network
from zhichun.score.index.store import Block, IndexConfig, Shard, States, block_of, content_hashes
from zhichun.score.scorer import OneModel, distinct, distinct_products
from zhichun.score.similarity import unit
from zhichun.text.clean import clean_text
from zhichun.text.features import QueryFeatures, first_alike
from zhichun.text.pairs import Columns, PairTexts, country_index

# Queries that go through the layers below the split together.
QUERIES: Final = 256
# Tokens of the products that are scored at once: so many that a core's cache holds their states.
BLOCK_TOKENS: Final = 4096
JUDGED_AT_ONCE: Final = 20_000


@dataclass(frozen=True)
class KeptPairs:
    """P pairs of which the products' states are known.

    Parameters
    ----------
    queries
        Features of the distinct queries.
    query_row_P, country_P, lists
        Query and locale of each pair, and of a model that reads lists its list.
    texts, product_row_P
        Texts of the distinct products, and which of them is each pair's: states may be removed before they are read.
    shards
        Where states are.
    shard_P, row_P
        Where those of each pair's product are.
    """

    queries: QueryFeatures
    query_row_P: Int32
    country_P: Int32
    lists: Int32
    texts: Columns
    product_row_P: Int32
    shards: tuple[Shard, ...]
    shard_P: Int64
    row_P: Int64

    def __len__(self) -> int:
        return len(self.query_row_P)

    def alike(self, rows: Int64) -> tuple[Int64 | Int32, ...]:
        """See `Pairs.alike`; products are alike whose cleaned texts are one."""
        query_B = first_alike(self.queries, self.query_row_P[rows])
        return query_B, self.country_P[rows], self.shard_P[rows], self.row_P[rows]

    @cached_property
    def lengths(self) -> Int64:
        """Tokens of each pair, ``[P]``."""
        return self.states + self.queries.tokens.lengths[self.query_row_P]

    @cached_property
    def states(self) -> Int64:
        """States of each pair's product, ``[P]``."""
        pairs = zip(self.shard_P.tolist(), self.row_P.tolist(), strict=True)
        return np.fromiter((self.shards[shard].lengths_R[row] for shard, row in pairs), np.int64, len(self))


@dataclass(frozen=True)
class IndexScorer(OneModel):
    """Scores pairs of query and product from an index.

    Parameters
    ----------
    network
        Computes what is not kept, and scores.
    config
        How states are kept.
    kept
        States of the index.
    """

    network: SplitNetwork
    config: IndexConfig
    kept: States

    @classmethod
    def load(cls, run: Path, index: Path, device: str | None = None, engine: str = AUTO) -> Self:
        """Load a run, whose engine is torch in fp32, or an export, and the index that was made of the model.

        Raises
        ------
        UserError
            When there is no index, or it is not finished or of another model.
        """
        config, network = IndexConfig.of_finished(index), load_network(run, device, engine)
        read = network.featurizer, network.max_length, network.task, network.above
        return cls(*read, network, config, config.open_states(index, network.states, run))

    @property
    def engine_name(self) -> str:
        """Name of the engine; rounded states give other scores."""
        return f"{self.engine.name}, from an index in {self.config.precision}"

    def remembering(self) -> Self:
        """Return itself: the index remembers."""
        return self

    def read(self, texts: PairTexts) -> KeptPairs:
        """Read the texts of P pairs, and find their products; see `Scorer.read`."""
        queries, products, locales, _ = texts
        distinct_queries, query_row_P = distinct(queries)
        found, product_row_P = distinct_products(products, len(queries))
        shards, shard_R, row_R = self.located(found)
        return KeptPairs(
            queries=self.featurizer.queries(distinct_queries, self.max_length),
            query_row_P=query_row_P,
            country_P=np.fromiter(map(country_index, locales), np.int32, len(locales)),
            lists=distinct(texts.of_lists)[1] if self.reads_lists else query_row_P,
            texts=found,
            product_row_P=product_row_P,
            shards=shards,
            shard_P=shard_R[product_row_P],
            row_P=row_R[product_row_P],
        )

    def located(self, texts: Columns) -> tuple[tuple[Shard, ...], Int64, Int64]:
        """Find products by their texts, or compute them: shards, and of each product its shard and row, ``[P]``."""
        shards, (shard_P, row_P) = self.kept.shards, self.kept.find(content_hashes(texts))
        if len(new := np.flatnonzero(shard_P < 0)):  # a catalogue's texts are cleaned
            cleaned = {name: [clean_text(of[row] or "") for row in new.tolist()] for name, of in texts.items()}
            shard_P[new], row_P[new] = self.kept.find(content_hashes(cleaned))
            if len(places := np.flatnonzero(shard_P[new] < 0)):
                given = {name: [of[at] for at in places] for name, of in cleaned.items()}
                unknown, row_P[new[places]] = distinct_products(given, len(places))
                shards = (*shards, self.computed(unknown))
                shard_P[new[places]] = len(shards) - 1
        return shards, shard_P, row_P

    def predict(self, pairs: KeptPairs, rows: Int64 | None = None, *, progress: Progress | None = None) -> Prediction:
        """Predict pairs that were read; see `Scorer.predict`."""
        return self.task.predict(self._logits(pairs, np.arange(len(pairs)) if rows is None else rows, progress))

    def predict_judged(self, dataset: Dataset, rows: Int64, *, progress: Progress | None = None) -> Prediction:
        """Predict judged pairs of a dataset folder, read piece by piece."""
        texts, list_P = dataset.texts(rows), dataset.list_row[rows] if self.reads_lists else np.arange(len(rows))
        order_P = np.argsort(list_P, kind="stable")
        plan = [order_P[some] for some in whole_lists(list_P[order_P], JUDGED_AT_ONCE)]

        def found(places: list[int]) -> Floats:
            columns = {name: [of[place] for place in places] for name, of in texts.products.items()}
            queries, locales = ([of[place] for place in places] for of in (texts.queries, texts.locales))
            pairs = self.read(PairTexts(queries, columns, locales, list_P[places].tolist()))
            return self._logits(pairs, np.arange(len(pairs)), progress)

        made = (found(places.tolist()) for places in plan)
        return self.task.predict(in_order(plan, made, len(rows), self.task.outputs))

    def _logits(self, pairs: KeptPairs, rows: Int64, progress: Progress | None) -> Floats:
        score = partial(self._by_query, pairs, progress=progress)
        return in_lists(self.engine, pairs, rows, score, progress) if self.reads_lists else score(rows)

    def _by_query(self, pairs: KeptPairs, rows: Int64, progress: Progress | None) -> Floats:
        """Score pairs by themselves; gives what the network gives of each, in their order."""
        query_P, most = pairs.query_row_P[rows].astype(np.int64), shared_out(len(rows), self.network.streams)
        order_P = np.argsort(query_P, kind="stable")
        queries, starts = np.unique(query_P[order_P], return_index=True)
        places = np.split(order_P, starts[1:])
        plan = [length_sorted(each, pairs.states[rows[each]], BLOCK_TOKENS, most) for each in places]

        def asked() -> Iterator[Asked]:
            for start in range(0, len(queries), QUERIES):
                some = slice(start, start + QUERIES)
                for own_MD, blocks in zip(self.network.queries(pairs.queries, queries[some]), plan[some], strict=True):
                    yield from (Asked(own_MD, *self._found(pairs, rows[block])) for block in blocks)

        made = self.network.upper(asked())
        return in_order(chain.from_iterable(plan), made, len(rows), self.task.outputs, progress)

    def computed(self, texts: Columns) -> Shard:
        """Compute products from their texts."""
        return self.network.shard_of(texts, self.config.precision)

    def _found(self, pairs: KeptPairs, rows: Int64) -> tuple[Block, Floats]:
        """Read states and side features of one query's pairs; what was removed meanwhile is computed again."""
        block, gone = block_of(pairs.shards, pairs.shard_P[rows], pairs.row_P[rows])
        if len(gone):
            places = pairs.product_row_P[rows[gone]]
            again = self.computed({name: [of[row] for row in places] for name, of in pairs.texts.items()})
            shard_P, row_P = pairs.shard_P.copy(), pairs.row_P.copy()
            shard_P[rows[gone]], row_P[rows[gone]] = len(pairs.shards), np.arange(len(gone))
            pairs = replace(pairs, shards=(*pairs.shards, again), shard_P=shard_P, row_P=row_P)
            block, _ = block_of(pairs.shards, shard_P[rows], row_P[rows])
        return block, self._side(pairs, rows)

    def _side(self, pairs: KeptPairs, rows: Int64) -> Floats:
        """Put the side features of one query's pairs together, in the order of the head's input."""
        side, found = self.network.side, zip(pairs.shard_P[rows].tolist(), pairs.row_P[rows].tolist(), strict=True)
        kept_BF = np.stack([pairs.shards[shard].side_RF[row] for shard, row in found])
        of_query = side.parts(pairs.queries.side(pairs.query_row_P[rows[:1]]))
        country = side.parts({"country": pairs.country_P[rows].astype(np.int64)})
        ids = sum(size for name, size in side.sizes.items() if name in ("brand", "color"))
        query = [np.repeat(part, len(rows), axis=0) for part in of_query.values()]
        return np.concatenate([*country.values(), kept_BF[:, :ids], *query, kept_BF[:, ids:]], axis=1)


@dataclass(frozen=True)
class Nearest:
    """Finds candidates among some products of an index.

    Parameters
    ----------
    scorer
        The index.
    centre_S
        Mean over the products.
    vectors_NS
        Of each product, of length 1; zeros where its states were just removed.
    """

    scorer: "IndexScorer"
    centre_S: Floats
    vectors_NS: Floats

    @classmethod
    def of(cls, scorer: "IndexScorer", texts: Columns) -> Self:
        """Look up the products of a catalogue by their texts."""
        shards, shard_N, row_N = scorer.located(texts)
        means_NS: Floats = np.zeros((len(shard_N), scorer.network.size), np.float32)
        for number, shard in enumerate(shards):
            means_NS[shard_N == number] = shard.means_RS[row_N[shard_N == number]]
        known_N1 = means_NS.any(axis=1, keepdims=True)
        centre_S: Floats = means_NS.sum(axis=0) / np.float32(max(1, int(known_N1.sum())))
        return cls(scorer, centre_S, unit(means_NS - centre_S) * known_N1)

    def search(self, query: str, top: int) -> Int64:
        """Find the places of the ``top`` nearest products, nearest first; equal ones in the catalogue's order."""
        as_product = {name: [query if name == schema.TITLE else ""] for name in schema.TEXT_COLUMNS}
        score_N = self.vectors_NS @ unit(self.scorer.computed(as_product).means_RS - self.centre_S)[0]
        return np.argsort(-score_N, kind="stable")[:top]
