"""What an index needs of a network that reads query and product apart: products' states, and scores from them.

By torch it is `score.index.torch_network`; by the three graphs of an export, `GraphNetwork`, which are an engine of
whole pairs too. Nothing here needs torch.

Legend: ``R`` products, ``N`` their tokens, ``M`` tokens of a query, ``B`` products of a block or pairs, ``T`` tokens of
the longest, ``D`` hidden size, ``S`` size of a state, ``F`` size of side features, ``C`` outputs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import tee
from pathlib import Path
from typing import Final, NamedTuple, Self

import numpy as np

from zhichun.core.arrays import Int32, Int64
from zhichun.core.errors import UserError
from zhichun.core.tasks import Floats, Task
from zhichun.score.engine import AUTO, RUN_ENGINES, Engine, in_order, length_sorted, shared_out
from zhichun.score.export.export_folder import OWN, SCALES, SIDE, STATES, THERE, GraphInputs, is_export
from zhichun.score.folders import model_folder
from zhichun.score.index.store import Block, Encoded, Precision, Shard, content_hashes
from zhichun.text.features import Featurizer, QueryFeatures
from zhichun.text.pairs import SECOND_START, Arrays, Columns, padded

_NOTHING: Final = np.zeros(0, np.int32)


class Asked(NamedTuple):
    """One query's tokens after the layers below the split, ``[M, D]``, and products with their side features."""

    own_MD: Floats
    block: Block
    side_BF: Floats


@dataclass(frozen=True, kw_only=True)
class SplitNetwork(ABC):
    """A network that reads query and product apart.

    Parameters
    ----------
    above
        The engine: of what is above the split, or of all.
    featurizer, max_length, task
        As of a `Scorer`.
    states
        Hash of the model whose states it makes.
    size
        Size of a state, ``S``.
    side
        The tables of the side features.
    """

    above: Engine
    featurizer: Featurizer
    max_length: int
    task: Task
    states: str
    size: int
    side: GraphInputs

    @property
    def streams(self) -> int:
        """Batches that are computed at the same time."""
        return self.above.streams

    @abstractmethod
    def lower(self, batches: Iterable[Sequence[Int32]], *, product: bool) -> Iterator[Sequence[Floats]]:
        """Send segments of one side through the layers below: states of products, ``[N, S]``, or ``[M, D]``."""

    @abstractmethod
    def upper(self, asked: Iterable[Asked]) -> Iterator[Floats]:
        """Score products for one query each time, as `Engine.run` does, in order."""

    def read(self, columns: Columns) -> Columns:
        """Keep texts as they are, by which products are found."""
        return columns

    def shard_of(self, columns: Columns, precision: Precision, progress: Callable[[int], None] | None = None) -> Shard:
        """Compute states and side features of some products."""
        products = self.featurizer.products(columns, self.max_length)
        tokens, layout = products.tokens, self.featurizer.tokenizer.layout
        segments = [layout.segments(_NOTHING, tokens[row], self.max_length)[1] for row in range(len(tokens))]
        states = self.apart(segments, product=True, progress=progress)
        joined_NS = np.concatenate([np.zeros((0, self.size), np.float32), *states])
        lengths_R = np.asarray([len(segment) for segment in segments], np.int64)
        means_RS = np.asarray([state_NS.mean(axis=0) for state_NS in states], np.float32).reshape(-1, self.size)
        side = self.side.parts(products.side(np.arange(len(tokens)))).values()
        side_RF = np.concatenate([np.zeros((len(tokens), 0), np.float32), *side], axis=1)
        return Shard(Encoded.of(joined_NS, precision), means_RS, side_RF, content_hashes(columns), lengths_R)

    def queries(self, queries: QueryFeatures, rows: Int64) -> list[Floats]:
        """Compute the vectors of queries' tokens after the layers below the split, ``[M, D]`` each."""
        tokens, layout = queries.tokens, self.featurizer.tokenizer.layout
        return self.apart([layout.segments(tokens[row], _NOTHING, self.max_length)[0] for row in rows], product=False)

    def apart(
        self, segments: Sequence[Int32], *, product: bool, progress: Callable[[int], None] | None = None
    ) -> list[Floats]:
        """Send any number of segments through the layers below; gives what `lower` does, in their order."""
        made = [np.zeros((0, 0), np.float32)] * len(segments)
        lengths = np.asarray([len(segment) for segment in segments], np.int64)
        most = shared_out(len(segments), self.streams, self.above.pairs_per_batch)
        plan = length_sorted(np.arange(len(segments)), lengths, self.above.tokens_per_batch, most)
        found = self.lower(([segments[row] for row in rows] for rows in plan), product=product)
        for rows, parts in zip(plan, found, strict=True):
            for row, part in zip(rows, parts, strict=True):
                made[row] = part
            if progress:
                progress(len(rows))
        return made


def reads_together(folder: Path) -> UserError:
    """Return the error for a model that is not split."""
    return UserError(
        "the model reads query and product together, so no product has states of its own.",
        file=folder,
        remedy="Train one with: zhichun train zhichun:fast, or --set model.interaction=Split",
    )


def load_network(run: Path, device: str | None, engine: str) -> SplitNetwork:
    """Load a run, by torch in fp32, or an export.

    Raises
    ------
    UserError
        When it does not read query and product apart, or has no such engine.
    """
    if is_export(run):
        from zhichun.score.export.exported import load_split

        return load_split(run, engine, device)
    if engine not in (AUTO, RUN_ENGINES[0]):
        raise UserError(
            f"an index of a run is not scored by the engine {engine!r}.",
            file=run,
            remedy="Leave --engine out, or name an export: zhichun export RUN --to openvino",
        )
    from zhichun.score.index.torch_network import TorchNetwork

    return TorchNetwork.load(model_folder(run), device)


@dataclass(frozen=True, kw_only=True)
class GraphNetwork(SplitNetwork):
    """The graphs of products' and of queries' lower layers, and of what is above, as engines."""

    product: Engine
    query: Engine

    def lower(self, batches: Iterable[Sequence[Int32]], *, product: bool) -> Iterator[Sequence[Floats]]:
        """Send padded segments through the layers below."""
        tokenizer, (given, waiting) = self.featurizer.tokenizer, tee(batches)
        arrays = (padded([(one, 0) for one in segments], tokenizer.layout, tokenizer.pad_id) for segments in given)
        for vectors_BTD in (self.product if product else self.query).run(arrays):
            yield [vectors_TD[: len(of)] for vectors_TD, of in zip(vectors_BTD, next(waiting), strict=True)]

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
        above, alike = network.above, ("name", "outputs", "streams", "reads_lists")
        return cls(network=network, **{name: getattr(above, name) for name in alike})

    def over_lists(self, vectors_BF: Floats, list_B: Int64) -> Floats:
        """Return the logits of whole lists, ``[B, C]``."""
        return self.network.above.over_lists(vectors_BF, list_B)

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
            Asked(own_MD, Block.of([states[row] for row in rows]), side_BF[rows])
            for own_MD, rows in zip(own, rows_of.values(), strict=True)
        )
        return in_order(map(np.asarray, rows_of.values()), network.upper(asked), len(states), self.outputs)
