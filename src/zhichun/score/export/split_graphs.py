"""The three graphs of an exported model that reads query and product apart, beside an index and without one.

Legend: ``B`` pairs, ``T`` tokens of the longest, ``M`` tokens of a query, ``D`` hidden size, ``S`` size of a state,
``F`` size of side features, ``C`` outputs.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from zhichun.core.arrays import Int32
from zhichun.core.tasks import Floats
from zhichun.score.engine import Engine
from zhichun.score.export.export_folder import OWN, SCALES, SIDE, STATES, THERE
from zhichun.score.index.network import Asked, SplitNetwork
from zhichun.score.index.store import Block
from zhichun.text.pairs import SECOND_START, Arrays, padded


@dataclass(frozen=True, kw_only=True)
class GraphNetwork(SplitNetwork):
    """The graphs of products' and of queries' lower layers, and of what is above, as engines."""

    product: Engine
    query: Engine
    above: Engine

    @property
    def per_batch(self) -> tuple[int, int | None]:
        """As for whole pairs."""
        return self.product.tokens_per_batch, self.product.pairs_per_batch

    def lower(self, batches: Iterable[Sequence[Int32]], *, product: bool) -> Iterator[Sequence[Floats]]:
        """Send padded segments through the layers below."""
        tokenizer, waiting = self.featurizer.tokenizer, deque[Sequence[Int32]]()

        def arrays() -> Iterator[Arrays]:
            for segments in batches:
                waiting.append(segments)
                yield padded([(segment, 0) for segment in segments], tokenizer.layout, tokenizer.pad_id)

        for vectors_BTD in (self.product if product else self.query).run(arrays()):
            yield [vectors_TD[: len(of)] for vectors_TD, of in zip(vectors_BTD, waiting.popleft(), strict=True)]

    def upper(self, asked: Iterable[Asked]) -> Iterator[Floats]:
        """Score blocks, as many at once as there are streams."""
        return self.above.run(map(_arrays, asked))


def _arrays(asked: Asked) -> Arrays:
    states_BTS, scales_BT, lengths_B = asked.block
    there_BT = (np.arange(states_BTS.shape[1]) < lengths_B[:, None]).astype(np.int64)
    return {
        OWN: asked.own_MD[None],
        STATES: states_BTS.astype(np.float32, copy=False),
        THERE: there_BT,
        SCALES: np.ones(there_BT.shape, np.float32) if scales_BT is None else scales_BT,
        SIDE: asked.side_BF,
    }


@dataclass(frozen=True, kw_only=True)
class SplitEngine(Engine):
    """The graphs as an engine of whole pairs, of which nothing is known before."""

    network: GraphNetwork

    @classmethod
    def of(cls, network: GraphNetwork) -> Self:
        """Take a network."""
        return cls(name=network.name, outputs=network.task.outputs, streams=network.above.streams, network=network)

    def run(self, batches: Iterable[Arrays]) -> Iterator[Floats]:
        """Return the logits of each batch, ``[B, C]``, in order."""
        return map(self._logits, batches)

    def _logits(self, batch: Arrays) -> Floats:
        network, start_B = self.network, batch[SECOND_START].tolist()
        ids_BT, end_B = batch["input_ids"].astype(np.int32), batch["attention_mask"].sum(axis=1).tolist()
        rows_of: dict[bytes, list[int]] = {}
        for row, start in enumerate(start_B):
            rows_of.setdefault(ids_BT[row, :start].tobytes(), []).append(row)
        own = network.apart([np.frombuffer(query, np.int32) for query in rows_of], product=False)
        segments = [ids_BT[row, start:end] for row, (start, end) in enumerate(zip(start_B, end_B, strict=True))]
        states = network.apart(segments, product=True)
        side_BF = network.side.vectors(batch) if network.side.tables else np.zeros((len(states), 0), np.float32)
        asked = (
            Asked(own_MD, _block([states[row] for row in rows]), side_BF[rows])
            for own_MD, rows in zip(own, rows_of.values(), strict=True)
        )
        logits_BC: Floats = np.zeros((len(states), self.outputs), np.float32)
        for rows, found_BC in zip(rows_of.values(), network.upper(asked), strict=True):
            logits_BC[rows] = found_BC
        return logits_BC


def _block(states: Sequence[Floats]) -> Block:
    lengths_B = np.asarray([len(state_TS) for state_TS in states], np.int64)
    states_BTS = np.zeros((len(states), int(lengths_B.max()), states[0].shape[1]), np.float32)
    for row, state_TS in enumerate(states):
        states_BTS[row, : len(state_TS)] = state_TS
    return Block(states_BTS, None, lengths_B)
